#include "kernels.h"

/* SHA-1 in plain C (FIPS 180-4, 6.1), for a CPU with none of the instruction sets that the other files want. */

static uint32_t rol(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

#define CH(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define PARITY(x, y, z) ((x) ^ (y) ^ (z))
#define MAJ(x, y, z) (((x) & (y)) + ((z) & ((x) ^ (y))))

#define LOADED(i) (w[(i) & 15] = big_endian(p + 4 * (i)))
#define SCHEDULED(i)                                                                                                   \
    (w[(i) & 15] = rol(w[((i) + 13) & 15] ^ w[((i) + 8) & 15] ^ w[((i) + 2) & 15] ^ w[(i) & 15], 1))

#define ROUND(F, WORD, K, a, b, c, d, e)                                                                               \
    do {                                                                                                               \
        e += WORD + K + F(b, c, d);                                                                                    \
        e += rol(a, 5);                                                                                                \
        b = rol(b, 30);                                                                                                \
    } while (0)

#define FIVE(F, WORD, K, i)                                                                                            \
    ROUND(F, WORD(i), K, a, b, c, d, e);                                                                               \
    ROUND(F, WORD((i) + 1), K, e, a, b, c, d);                                                                         \
    ROUND(F, WORD((i) + 2), K, d, e, a, b, c);                                                                         \
    ROUND(F, WORD((i) + 3), K, c, d, e, a, b);                                                                         \
    ROUND(F, WORD((i) + 4), K, b, c, d, e, a)

#define TWENTY(F, K, i)                                                                                                \
    FIVE(F, SCHEDULED, K, i);                                                                                          \
    FIVE(F, SCHEDULED, K, (i) + 5);                                                                                    \
    FIVE(F, SCHEDULED, K, (i) + 10);                                                                                   \
    FIVE(F, SCHEDULED, K, (i) + 15)

void btfast_sha1_portable(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    const uint8_t *p = data[0];
    for (; blocks > 0; blocks--, p += 64) {
        uint32_t w[16];
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        FIVE(CH, LOADED, 0x5a827999u, 0);
        FIVE(CH, LOADED, 0x5a827999u, 5);
        FIVE(CH, LOADED, 0x5a827999u, 10);
        ROUND(CH, LOADED(15), 0x5a827999u, a, b, c, d, e);
        ROUND(CH, SCHEDULED(16), 0x5a827999u, e, a, b, c, d);
        ROUND(CH, SCHEDULED(17), 0x5a827999u, d, e, a, b, c);
        ROUND(CH, SCHEDULED(18), 0x5a827999u, c, d, e, a, b);
        ROUND(CH, SCHEDULED(19), 0x5a827999u, b, c, d, e, a);
        TWENTY(PARITY, 0x6ed9eba1u, 20);
        TWENTY(MAJ, 0x8f1bbcdcu, 40);
        TWENTY(PARITY, 0xca62c1d6u, 60);
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
    }
}
