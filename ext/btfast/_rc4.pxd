from libc.stdint cimport uint8_t, uint32_t

from btfast.reading cimport iovec

cdef extern from "rc4.h" nogil:
    struct rc4_state:
        uint32_t i
    void rc4_set_key(rc4_state* state, const uint8_t* key, size_t length)
    void rc4_apply(rc4_state* state, uint8_t* p, size_t n)
    void rc4_skip(rc4_state* state, size_t n)


cdef class Rc4:
    cdef rc4_state state

    cdef void apply_read(self, iovec* v, int n, size_t got, bint skip_first) noexcept
