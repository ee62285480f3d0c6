from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from btfast._rc4 cimport Rc4
from btfast._uploads cimport Part, Uploads
from btfast.reading cimport iovec

cdef enum Flush:
    SENT  # nothing is left
    FULL  # the socket takes no more for now
    HELD  # blocks wait, and no more of them was allowed to leave
    FAILED


cdef class Outbox:
    cdef readonly str failure  # why flush said FAILED
    cdef uint64_t sent
    cdef uint64_t payload_sent
    cdef uint64_t allowed  # bytes of blocks that this flush may still send
    # Whole messages, framed: text[head:end]. One may have left in part.
    cdef uint8_t* text
    cdef size_t head
    cdef size_t end
    cdef size_t room
    # Encrypted, and not taken by the socket: sealed[sealed_head:sealed_end]. It is next, whatever is taken back.
    cdef Rc4 cipher
    cdef uint8_t* sealed
    cdef size_t sealed_head
    cdef size_t sealed_end
    cdef bint sealing
    # Put into a pipe of _splice, and not taken by the socket: `piped` bytes of blocks. They are next.
    cdef int pipe[2]
    cdef size_t piped
    cdef Uploads blocks

    cdef int put(self, const uint8_t* data, size_t n) except -1
    cdef int put_requests(self, uint8_t kind, uint32_t index, uint64_t begin, uint64_t end) except -1
    cdef Flush _flush_sealed(self, int fd) except? FAILED
    cdef ssize_t _seal(self, uint8_t* staging) except? -1
    cdef int _keep(self, const uint8_t* data, size_t n) except -1
    cdef void _advance_text(self, size_t n) noexcept
    cdef PyObject* _advance_block(self, size_t n) noexcept
    cdef Flush flush(self, int fd, uint64_t allowed) except? FAILED
    cdef uint8_t* _extend(self, size_t n) except NULL
    cdef Flush _flush_plain(self, int fd) except? FAILED
    cdef bint _put_into_pipe(self, iovec* v, int n) except -1
    cdef int _gather(self, iovec* v, size_t* wanted, bint* more, bint* stays) except? -1
    cdef const uint8_t* _find(self, Part* part, size_t* room, size_t* used) except? NULL
    cdef int _advance(self, size_t n) except -1
