"""SHA-1 and SHA-256 over many messages at once, without the GIL: for the storage worker and other extension modules."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "kernels.h" nogil:
    # One whole message; its first 20 or 32 bytes of digest are written.
    ctypedef struct HashJob:
        const unsigned char* data
        size_t length
        unsigned char digest[32]

    # A message of which `length` bytes came so far; `partial` holds the last length % 64 of them.
    ctypedef struct HashState:
        uint32_t h[8]
        uint64_t length
        unsigned char partial[64]

    # The next bytes of such a message. A state may appear in one job of a call only.
    ctypedef struct UpdateJob:
        HashState* state
        const unsigned char* data
        size_t length

    const int SHA1 "BTFAST_SHA1"
    const int SHA256 "BTFAST_SHA256"
    const int KERNEL_AUTO "BTFAST_KERNEL_AUTO"
    const int KERNEL_AVX512 "BTFAST_KERNEL_AVX512"
    const int KERNEL_AVX2 "BTFAST_KERNEL_AVX2"
    const int KERNEL_SHANI "BTFAST_KERNEL_SHANI"
    const int KERNEL_ARMV8 "BTFAST_KERNEL_ARMV8"
    const int KERNEL_PORTABLE "BTFAST_KERNEL_PORTABLE"


# state_digest leaves the state as it is, so that more bytes may follow.
# Each returns 0, or -1 for an unknown algorithm or a kernel that this CPU cannot run; nothing is done then.
cdef int hash_jobs(int algorithm, HashJob* jobs, size_t n, int kernel) noexcept nogil
cdef int update_jobs(int algorithm, UpdateJob* jobs, size_t n, int kernel) noexcept nogil
cdef int state_start(int algorithm, HashState* state) noexcept nogil
cdef int state_digest(int algorithm, const HashState* state, unsigned char* digest) noexcept nogil

# How many messages KERNEL_AUTO advances side by side: batches of this size are hashed fastest. 0: unknown algorithm.
cdef unsigned int lane_count(int algorithm) noexcept nogil
