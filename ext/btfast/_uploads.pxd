from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef struct Part:  # of what is on its way out: one place in a file
    uint32_t index
    uint32_t begin  # of the block in front
    uint32_t length
    uint32_t left  # of it, in this part
    uint32_t rest  # bytes of whole blocks behind it
    int64_t offset
    int fd  # -1: zeros
    uint8_t header_left
    bint first
    PyObject* owner

cdef void next_block(Part* part) noexcept


cdef class Uploads:
    cdef int count  # blocks
    cdef Part* parts  # parts[head:end]
    cdef int head
    cdef int end
    cdef int room

    cdef int put(self, uint32_t index, uint32_t begin, uint32_t length, uint32_t block, list segments) except -1
    cdef void _fill(self, Part* part, uint32_t index, uint32_t begin, uint32_t length, uint32_t block, uint32_t at,
                    uint32_t size) noexcept
    cdef int _reserve(self, Py_ssize_t more) except -1
    cdef bint waits(self, int i) noexcept
    cdef bint cancel(self, uint32_t index, uint32_t begin, uint32_t length) except -1
    cdef int _cut_out(self, int i, uint32_t at, uint32_t length) except -1
    cdef list drop(self)
    cdef int _list_rest(self, int i, list found) except -1
    cdef list _taken(self, int first, int end)
    cdef PyObject* advance(self, size_t n) noexcept
