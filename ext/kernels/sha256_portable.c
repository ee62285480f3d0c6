#include "kernels.h"

/* SHA-256 in plain C (FIPS 180-4, 6.2), and the round constants that every SHA-256 kernel reads. */

const uint32_t btfast_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

#define CH(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MAJ(x, y, z) (((x) & (y)) + ((z) & ((x) ^ (y))))
#define SIGMA0(x) (ror(x, 2) ^ ror(x, 13) ^ ror(x, 22))
#define SIGMA1(x) (ror(x, 6) ^ ror(x, 11) ^ ror(x, 25))
#define GAMMA0(x) (ror(x, 7) ^ ror(x, 18) ^ (x) >> 3)
#define GAMMA1(x) (ror(x, 17) ^ ror(x, 19) ^ (x) >> 10)

#define LOADED(i) (w[i] = big_endian(p + 4 * (i)))
#define SCHEDULED(i) (w[i] += GAMMA0(w[((i) + 1) & 15]) + w[((i) + 9) & 15] + GAMMA1(w[((i) + 14) & 15]))

#define ROUND(WORD, K, a, b, c, d, e, f, g, h)                                                                         \
    do {                                                                                                               \
        h += WORD + K + CH(e, f, g) + SIGMA1(e);                                                                       \
        d += h;                                                                                                        \
        h += MAJ(a, b, c) + SIGMA0(a);                                                                                 \
    } while (0)

#define EIGHT(WORD, i)                                                                                                 \
    ROUND(WORD(i), k[i], a, b, c, d, e, f, g, h);                                                                      \
    ROUND(WORD((i) + 1), k[(i) + 1], h, a, b, c, d, e, f, g);                                                          \
    ROUND(WORD((i) + 2), k[(i) + 2], g, h, a, b, c, d, e, f);                                                          \
    ROUND(WORD((i) + 3), k[(i) + 3], f, g, h, a, b, c, d, e);                                                          \
    ROUND(WORD((i) + 4), k[(i) + 4], e, f, g, h, a, b, c, d);                                                          \
    ROUND(WORD((i) + 5), k[(i) + 5], d, e, f, g, h, a, b, c);                                                          \
    ROUND(WORD((i) + 6), k[(i) + 6], c, d, e, f, g, h, a, b);                                                          \
    ROUND(WORD((i) + 7), k[(i) + 7], b, c, d, e, f, g, h, a)

void btfast_sha256_portable(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    const uint8_t *p = data[0];
    for (; blocks > 0; blocks--, p += 64) {
        const uint32_t *k = btfast_sha256_k;
        uint32_t w[16];
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        EIGHT(LOADED, 0);
        EIGHT(LOADED, 8);
        for (k += 16; k < btfast_sha256_k + 64; k += 16) {
            EIGHT(SCHEDULED, 0);
            EIGHT(SCHEDULED, 8);
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}
