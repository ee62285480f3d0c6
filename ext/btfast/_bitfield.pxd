cimport cython


@cython.final
cdef class Bitfield:
    # BEP 3 order: bit 0 is the high bit of byte 0. The buffer is a whole number of 64-bit words; the bits past
    # `length` are always 0, so whole-word operations need no tail.
    cdef unsigned char* bits
    cdef readonly Py_ssize_t length
    cdef Py_ssize_t words
    cdef Py_ssize_t ones

    cdef inline bint test(self, Py_ssize_t index) noexcept nogil:
        return (self.bits[index >> 3] >> (7 - (index & 7))) & 1

    cdef inline bint put(self, Py_ssize_t index) noexcept nogil:
        # True when the bit was 0 before. The index is not checked.
        cdef unsigned char mask = 0x80 >> (index & 7)
        if self.bits[index >> 3] & mask:
            return False
        self.bits[index >> 3] |= mask
        self.ones += 1
        return True

    cdef inline bint drop(self, Py_ssize_t index) noexcept nogil:
        # True when the bit was 1 before. The index is not checked.
        cdef unsigned char mask = 0x80 >> (index & 7)
        if not self.bits[index >> 3] & mask:
            return False
        self.bits[index >> 3] &= <unsigned char>~mask
        self.ones -= 1
        return True

    cdef void recount(self) noexcept nogil
    cdef Py_ssize_t seek(self, Py_ssize_t start) noexcept nogil
    cdef int _same_length(self, Bitfield other) except -1
    cdef Bitfield _joined(self, Bitfield other, bint both)
