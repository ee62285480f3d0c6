/* SHA-1 and SHA-256 over many independent messages at once.
 *
 * A kernel advances `width` messages side by side by whole 64-byte blocks and knows nothing of padding; multi.c feeds
 * its lanes, pads, and refills a lane when its message ends; dispatch.c says which kernels this CPU can run. Only the
 * file of a kernel is compiled with that kernel's instruction set, so nothing here may be inlined into shared code.
 */
#ifndef BTFAST_KERNELS_H
#define BTFAST_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { BTFAST_SHA1 = 1, BTFAST_SHA256 = 2 };

/* The numbers are part of the _hashing.pxd interface; AUTO picks by the number of messages that are alive. */
enum {
    BTFAST_KERNEL_AUTO = 0,
    BTFAST_KERNEL_AVX512 = 1,
    BTFAST_KERNEL_AVX2 = 2,
    BTFAST_KERNEL_SHANI = 3,
    BTFAST_KERNEL_ARMV8 = 4,
    BTFAST_KERNEL_PORTABLE = 5,
    BTFAST_KERNEL_COUNT = 6
};

enum { BTFAST_MAX_LANES = 16, BTFAST_BLOCK = 64 };

/* One whole message: digest receives 20 or 32 bytes. */
typedef struct {
    const unsigned char *data;
    size_t length;
    unsigned char digest[32];
} HashJob;

/* A message that is not whole yet: `partial` holds its last length % 64 bytes. */
typedef struct {
    uint32_t h[8];
    uint64_t length;
    unsigned char partial[64];
} HashState;

/* The next bytes of such a message. A state may appear in one job of a call only. */
typedef struct {
    HashState *state;
    const unsigned char *data;
    size_t length;
} UpdateJob;

/* A piece of a v2 torrent: `length` bytes of its file, in a tree of `width` leaves, a power of two that holds them all.
 * `hashes` has room for one hash more than there are leaves of bytes. SHA-1, where asked for, covers `whole` bytes. */
typedef struct {
    const unsigned char *data;
    size_t length;
    size_t whole;
    size_t width;
    unsigned char *hashes;
    unsigned char root[32];
    unsigned char sha1[20];
} TreeJob;

/* Advances `width` messages by `blocks` blocks; data[lane] may be at any address. Word w of a lane's chaining value
 * is at state[w * word_stride + lane * lane_stride] (see Engine). */
typedef void (*CompressFn)(uint32_t *state, const uint8_t *const *data, size_t blocks);

typedef struct Engine {
    CompressFn compress;
    unsigned width;
    unsigned word_stride;
    unsigned lane_stride;
    /* With at most narrow_at messages alive and none waiting, `narrow` finishes them sooner (0: never). */
    const struct Engine *narrow;
    unsigned narrow_at;
} Engine;

/* dispatch.c */
void btfast_kernels_init(void);
const Engine *btfast_engine(int algorithm, int kernel); /* NULL: no such kernel, or not on this CPU */

/* multi.c: 0, or -1 for an unknown algorithm or a kernel that this CPU cannot run */
int btfast_hash_jobs(int algorithm, HashJob *jobs, size_t n, int kernel);
int btfast_update_jobs(int algorithm, UpdateJob *jobs, size_t n, int kernel);
int btfast_state_start(int algorithm, HashState *state);
int btfast_state_digest(int algorithm, const HashState *state, unsigned char *digest);

/* trees.c: roots of pieces, and with `both` their SHA-1 in the same pass over memory; returns as btfast_hash_jobs */
void btfast_trees_init(void);
int btfast_tree_jobs(TreeJob *trees, size_t n, int both, int kernel);

/* sha*_KERNEL.c */
extern const uint32_t btfast_sha256_k[64];
void btfast_sha1_portable(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_portable(uint32_t *state, const uint8_t *const *data, size_t blocks);
#if defined(__x86_64__)
void btfast_sha1_avx512(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_avx512(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha1_avx2(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_avx2(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha1_shani(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha1_shani_pair(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_shani(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_shani_pair(uint32_t *state, const uint8_t *const *data, size_t blocks);
#elif defined(__aarch64__)
void btfast_sha1_armv8(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha1_armv8_pair(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_armv8(uint32_t *state, const uint8_t *const *data, size_t blocks);
void btfast_sha256_armv8_pair(uint32_t *state, const uint8_t *const *data, size_t blocks);
#endif

#endif
