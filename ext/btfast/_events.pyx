# What one stream has to tell, in order. Blocks that follow one another are one event, and so are requests for them: what
# this costs in Python is per run, not per block.

cimport cython
from libc.stdint cimport uint32_t, uint64_t, uint8_t

from btfast.framing cimport BLOCK

cdef enum:
    LANDED = 7
    ASKED = 6
    RUN_ASKED = 261


@cython.final
@cython.no_gc
cdef class Events:
    """The events of one stream that nobody has taken; used by other modules of the core only."""

    def __cinit__(self):
        self.found = []

    def __sizeof__(self):
        return object.__sizeof__(self) + self.found.__sizeof__()

    cdef int add(self, object event) except -1:
        if self.kind:
            self._end_run()
        self.found.append(event)
        return 0

    cdef int landed(self, uint32_t index, uint32_t begin, uint32_t length) except -1:
        """A block is where it belongs."""
        if self.kind == LANDED and self.index == index and self.begin + self.length == begin:
            self.length += length
            return 0
        if self.kind:
            self._end_run()
        self.kind = LANDED
        self.index = index
        self.begin = begin
        self.length = length
        return 0

    cdef int asked(self, uint32_t index, uint32_t begin, uint32_t length) except -1:
        """The peer wants a block. A run is of whole blocks, and one that is shorter ends it."""
        if self.kind == ASKED and self.index == index and self.begin + self.length == begin \
                and self.length == <uint64_t>BLOCK * self.count and 0 < length <= BLOCK:
            self.length += length
            self.count += 1
            return 0
        if self.kind:
            self._end_run()
        self.kind = ASKED
        self.index = index
        self.begin = begin
        self.length = length
        self.count = 1
        return 0

    cdef int _end_run(self) except -1:
        cdef int kind = self.kind
        if kind == ASKED and self.count > 1:
            kind = RUN_ASKED
        self.kind = 0
        self.found.append((kind, self.index, self.begin, self.length))
        return 0

    cdef list take(self):
        if self.kind:
            self._end_run()
        found = self.found
        self.found = []
        return found
