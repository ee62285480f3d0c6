#include <arm_neon.h>

#include "kernels.h"

/* SHA-1 by the ARMv8 crypto extension, on one message or on two side by side: sha1c and its kin take longer to finish
 * than to issue, and a second message fills the gaps. */

#define EACH for (int s = 0; s < streams; s++)

/* Rounds 4g..4g+3 with round function OP (vsha1cq_u32, vsha1pq_u32 or vsha1mq_u32); sha1h makes the next group's e
 * from this group's a. */
#define ROUNDS(g, OP)                                                                                                  \
    EACH {                                                                                                             \
        uint32x4_t wk = vaddq_u32(m[s][(g) & 3], k[(g) / 5]);                                                          \
        uint32_t next = vsha1h_u32(vgetq_lane_u32(abcd[s], 0));                                                        \
        abcd[s] = OP(abcd[s], e[s], wk);                                                                               \
        e[s] = next;                                                                                                   \
    }

/* Words 4g+16..4g+19 take the place of words 4g..4g+3. */
#define SCHEDULE(g)                                                                                                    \
    EACH {                                                                                                             \
        uint32x4_t x = vsha1su0q_u32(m[s][(g) & 3], m[s][((g) + 1) & 3], m[s][((g) + 2) & 3]);                         \
        m[s][(g) & 3] = vsha1su1q_u32(x, m[s][((g) + 3) & 3]);                                                         \
    }

#define STEP(g, OP) ROUNDS(g, OP) SCHEDULE(g)

static inline __attribute__((always_inline)) void compress(uint32_t *state, const uint8_t *const *data, size_t blocks,
                                                           const int streams)
{
    const uint32x4_t k[4] = {vdupq_n_u32(0x5a827999), vdupq_n_u32(0x6ed9eba1), vdupq_n_u32(0x8f1bbcdc),
                             vdupq_n_u32(0xca62c1d6)};
    uint32x4_t abcd[2];
    uint32_t e[2];
    EACH {
        abcd[s] = vld1q_u32(state + 8 * s);
        e[s] = state[8 * s + 4];
    }
    for (size_t offset = 0; offset < blocks * 64; offset += 64) {
        uint32x4_t m[2][4], abcd_start[2];
        uint32_t e_start[2];
        EACH {
            for (int i = 0; i < 4; i++)
                m[s][i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data[s] + offset + 16 * i)));
            abcd_start[s] = abcd[s];
            e_start[s] = e[s];
        }
        STEP(0, vsha1cq_u32) STEP(1, vsha1cq_u32) STEP(2, vsha1cq_u32) STEP(3, vsha1cq_u32) STEP(4, vsha1cq_u32)
        STEP(5, vsha1pq_u32) STEP(6, vsha1pq_u32) STEP(7, vsha1pq_u32) STEP(8, vsha1pq_u32) STEP(9, vsha1pq_u32)
        STEP(10, vsha1mq_u32) STEP(11, vsha1mq_u32) STEP(12, vsha1mq_u32) STEP(13, vsha1mq_u32) STEP(14, vsha1mq_u32)
        STEP(15, vsha1pq_u32)
        ROUNDS(16, vsha1pq_u32) ROUNDS(17, vsha1pq_u32) ROUNDS(18, vsha1pq_u32) ROUNDS(19, vsha1pq_u32)
        EACH {
            abcd[s] = vaddq_u32(abcd[s], abcd_start[s]);
            e[s] += e_start[s];
        }
    }
    EACH {
        vst1q_u32(state + 8 * s, abcd[s]);
        state[8 * s + 4] = e[s];
    }
}

void btfast_sha1_armv8(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 1);
}

void btfast_sha1_armv8_pair(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 2);
}
