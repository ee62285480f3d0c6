/* The responder of an MSE handshake for the cheap seed, which knows one torrent: Diffie-Hellman over 768 bits, SHA-1 of
 * short messages, RC4 (the kernel of btfast, so that the seed costs as little as it can). Always selects RC4. */
#ifndef BENCH_MSE_H
#define BENCH_MSE_H

#include "common.h"
#include "rc4.h"

#define LIMBS 12
#define MSE_KEY 96u
#define MSE_PADDING 512u

typedef unsigned __int128 u128;

/* The prime, lowest limb first. */
static const uint64_t mse_prime[LIMBS] = {
    0x0000000000090563, 0xf44c42e9a63a3621, 0xe485b576625e7ec6, 0x4fe1356d6d51c245, 0x302b0a6df25f1437, 0xef9519b3cd3a431b,
    0x514a08798e3404dd, 0x020bbea63b139b22, 0x29024e088a67cc74, 0xc4c6628b80dc1cd1, 0xc90fdaa22168c234, 0xffffffffffffffff,
};

static inline int mse_reaches_prime(const uint64_t *a)
{
    for (int i = LIMBS - 1; i >= 0; i--)
        if (a[i] != mse_prime[i])
            return a[i] > mse_prime[i];
    return 1;
}

/* a -= prime, when a (with CARRY above it) is not below it. */
static inline void mse_reduce(uint64_t *a, uint64_t carry)
{
    if (!carry && !mse_reaches_prime(a))
        return;
    uint64_t borrow = 0;
    for (int i = 0; i < LIMBS; i++) {
        u128 difference = (u128)a[i] - mse_prime[i] - borrow;
        a[i] = (uint64_t)difference;
        borrow = (uint64_t)(difference >> 64) & 1;
    }
}

/* result = a * b / 2^768 mod prime (Montgomery). */
static inline void mse_multiply(uint64_t *result, const uint64_t *a, const uint64_t *b)
{
    uint64_t inverse = 1, t[LIMBS + 2] = {0};
    for (int i = 0; i < 6; i++)
        inverse *= 2 - mse_prime[0] * inverse;
    for (int i = 0; i < LIMBS; i++) {
        u128 sum = 0;
        for (int j = 0; j < LIMBS; j++) {
            sum += (u128)a[j] * b[i] + t[j];
            t[j] = (uint64_t)sum;
            sum >>= 64;
        }
        sum += t[LIMBS];
        t[LIMBS] = (uint64_t)sum;
        t[LIMBS + 1] = (uint64_t)(sum >> 64);
        uint64_t m = t[0] * (0 - inverse);
        sum = ((u128)m * mse_prime[0] + t[0]) >> 64;
        for (int j = 1; j < LIMBS; j++) {
            sum += (u128)m * mse_prime[j] + t[j];
            t[j - 1] = (uint64_t)sum;
            sum >>= 64;
        }
        sum += t[LIMBS];
        t[LIMBS - 1] = (uint64_t)sum;
        t[LIMBS] = t[LIMBS + 1] + (uint64_t)(sum >> 64);
    }
    mse_reduce(t, t[LIMBS]);
    memcpy(result, t, LIMBS * sizeof *t);
}

/* result = base ^ exponent mod prime; base and result 96 bytes, the exponent 20, the high byte first. */
static inline void mse_power(uint8_t *result, const uint8_t *base, const uint8_t *exponent)
{
    uint64_t one[LIMBS] = {1}, square[LIMBS] = {1}, b[LIMBS], r[LIMBS];
    for (int i = 0; i < 2 * 64 * LIMBS; i++) { /* 2^1536 mod prime, by doubling */
        uint64_t carry = square[LIMBS - 1] >> 63;
        for (int j = LIMBS - 1; j > 0; j--)
            square[j] = square[j] << 1 | square[j - 1] >> 63;
        square[0] <<= 1;
        mse_reduce(square, carry);
    }
    for (int i = 0; i < LIMBS; i++) {
        b[i] = 0;
        for (int j = 0; j < 8; j++)
            b[i] |= (uint64_t)base[MSE_KEY - 1 - 8 * i - j] << (8 * j);
    }
    mse_reduce(b, 0);
    mse_multiply(b, b, square);
    mse_multiply(r, one, square);
    for (int i = 0; i < 160; i++) {
        mse_multiply(r, r, r);
        if (exponent[i / 8] >> (7 - i % 8) & 1)
            mse_multiply(r, r, b);
    }
    mse_multiply(r, r, one);
    for (int i = 0; i < LIMBS; i++)
        for (int j = 0; j < 8; j++)
            result[MSE_KEY - 1 - 8 * i - j] = (uint8_t)(r[i] >> (8 * j));
}

