from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef class ServedFile:
    cdef readonly int fd
    cdef bint unmappable
    cdef object __weakref__

    cdef const uint8_t* place(self, int64_t offset, size_t* length, uint64_t batch) noexcept
