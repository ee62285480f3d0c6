/* Sixteen 32-bit lanes in a 512-bit register, for sha1_lanes.h and sha256_lanes.h. */
#ifndef BTFAST_LANES_AVX512_H
#define BTFAST_LANES_AVX512_H

#include <immintrin.h>

#include "kernels.h"

typedef __m512i V;
enum { LANES = 16 };

#define LOADV(p) _mm512_loadu_si512(p)
#define STOREV(p, x) _mm512_storeu_si512(p, x)
#define SET1(k) _mm512_set1_epi32((int)(k))
#define ADD(x, y) _mm512_add_epi32(x, y)
#define XOR(x, y) _mm512_xor_si512(x, y)
#define ROL(x, n) _mm512_rol_epi32(x, n)
#define ROR(x, n) _mm512_ror_epi32(x, n)
#define SHR(x, n) _mm512_srli_epi32(x, n)
/* Truth tables: x chooses y or z; odd number of ones; at least two ones. */
#define CH(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define PARITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define MAJ(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define XOR3(x, y, z) PARITY(x, y, z)
/* Keeps the compiler from regrouping the sums around it. */
#define BARRIER(x) __asm__("" : "+v"(x))

/* Eight blocks: 0, 256, 512 and 1024 bytes gave 7.6, 8.7, 9.0 and 8.8 GiB/s of SHA-1 from memory (Zen 5, AVX-512). */
#define PREFETCH_AHEAD 512

/* w[i] = big-endian word i of the block at `offset` of each lane: a 16x16 transposition of 32-bit words. Pairs of rows
 * are interleaved inside the 128-bit quarters, then the quarters change places. */
static inline __attribute__((always_inline)) void transpose_block(V w[16], const uint8_t *const *data, size_t offset)
{
    const V swap = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    V t[16];
    for (int i = 0; i < 16; i++) {
        w[i] = LOADV(data[i] + offset);
        _mm_prefetch((const char *)data[i] + offset + PREFETCH_AHEAD, _MM_HINT_T0);
    }
    for (int i = 0; i < 16; i += 4) {
        V p = _mm512_unpacklo_epi32(w[i], w[i + 1]), q = _mm512_unpackhi_epi32(w[i], w[i + 1]);
        V r = _mm512_unpacklo_epi32(w[i + 2], w[i + 3]), s = _mm512_unpackhi_epi32(w[i + 2], w[i + 3]);
        t[i] = _mm512_shuffle_epi8(_mm512_unpacklo_epi64(p, r), swap);
        t[i + 1] = _mm512_shuffle_epi8(_mm512_unpackhi_epi64(p, r), swap);
        t[i + 2] = _mm512_shuffle_epi8(_mm512_unpacklo_epi64(q, s), swap);
        t[i + 3] = _mm512_shuffle_epi8(_mm512_unpackhi_epi64(q, s), swap);
    }
    for (int i = 0; i < 4; i++) {
        V even_low = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), odd_low = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        V even_high = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
        V odd_high = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        w[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        w[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        w[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        w[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

#endif
