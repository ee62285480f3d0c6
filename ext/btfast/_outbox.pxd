from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from btfast._rc4 cimport Rc4

cdef enum Flush:
    SENT  # nothing is left
    FULL  # the socket takes no more for now
    HELD  # blocks wait, and no more of them was allowed to leave
    FAILED

cdef struct Part:  # of a block on its way out
    uint32_t index
    uint32_t begin
    uint32_t length
    uint32_t left
    int64_t offset
    int fd  # -1: zeros
    uint8_t header_left
    bint first
    PyObject* owner


cdef class Outbox:
    cdef readonly str failure  # why flush said FAILED
    cdef uint64_t sent
    cdef uint64_t payload_sent
    cdef int uploads  # blocks
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
    # Blocks, each of one part or more: parts[parts_head:parts_end].
    cdef Part* parts
    cdef int parts_head
    cdef int parts_end
    cdef int parts_room

    cdef int put(self, const uint8_t* data, size_t n) except -1
    cdef int put_requests(self, uint8_t kind, uint32_t index, uint64_t begin, uint64_t end) except -1
    cdef int put_block(self, uint32_t index, uint32_t begin, uint32_t length, list segments) except -1
    cdef bint cancel_block(self, uint32_t index, uint32_t begin, uint32_t length) except -1
    cdef list drop_blocks(self)
    cdef Flush _flush_sealed(self, int fd) except? FAILED
    cdef ssize_t _seal(self, uint8_t* staging) except? -1
    cdef int _keep(self, const uint8_t* data, size_t n) except -1
    cdef void _advance_text(self, size_t n) noexcept
    cdef int _advance_part(self, size_t n) except -1
    cdef Flush flush(self, int fd, uint64_t allowed) except? FAILED
    cdef uint8_t* _extend(self, size_t n) except NULL
    cdef int _reserve_parts(self, Py_ssize_t more) except -1
    cdef bint _waits(self, int i) noexcept
    cdef list _taken(self, int first, int end)
    cdef ssize_t _flush_text(self, int fd, bint more) noexcept
    cdef ssize_t _flush_part(self, int fd) except? -1
    cdef int _finish_part(self) except -1
