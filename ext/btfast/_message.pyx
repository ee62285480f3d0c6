# One message that is not a block: the lengths it may have, its bytes while they come in, and the event that it becomes.
# https://www.bittorrent.org/beps/bep_0003.html, bep_0005 (port), bep_0006 (fast), bep_0010 (extensions),
# bep_0052 (hashes).

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from btfast.framing cimport read32

cdef enum:
    LONGEST_EXTENDED = 1 << 20
    LONGEST_UNKNOWN = 1 << 20
    HASH_HEAD = 48  # pieces root, base layer, index, length, proof layers
    MOST_HASHES = 512 + 64  # we never ask for more than 512 at a time, and a tree has no more uncles
    KEPT = 512  # bytes of room that stay for the next message


cdef Shape shape_of(uint8_t kind) noexcept:
    if kind <= 3 or kind == 14 or kind == 15:  # choke, unchoke, interested, not_interested; have_all, have_none
        return EMPTY
    if kind == 4 or kind == 13 or kind == 17:  # have; suggest, allowed_fast
        return NUMBER
    if kind == 6 or kind == 8 or kind == 16:  # request, cancel; reject
        return TRIPLE
    if kind == 5:
        return BITFIELD
    if kind == 9:
        return PORT
    if kind == 20:
        return EXTENDED
    if kind == 21 or kind == 23:  # hash request, hash reject
        return HASH_RANGE
    if kind == 22:
        return HASHES
    return UNKNOWN


@cython.final
@cython.no_gc
cdef class Message:
    """The message that a stream is reading, without its length and id; used by other modules of the core only."""

    def __dealloc__(self):
        free(self.data)

    def __sizeof__(self):
        return object.__sizeof__(self) + self.room

    cdef bint begin(self, uint8_t kind, size_t length, size_t bitfield_limit) noexcept:
        """A message of `length` bytes after its id begins. False when its kind may not have that length."""
        self.kind = kind
        self.shape = shape_of(kind)
        self.length = length
        self.got = 0
        if self.shape == EMPTY:
            return length == 0
        if self.shape == NUMBER:
            return length == 4
        if self.shape == TRIPLE:
            return length == 12
        if self.shape == PORT:
            return length == 2
        if self.shape == BITFIELD:
            return length <= bitfield_limit
        if self.shape == EXTENDED:
            return 1 <= length <= LONGEST_EXTENDED
        if self.shape == HASH_RANGE:
            return length == HASH_HEAD
        if self.shape == HASHES:
            return HASH_HEAD <= length <= HASH_HEAD + 32 * MOST_HASHES and length % 32 == HASH_HEAD % 32
        return length <= LONGEST_UNKNOWN

    cdef int append(self, const uint8_t* p, size_t n) except -1:
        """Its next `n` bytes, no more than are missing. Memory grows with what has come, not with what was promised."""
        cdef size_t room
        cdef uint8_t* grown
        if self.shape != UNKNOWN:
            if self.got + n > self.room:
                room = max(self.got + n, min(2 * self.room, self.length))
                grown = <uint8_t*>realloc(self.data, room)
                if grown == NULL:
                    raise MemoryError()
                self.data = grown
                self.room = room
            memcpy(self.data + self.got, p, n)
        self.got += n
        return 0

    cdef object finish(self):
        """The whole message as an event, its id first; None for an id that nobody knows."""
        cdef const uint8_t* m = self.data
        if self.shape == EMPTY:
            return (self.kind,)
        if self.shape == NUMBER:
            return (self.kind, read32(m))
        if self.shape == TRIPLE:
            return (self.kind, read32(m), read32(m + 4), read32(m + 8))
        if self.shape == PORT:
            return (self.kind, m[0] << 8 | m[1])
        if self.shape == UNKNOWN:
            return None
        if self.shape == BITFIELD:
            event = (self.kind, PyBytes_FromStringAndSize(<const char*>m, self.length))
        elif self.shape == HASH_RANGE or self.shape == HASHES:
            root = PyBytes_FromStringAndSize(<const char*>m, 32)
            event = (self.kind, root, read32(m + 32), read32(m + 36), read32(m + 40), read32(m + 44))
            if self.shape == HASHES:
                event += (PyBytes_FromStringAndSize(<const char*>m + HASH_HEAD, self.length - HASH_HEAD),)
        else:
            event = (self.kind, m[0], PyBytes_FromStringAndSize(<const char*>m + 1, self.length - 1))
        if self.room > KEPT:
            free(self.data)
            self.data = NULL
            self.room = 0
        return event
