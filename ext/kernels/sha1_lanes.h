/* SHA-1 with one message a vector lane. The includer defines the vector type V and the operations LANES, LOADV, STOREV,
 * SET1, ADD, XOR, ROL, CH, PARITY, MAJ, XOR3, BARRIER, transpose_block(), and calls sha1_lanes().
 *
 * What bounds the kernel is the chain from one round to the next, rol(a, 5) and one addition. Everything else of a
 * round is summed before; left alone, GCC regroups the sums and makes the chain longer (8.3 instead of 9.0 GiB/s). */
#ifndef BTFAST_SHA1_LANES_H
#define BTFAST_SHA1_LANES_H

#define SHA1_MIXED(i) XOR(XOR3(w[((i) + 13) & 15], w[((i) + 8) & 15], w[((i) + 2) & 15]), w[(i) & 15])
#define SHA1_WORD(i) ((i) < 16 ? w[(i) & 15] : (w[(i) & 15] = ROL(SHA1_MIXED(i), 1)))

#define SHA1_ROUND(F, K, i, a, b, c, d, e)                                                                             \
    do {                                                                                                               \
        e = ADD(e, ADD(SHA1_WORD(i), K));                                                                              \
        BARRIER(e);                                                                                                    \
        e = ADD(e, F(b, c, d));                                                                                        \
        BARRIER(e);                                                                                                    \
        e = ADD(e, ROL(a, 5));                                                                                         \
        b = ROL(b, 30);                                                                                                \
    } while (0)

#define SHA1_FIVE(F, K, i)                                                                                             \
    SHA1_ROUND(F, K, (i), a, b, c, d, e);                                                                              \
    SHA1_ROUND(F, K, (i) + 1, e, a, b, c, d);                                                                          \
    SHA1_ROUND(F, K, (i) + 2, d, e, a, b, c);                                                                          \
    SHA1_ROUND(F, K, (i) + 3, c, d, e, a, b);                                                                          \
    SHA1_ROUND(F, K, (i) + 4, b, c, d, e, a)

#define SHA1_TWENTY(F, K, i)                                                                                           \
    do {                                                                                                               \
        const V k = SET1(K);                                                                                           \
        SHA1_FIVE(F, k, i);                                                                                            \
        SHA1_FIVE(F, k, (i) + 5);                                                                                      \
        SHA1_FIVE(F, k, (i) + 10);                                                                                     \
        SHA1_FIVE(F, k, (i) + 15);                                                                                     \
    } while (0)

static inline __attribute__((always_inline)) void sha1_lanes(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    V ha = LOADV(state), hb = LOADV(state + LANES), hc = LOADV(state + 2 * LANES), hd = LOADV(state + 3 * LANES),
      he = LOADV(state + 4 * LANES);
    for (size_t offset = 0; offset < blocks * 64; offset += 64) {
        V w[16];
        V a = ha, b = hb, c = hc, d = hd, e = he;
        transpose_block(w, data, offset);
        SHA1_TWENTY(CH, 0x5a827999, 0);
        SHA1_TWENTY(PARITY, 0x6ed9eba1, 20);
        SHA1_TWENTY(MAJ, 0x8f1bbcdc, 40);
        SHA1_TWENTY(PARITY, 0xca62c1d6, 60);
        ha = ADD(ha, a);
        hb = ADD(hb, b);
        hc = ADD(hc, c);
        hd = ADD(hd, d);
        he = ADD(he, e);
    }
    STOREV(state, ha);
    STOREV(state + LANES, hb);
    STOREV(state + 2 * LANES, hc);
    STOREV(state + 3 * LANES, hd);
    STOREV(state + 4 * LANES, he);
}

#endif
