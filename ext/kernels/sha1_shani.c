#include <immintrin.h>

#include "kernels.h"

/* SHA-1 by the x86 SHA extensions, on one message or on two side by side: sha1rnds4 takes longer to finish than to
 * issue, and a second message fills the gaps. */

#define EACH for (int s = 0; s < streams; s++)

/* Rounds 4g..4g+3. `before` holds the a of the previous group, from which sha1nexte makes this group's e. */
#define ROUNDS(g)                                                                                                      \
    EACH {                                                                                                             \
        __m128i e = (g) == 0 ? _mm_add_epi32(e_start[s], m[s][0]) : _mm_sha1nexte_epu32(before[s], m[s][(g) & 3]);     \
        before[s] = abcd[s];                                                                                           \
        abcd[s] = _mm_sha1rnds4_epu32(abcd[s], e, (g) / 5);                                                            \
    }

/* Words 4g+16..4g+19 take the place of words 4g..4g+3. */
#define SCHEDULE(g)                                                                                                    \
    EACH {                                                                                                             \
        __m128i x = _mm_sha1msg1_epu32(m[s][(g) & 3], m[s][((g) + 1) & 3]);                                            \
        m[s][(g) & 3] = _mm_sha1msg2_epu32(_mm_xor_si128(x, m[s][((g) + 2) & 3]), m[s][((g) + 3) & 3]);                \
    }

#define STEP(g) ROUNDS(g) SCHEDULE(g)

static inline __attribute__((always_inline)) void compress(uint32_t *state, const uint8_t *const *data, size_t blocks,
                                                           const int streams)
{
    const __m128i reverse = _mm_set_epi32(0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f);
    __m128i abcd[2], e_start[2];
    EACH {
        abcd[s] = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 8 * s)), 0x1b);
        e_start[s] = _mm_set_epi32((int)state[8 * s + 4], 0, 0, 0);
    }
    for (size_t offset = 0; offset < blocks * 64; offset += 64) {
        __m128i m[2][4], before[2], abcd_start[2];
        EACH {
            for (int i = 0; i < 4; i++) {
                const void *p = data[s] + offset + 16 * i;
                m[s][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), reverse);
            }
            abcd_start[s] = before[s] = abcd[s];
        }
        STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
        STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13) STEP(14) STEP(15)
        ROUNDS(16) ROUNDS(17) ROUNDS(18) ROUNDS(19)
        EACH {
            e_start[s] = _mm_sha1nexte_epu32(before[s], e_start[s]);
            abcd[s] = _mm_add_epi32(abcd[s], abcd_start[s]);
        }
    }
    EACH {
        _mm_storeu_si128((__m128i *)(void *)(state + 8 * s), _mm_shuffle_epi32(abcd[s], 0x1b));
        state[8 * s + 4] = (uint32_t)_mm_extract_epi32(e_start[s], 3);
    }
}

void btfast_sha1_shani(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 1);
}

void btfast_sha1_shani_pair(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 2);
}
