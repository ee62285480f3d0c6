#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* Which kernels this CPU runs, and at how few messages a wide kernel gives way to a narrow one. */

static int usable[BTFAST_KERNEL_COUNT];

static const Engine portable[2] = {
    {btfast_sha1_portable, 1, 1, 8, NULL, 0},
    {btfast_sha256_portable, 1, 1, 8, NULL, 0},
};

#if defined(__x86_64__)
static const Engine shani[2] = {
    {btfast_sha1_shani, 1, 1, 8, NULL, 0},
    {btfast_sha256_shani, 1, 1, 8, NULL, 0},
};
static const Engine shani_pair[2] = {
    {btfast_sha1_shani_pair, 2, 1, 8, &shani[0], 1},
    {btfast_sha256_shani_pair, 2, 1, 8, &shani[1], 1},
};
static const Engine avx512[2] = {
    {btfast_sha1_avx512, 16, 16, 1, NULL, 0},
    {btfast_sha256_avx512, 16, 16, 1, NULL, 0},
};
static const Engine avx2[2] = {
    {btfast_sha1_avx2, 8, 8, 1, NULL, 0},
    {btfast_sha256_avx2, 8, 8, 1, NULL, 0},
};

/* A wide kernel's step of 64 bytes costs the same with one message alive as with all; the narrow kernel pays for each.
 * Zen 5, GiB/s with n messages of 256 KiB, 16 lanes of AVX-512 against pairs in SHA-NI:
 *   SHA-1    n=3 1.8/2.5   n=4 2.4/3.1   n=5 3.0/2.7   n=6 3.5/3.1   n=8 4.7/3.1   n=16 8.0/3.1
 *   SHA-256  n=4 1.3/2.5   n=6 1.9/2.5   n=7 2.3/2.3   n=8 2.6/2.4   n=16 4.8/2.4
 * The same hand-over at the end of a batch: 20 messages of 256 KiB, SHA-1 5.4 -> 6.1, SHA-256 3.1 -> 4.0. */
static const unsigned narrow_at_avx512_shani[2] = {4, 7};
static const unsigned narrow_at_avx512_portable[2] = {1, 1};
static const unsigned narrow_at_avx2_portable[2] = {2, 2};
#elif defined(__aarch64__)
static const Engine armv8[2] = {
    {btfast_sha1_armv8, 1, 1, 8, NULL, 0},
    {btfast_sha256_armv8, 1, 1, 8, NULL, 0},
};
static const Engine armv8_pair[2] = {
    {btfast_sha1_armv8_pair, 2, 1, 8, &armv8[0], 1},
    {btfast_sha256_armv8_pair, 2, 1, 8, &armv8[1], 1},
};
#endif

static Engine automatic[2];

#if defined(__x86_64__)
static void detect(void)
{
    unsigned a, b, c, d;
    __builtin_cpu_init();
    /* These look at XCR0 too: an AVX-512 CPU under a system that does not save the registers says no. */
    usable[BTFAST_KERNEL_AVX512] = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                   __builtin_cpu_supports("avx512vl");
    usable[BTFAST_KERNEL_AVX2] = !!__builtin_cpu_supports("avx2");
    /* The name "sha" came to __builtin_cpu_supports late (GCC 14): leaf 7, EBX bit 29. */
    usable[BTFAST_KERNEL_SHANI] = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) &&
                                  __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
}

static Engine choose(int i)
{
    Engine engine;
    if (usable[BTFAST_KERNEL_AVX512]) {
        engine = avx512[i];
        engine.narrow = usable[BTFAST_KERNEL_SHANI] ? &shani_pair[i] : &portable[i];
        engine.narrow_at = (usable[BTFAST_KERNEL_SHANI] ? narrow_at_avx512_shani : narrow_at_avx512_portable)[i];
        return engine;
    }
    if (usable[BTFAST_KERNEL_SHANI]) /* as fast as eight AVX2 lanes for SHA-1, faster for SHA-256 */
        return shani_pair[i];
    if (usable[BTFAST_KERNEL_AVX2]) {
        engine = avx2[i];
        engine.narrow = &portable[i];
        engine.narrow_at = narrow_at_avx2_portable[i];
        return engine;
    }
    return portable[i];
}
#elif defined(__aarch64__)
static void detect(void)
{
#if defined(__APPLE__)
    usable[BTFAST_KERNEL_ARMV8] = 1; /* every 64-bit Apple CPU has both */
#elif defined(__linux__)
    const unsigned long both = HWCAP_SHA1 | HWCAP_SHA2;
    usable[BTFAST_KERNEL_ARMV8] = (getauxval(AT_HWCAP) & both) == both;
#endif
}

static Engine choose(int i)
{
    return usable[BTFAST_KERNEL_ARMV8] ? armv8_pair[i] : portable[i];
}
#else
static void detect(void)
{
}

static Engine choose(int i)
{
    return portable[i];
}
#endif

void btfast_kernels_init(void)
{
    usable[BTFAST_KERNEL_AUTO] = usable[BTFAST_KERNEL_PORTABLE] = 1;
    detect();
    for (int i = 0; i < 2; i++)
        automatic[i] = choose(i);
}

const Engine *btfast_engine(int algorithm, int kernel)
{
    if (algorithm != BTFAST_SHA1 && algorithm != BTFAST_SHA256)
        return NULL;
    if (kernel < 0 || kernel >= BTFAST_KERNEL_COUNT || !usable[kernel])
        return NULL;
    const int i = algorithm - 1;
    switch (kernel) {
    case BTFAST_KERNEL_AUTO:
        return &automatic[i];
#if defined(__x86_64__)
    case BTFAST_KERNEL_AVX512:
        return &avx512[i];
    case BTFAST_KERNEL_AVX2:
        return &avx2[i];
    case BTFAST_KERNEL_SHANI:
        return &shani_pair[i];
#elif defined(__aarch64__)
    case BTFAST_KERNEL_ARMV8:
        return &armv8_pair[i];
#endif
    default:
        return &portable[i];
    }
}
