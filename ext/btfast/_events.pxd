from libc.stdint cimport uint32_t, uint64_t, uint8_t


cdef class Events:
    cdef list found
    # The blocks that came, or the requests, of which the last ones may go on.
    cdef uint8_t kind  # 0: none
    cdef uint32_t index, begin
    cdef uint64_t length
    cdef uint32_t count

    cdef int add(self, object event) except -1
    cdef int landed(self, uint32_t index, uint32_t begin, uint32_t length) except -1
    cdef int asked(self, uint32_t index, uint32_t begin, uint32_t length) except -1
    cdef int _end_run(self) except -1
    cdef list take(self)
