#include <immintrin.h>

#include "kernels.h"

/* SHA-256 by the x86 SHA extensions, on one message or on two side by side (see sha1_shani.c). The instructions want
 * the chaining value as two registers, a b e f and c d g h; each sha256rnds2 makes the next a b e f in the place of
 * c d g h, so that the two change names every two rounds. */

#define EACH for (int s = 0; s < streams; s++)

#define ROUNDS(g)                                                                                                      \
    EACH {                                                                                                             \
        const void *k = btfast_sha256_k + 4 * (g);                                                                     \
        __m128i wk = _mm_add_epi32(m[s][(g) & 3], _mm_loadu_si128((const __m128i *)k));                                \
        cdgh[s] = _mm_sha256rnds2_epu32(cdgh[s], abef[s], wk);                                                         \
        abef[s] = _mm_sha256rnds2_epu32(abef[s], cdgh[s], _mm_shuffle_epi32(wk, 0x0e));                                \
    }

/* Words 4g+16..4g+19 take the place of words 4g..4g+3. */
#define SCHEDULE(g)                                                                                                    \
    EACH {                                                                                                             \
        __m128i x = _mm_sha256msg1_epu32(m[s][(g) & 3], m[s][((g) + 1) & 3]);                                          \
        x = _mm_add_epi32(x, _mm_alignr_epi8(m[s][((g) + 3) & 3], m[s][((g) + 2) & 3], 4));                            \
        m[s][(g) & 3] = _mm_sha256msg2_epu32(x, m[s][((g) + 3) & 3]);                                                  \
    }

#define STEP(g) ROUNDS(g) SCHEDULE(g)

static inline __attribute__((always_inline)) void compress(uint32_t *state, const uint8_t *const *data, size_t blocks,
                                                           const int streams)
{
    const __m128i swap = _mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    __m128i abef[2], cdgh[2];
    EACH {
        __m128i *h = (__m128i *)(void *)(state + 8 * s);
        __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(h), 0xb1);
        __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(h + 1), 0x1b);
        abef[s] = _mm_alignr_epi8(badc, hgfe, 8);
        cdgh[s] = _mm_blend_epi16(hgfe, badc, 0xf0);
    }
    for (size_t offset = 0; offset < blocks * 64; offset += 64) {
        __m128i m[2][4], abef_start[2], cdgh_start[2];
        EACH {
            for (int i = 0; i < 4; i++) {
                const void *p = data[s] + offset + 16 * i;
                m[s][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), swap);
            }
            abef_start[s] = abef[s];
            cdgh_start[s] = cdgh[s];
        }
        STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
        STEP(8) STEP(9) STEP(10) STEP(11)
        ROUNDS(12) ROUNDS(13) ROUNDS(14) ROUNDS(15)
        EACH {
            abef[s] = _mm_add_epi32(abef[s], abef_start[s]);
            cdgh[s] = _mm_add_epi32(cdgh[s], cdgh_start[s]);
        }
    }
    EACH {
        __m128i *h = (__m128i *)(void *)(state + 8 * s);
        __m128i abef_reversed = _mm_shuffle_epi32(abef[s], 0x1b);
        __m128i cdgh_swapped = _mm_shuffle_epi32(cdgh[s], 0xb1);
        _mm_storeu_si128(h, _mm_blend_epi16(abef_reversed, cdgh_swapped, 0xf0));
        _mm_storeu_si128(h + 1, _mm_alignr_epi8(cdgh_swapped, abef_reversed, 8));
    }
}

void btfast_sha256_shani(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 1);
}

void btfast_sha256_shani_pair(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    compress(state, data, blocks, 2);
}