static inline uint32_t mse_roll(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

/* SHA-1 of WORD (four letters), then A, then B; at most 183 bytes in all. */
static inline void mse_hash(uint8_t *digest, const char *word, const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length)
{
    uint8_t text[192] = {0};
    size_t length = 4 + a_length + b_length, end = (length + 9 + 63) / 64 * 64;
    memcpy(text, word, 4);
    memcpy(text + 4, a, a_length);
    if (b_length)
        memcpy(text + 4 + a_length, b, b_length);
    text[length] = 0x80;
    store_u32(text + end - 4, (uint32_t)(8 * length));
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    for (size_t at = 0; at < end; at += 64) {
        uint32_t w[80], v[5];
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 80; i++) {
            w[i] = i < 16 ? load_u32(text + at + 4 * i) : mse_roll(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
            uint32_t f = i < 20   ? (v[1] & v[2]) | (~v[1] & v[3])
                         : i < 40 ? v[1] ^ v[2] ^ v[3]
                         : i < 60 ? (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])
                                  : v[1] ^ v[2] ^ v[3];
            static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
            uint32_t sum = mse_roll(v[0], 5) + f + v[4] + k[i / 20] + w[i];
            v[4] = v[3];
            v[3] = v[2];
            v[2] = mse_roll(v[1], 30);
            v[1] = v[0];
            v[0] = sum;
        }
        for (int i = 0; i < 5; i++)
            h[i] += v[i];
    }
    for (int i = 0; i < 5; i++)
        store_u32(digest + 4 * i, h[i]);
}

struct mse {
    int keyed, done;
    uint8_t secret[MSE_KEY];
    struct rc4_state in, out;
};

static inline void mse_cipher(struct rc4_state *state, const char *word, const uint8_t *secret, const uint8_t *info_hash)
{
    uint8_t key[20];
    mse_hash(key, word, secret, MSE_KEY, info_hash, 20);
    rc4_set_key(state, key, 20);
    rc4_skip(state, 1024);
}

/* What has come so far is in INPUT, LENGTH bytes. Returns how many bytes of answer it has put into ANSWER (room for 128),
 * or -1 when this is no MSE or another torrent. When `done` is set, INPUT holds plain text and *LENGTH says how much. */
static inline int mse_answer(struct mse *mse, uint8_t *input, size_t *length, const uint8_t *info_hash, uint8_t *answer)
{
    static uint8_t private_key[20], generator[MSE_KEY];
    int answered = 0;
    if (*length < MSE_KEY)
        return 0;
    if (!mse->keyed) {
        if (!generator[MSE_KEY - 1]) {
            int random = open("/dev/urandom", O_RDONLY);
            if (random < 0 || read(random, private_key, sizeof private_key) != sizeof private_key)
                die("/dev/urandom");
            close(random);
            generator[MSE_KEY - 1] = 2;
        }
        mse_power(answer, generator, private_key);
        mse_power(mse->secret, input, private_key);
        mse->keyed = 1;
        answered = MSE_KEY;
    }
    uint8_t mark[20], named[20], hidden[20];
    mse_hash(mark, "req1", mse->secret, MSE_KEY, NULL, 0);
    uint8_t *found = memmem(input + MSE_KEY, *length - MSE_KEY, mark, 20);
    if (!found)
        return *length > MSE_KEY + MSE_PADDING + 20 ? -1 : answered;
    uint8_t *at = found + 20, *end = input + *length;
    if (end - at < 34)
        return answered;
    mse_hash(named, "req2", info_hash, 20, NULL, 0);
    mse_hash(hidden, "req3", mse->secret, MSE_KEY, NULL, 0);
    for (int i = 0; i < 20; i++)
        if ((at[i] ^ hidden[i]) != named[i])
            return -1;
    mse_cipher(&mse->in, "keyA", mse->secret, info_hash);
    mse_cipher(&mse->out, "keyB", mse->secret, info_hash);
    struct rc4_state look = mse->in; /* the whole of it may not be here yet */
    uint8_t head[14], pad[MSE_PADDING + 2];
    memcpy(head, at + 20, 14);
    rc4_apply(&look, head, 14);
    size_t padding = (size_t)head[12] << 8 | head[13];
    if (padding > MSE_PADDING || memcmp(head, "\0\0\0\0\0\0\0\0", 8) || !(head[11] & 2))
        return -1;
    at += 34;
    if ((size_t)(end - at) < padding + 2)
        return answered;
    memcpy(pad, at, padding + 2);
    rc4_apply(&look, pad, padding + 2);
    at += padding + 2;
    if ((size_t)(end - at) < ((size_t)pad[padding] << 8 | pad[padding + 1]))
        return answered;
    mse->in = look;
    *length = (size_t)(end - at);
    memmove(input, at, *length);
    rc4_apply(&mse->in, input, *length);
    memcpy(answer + answered, "\0\0\0\0\0\0\0\0\0\0\0\2\0\0", 14);
    rc4_apply(&mse->out, answer + answered, 14);
    mse->done = 1;
    return answered + 14;
}

#endif
