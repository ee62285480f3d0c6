from libc.stdint cimport uint8_t, uint32_t, uint64_t

from btfast._events cimport Events
from btfast._message cimport Message
from btfast._outbox cimport Outbox
from btfast._rc4 cimport Rc4
from btfast._requests cimport Block, Requests
from btfast.framing cimport HANDSHAKE
from btfast.reading cimport iovec

cdef enum State:
    IN_HANDSHAKE
    IN_HEADER
    IN_MESSAGE
    IN_PAYLOAD
    CLOSED


cdef class PeerStream:
    cdef readonly int fd
    cdef readonly uint64_t received  # everything
    cdef readonly uint64_t payload  # of blocks that were asked for
    cdef readonly uint64_t wasted  # of blocks that nobody waits for any more
    cdef readonly uint64_t messages
    cdef public size_t bitfield_limit
    cdef readonly str error  # why it has ended
    cdef readonly bint held  # the last flush stopped because no more bytes of blocks were allowed

    cdef State state
    cdef Events events
    cdef Requests asked
    cdef Outbox out
    cdef Message message
    cdef Rc4 cipher  # of what comes in
    cdef Block block  # the one that is being read
    # The handshake, or the header of a message, as far as it has come.
    cdef int head_got
    cdef uint8_t head[HANDSHAKE]

    cdef int _place_rest(self, iovec* v) except -1
    cdef void _front_header(self, uint8_t* header) noexcept
    cdef int _predict(self, iovec* v, size_t* lengths, size_t* wanted) except -1
    cdef int _walk(self, iovec* v, int n, int first, int blocks, size_t* lengths, size_t got, bint spilled) except -1
    cdef int _gather(self, iovec* v, int n, int i, size_t got) except -1
    cdef int _parse(self, const uint8_t* p, size_t n) except -1
    cdef int _handle_head(self, int have) except -1
    cdef int _begin_message(self, uint8_t kind, size_t length) except -1
    cdef int _finish_message(self) except -1
    cdef int _begin_block(self, uint32_t index, uint32_t begin, uint32_t length) except -1
    cdef int _finish_block(self) except -1
    cdef int _close(self, str reason) except -1
    cdef bint _arriving(self) noexcept
    cdef int _abandon(self) except -1
