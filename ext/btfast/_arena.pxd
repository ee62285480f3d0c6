from libc.stdint cimport int32_t, uint8_t, uint64_t


cdef class Arena:
    cdef readonly int fd
    cdef readonly size_t size
    cdef readonly size_t used
    cdef readonly size_t peak
    cdef uint8_t* base
    cdef int32_t* runs
    cdef int32_t pages
    cdef int32_t lowest  # no free run starts below this page
    cdef int32_t failed  # pages that could not be had since the last run was freed
    cdef size_t ready  # bytes from the start that were asked for in huge pages
    cdef bint owner
    cdef bint owns_fd

    cdef void _make_ready(self, size_t end) noexcept
    cdef void _free(self, int32_t page) noexcept


cdef class Slot:
    cdef readonly Arena arena
    cdef readonly size_t offset
    cdef readonly size_t length
    cdef readonly size_t first
    cdef int32_t page
    cdef uint8_t* data


cdef inline uint8_t* place(Slot slot, uint64_t begin) noexcept:
    """Where byte `begin` of the piece lies; the caller has checked that the slot holds it."""
    return slot.data + (begin - slot.first)
