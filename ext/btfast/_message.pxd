from libc.stdint cimport uint8_t

cdef enum Shape:  # what a message holds after its id
    EMPTY
    NUMBER
    TRIPLE  # index, begin, length
    PORT
    BITFIELD
    EXTENDED
    HASH_RANGE  # pieces root, base layer, index, length, proof layers
    HASHES  # the same, and the hashes
    UNKNOWN


cdef class Message:
    cdef uint8_t kind
    cdef Shape shape
    cdef uint8_t* data
    cdef size_t length
    cdef size_t got
    cdef size_t room

    cdef bint begin(self, uint8_t kind, size_t length, size_t bitfield_limit) noexcept
    cdef int append(self, const uint8_t* p, size_t n) except -1
    cdef object finish(self)
