/* Eight 32-bit lanes in a 256-bit register, for sha1_lanes.h and sha256_lanes.h. */
#ifndef BTFAST_LANES_AVX2_H
#define BTFAST_LANES_AVX2_H

#include <immintrin.h>

#include "kernels.h"

typedef __m256i V;
enum { LANES = 8 };

#define LOADV(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STOREV(p, x) _mm256_storeu_si256((__m256i *)(void *)(p), x)
#define SET1(k) _mm256_set1_epi32((int)(k))
#define ADD(x, y) _mm256_add_epi32(x, y)
#define XOR(x, y) _mm256_xor_si256(x, y)
#define AND(x, y) _mm256_and_si256(x, y)
#define SHL(x, n) _mm256_slli_epi32(x, n)
#define SHR(x, n) _mm256_srli_epi32(x, n)
#define ROL(x, n) _mm256_or_si256(SHL(x, n), SHR(x, 32 - (n)))
#define ROR(x, n) _mm256_or_si256(SHR(x, n), SHL(x, 32 - (n)))
#define CH(x, y, z) XOR(z, AND(x, XOR(y, z)))
#define PARITY(x, y, z) XOR(x, XOR(y, z))
#define MAJ(x, y, z) XOR(AND(XOR(x, y), XOR(y, z)), y)
#define XOR3(x, y, z) PARITY(x, y, z)
/* Keeps the compiler from regrouping the sums around it. */
#define BARRIER(x) __asm__("" : "+x"(x))

#define PREFETCH_AHEAD 512

/* Half a block of each lane: w[i] = big-endian word i of the 32 bytes at `offset`, an 8x8 transposition. */
static inline __attribute__((always_inline)) void transpose_half(V w[8], const uint8_t *const *data, size_t offset)
{
    const V swap = _mm256_broadcastsi128_si256(_mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203));
    V t[8];
    for (int i = 0; i < 8; i += 4) {
        V x0 = LOADV(data[i] + offset), x1 = LOADV(data[i + 1] + offset);
        V x2 = LOADV(data[i + 2] + offset), x3 = LOADV(data[i + 3] + offset);
        V p = _mm256_unpacklo_epi32(x0, x1), q = _mm256_unpackhi_epi32(x0, x1);
        V r = _mm256_unpacklo_epi32(x2, x3), s = _mm256_unpackhi_epi32(x2, x3);
        t[i] = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(p, r), swap);
        t[i + 1] = _mm256_shuffle_epi8(_mm256_unpackhi_epi64(p, r), swap);
        t[i + 2] = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(q, s), swap);
        t[i + 3] = _mm256_shuffle_epi8(_mm256_unpackhi_epi64(q, s), swap);
    }
    for (int i = 0; i < 4; i++) {
        w[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
        w[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
    }
}

static inline __attribute__((always_inline)) void transpose_block(V w[16], const uint8_t *const *data, size_t offset)
{
    for (int i = 0; i < 8; i++)
        _mm_prefetch((const char *)data[i] + offset + PREFETCH_AHEAD, _MM_HINT_T0);
    transpose_half(w, data, offset);
    transpose_half(w + 8, data, offset + 32);
}

#endif
