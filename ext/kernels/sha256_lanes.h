/* SHA-256 with one message a vector lane. The includer defines what sha1_lanes.h asks for, and ROR, SHR.
 *
 * As in sha1_lanes.h, what does not wait for the previous round is summed first, sigma(e) last. */
#ifndef BTFAST_SHA256_LANES_H
#define BTFAST_SHA256_LANES_H

#define SHA256_SIGMA0(x) XOR3(ROR(x, 2), ROR(x, 13), ROR(x, 22))
#define SHA256_SIGMA1(x) XOR3(ROR(x, 6), ROR(x, 11), ROR(x, 25))
#define SHA256_GAMMA0(x) XOR3(ROR(x, 7), ROR(x, 18), SHR(x, 3))
#define SHA256_GAMMA1(x) XOR3(ROR(x, 17), ROR(x, 19), SHR(x, 10))

#define SHA256_MIXED(i) ADD(w[((i) + 9) & 15], SHA256_GAMMA1(w[((i) + 14) & 15]))
#define SHA256_SCHEDULE(i) (w[(i)] = ADD(ADD(w[(i)], SHA256_GAMMA0(w[((i) + 1) & 15])), SHA256_MIXED(i)))

#define SHA256_ROUND(WORD, i, a, b, c, d, e, f, g, h)                                                                  \
    do {                                                                                                               \
        h = ADD(h, ADD(WORD, SET1((int)k[i])));                                                                        \
        BARRIER(h);                                                                                                    \
        h = ADD(h, CH(e, f, g));                                                                                       \
        BARRIER(h);                                                                                                    \
        h = ADD(h, SHA256_SIGMA1(e));                                                                                  \
        d = ADD(d, h);                                                                                                 \
        h = ADD(h, ADD(MAJ(a, b, c), SHA256_SIGMA0(a)));                                                               \
    } while (0)

#define SHA256_EIGHT(WORD, i)                                                                                          \
    SHA256_ROUND(WORD(i), (i), a, b, c, d, e, f, g, h);                                                                \
    SHA256_ROUND(WORD((i) + 1), (i) + 1, h, a, b, c, d, e, f, g);                                                      \
    SHA256_ROUND(WORD((i) + 2), (i) + 2, g, h, a, b, c, d, e, f);                                                      \
    SHA256_ROUND(WORD((i) + 3), (i) + 3, f, g, h, a, b, c, d, e);                                                      \
    SHA256_ROUND(WORD((i) + 4), (i) + 4, e, f, g, h, a, b, c, d);                                                      \
    SHA256_ROUND(WORD((i) + 5), (i) + 5, d, e, f, g, h, a, b, c);                                                      \
    SHA256_ROUND(WORD((i) + 6), (i) + 6, c, d, e, f, g, h, a, b);                                                      \
    SHA256_ROUND(WORD((i) + 7), (i) + 7, b, c, d, e, f, g, h, a)

#define SHA256_LOADED(i) w[i]

static inline __attribute__((always_inline)) void sha256_lanes(uint32_t *state, const uint8_t *const *data,
                                                               size_t blocks)
{
    V s[8];
    for (int i = 0; i < 8; i++)
        s[i] = LOADV(state + i * LANES);
    for (size_t offset = 0; offset < blocks * 64; offset += 64) {
        V w[16];
        V a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        const uint32_t *k = btfast_sha256_k;
        transpose_block(w, data, offset);
        SHA256_EIGHT(SHA256_LOADED, 0);
        SHA256_EIGHT(SHA256_LOADED, 8);
        for (k += 16; k < btfast_sha256_k + 64; k += 16) {
            SHA256_EIGHT(SHA256_SCHEDULE, 0);
            SHA256_EIGHT(SHA256_SCHEDULE, 8);
        }
        s[0] = ADD(s[0], a);
        s[1] = ADD(s[1], b);
        s[2] = ADD(s[2], c);
        s[3] = ADD(s[3], d);
        s[4] = ADD(s[4], e);
        s[5] = ADD(s[5], f);
        s[6] = ADD(s[6], g);
        s[7] = ADD(s[7], h);
    }
    for (int i = 0; i < 8; i++)
        STOREV(state + i * LANES, s[i]);
}

#endif
