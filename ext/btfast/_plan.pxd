"""What a sweep reads and what it finds out: shared by the threads that work on it, each on pieces of its own."""

from libc.stdint cimport int64_t

cdef enum:
    LEAF = 16384  # bytes that a leaf of a tree stands for (BEP 52)
    HASH = 32
    MAX_HEIGHT = 17  # of the tree of a piece

cdef struct File:
    int64_t start  # in the stream
    int64_t length
    int64_t available  # bytes of it that are there, -1: none
    const char* path  # NULL: a pad file
    unsigned int height  # of the tree that a piece of it is the root of


cdef class Plan:
    cdef readonly Py_ssize_t file_count, piece_count
    cdef readonly int64_t piece_length, total_length
    cdef int root
    cdef bint hashes_sha1, hashes_sha256
    cdef bint stopped
    cdef File* files
    cdef list paths
    cdef bytes expected_sha1, expected_sha256
    cdef const unsigned char* wanted_sha1  # the same, or NULL
    cdef const unsigned char* wanted_sha256
    cdef unsigned char* states_  # results; what is not asked for is NULL
    cdef unsigned char* sha1_
    cdef unsigned char* sha256_
    cdef unsigned char* sums_  # a byte that says whether it is there, then the digest
    cdef unsigned char pads[MAX_HEIGHT + 1][HASH]

    cdef Py_ssize_t file_at(self, int64_t position) noexcept nogil
    cdef bint is_there(self, int64_t start, int64_t end) noexcept nogil
