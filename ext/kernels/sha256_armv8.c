#include <arm_neon.h>

#include "kernels.h"

/* SHA-256 by the ARMv8 crypto extension, on one message or on two side by side (see sha1_armv8.c). */

#define EACH for (int s = 0; s < streams; s++)

#define ROUNDS(g)                                                                                                      \
    EACH {                                                                                                             \
        uint32x4_t wk = vaddq_u32(m[s][(g) & 3], vld1q_u32(btfast_sha256_k + 4 * (g)));                                \
        uint32x4_t before = abcd[s];                                                                                   \
        abcd[s] = vsha256hq_u32(abcd[s], efgh[s], wk);                                                                 \
        efgh[s] = vsha256h2q_u32(efgh[s], before, wk);                                                                 \
    }

/* Words 4g+16..4g+19 take the place of words 4g..4g+3. */
#define SCHEDULE(g)                                                                                                    \
    EACH {                                                                                                             \
        uint32x4_t x = vsha256su0q_u32(m[s][(g) & 3], m[s][((g) + 1) & 3]);                                            \
        m[s][(g) & 3] = vsha256su1q_u32(x, m[s][((g) + 2) & 3], m[s][((g) + 3) & 3]);                                  \
    }

#define STEP(g) ROUNDS(g) SCHEDULE(g)

static inline __attribute__((always_inline)) void compress(uint32_t *state, const uint8_t *const *data, size_t blocks,
                                                           const int streams)
{
    uint32x4_t abcd[2], efgh[2];
    EACH {
        abcd[s] = vld1q_u32(state + 8 * s);
        efgh[s] = vld1q_u32(state + 8 * s + 4);
    }
    for (size_t offset = 0; offset < blocks * 64; offset += 64) {
        uint32x4_t m[2][4], abcd_start[2], efgh_start[2];
        EACH {
            for (int i = 0; i < 4; i++)
                m[s][i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data[s] + offset + 16 * i)));
            abcd_start[s] = abcd[s];
            efgh_start[s] = efgh[s];
        }
        STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
        STEP(8) STEP(9) STEP(10) STEP(11)
        ROUNDS(12) ROUNDS(13) ROUNDS(14) ROUNDS(15)
        EACH {
            abcd[s] = vaddq_u32(abcd[s], abcd_start[s]);
            efgh[s] = vaddq_u32(efgh[s], efgh_start[s]);
        }
    }
    EACH {
        vst1q_u32(state + 8 * s, abcd[s]);
        vst1q_u32(state + 8 * s + 4, efgh[s]);
    }
}

void btfast_sha256_armv8(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 1);
}

void btfast_sha256_armv8_pair(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 2);
}
