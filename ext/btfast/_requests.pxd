from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from btfast._arena cimport Slot
from btfast._outbox cimport Outbox
from btfast.framing cimport BLOCK

cdef enum Mode:
    NOTHING
    DIRECT  # received in its place in the slot
    ASIDE  # received into a bytes object of its own
    DISCARD

cdef struct Run:  # what is still open of a request for consecutive blocks
    uint32_t index
    uint32_t begin  # a multiple of BLOCK
    uint32_t end
    Mode mode
    PyObject* slot

cdef struct Block:  # one that is being read; holds its references
    uint32_t index
    uint32_t begin
    uint32_t length
    uint32_t got
    Mode mode
    PyObject* slot
    PyObject* aside


cdef inline uint32_t block_length(const Run* run, uint32_t begin) noexcept:
    return min(<uint32_t>BLOCK, run.end - begin)


cdef int release(Block* block) except -1


cdef class Requests:
    # Runs in the order in which they were asked for: runs[head:end].
    cdef Run* runs
    cdef int head
    cdef int end
    cdef int room
    cdef uint64_t outstanding  # bytes

    cdef int reserve(self, int more) except -1
    cdef void add(self, uint32_t index, uint32_t begin, uint32_t end, Mode mode, Slot slot) noexcept
    cdef int take_front(self, Block* block) except -1
    cdef bint take(self, uint32_t index, uint32_t begin, uint32_t length, Block* block) except -1
    cdef int64_t cancel(self, uint32_t index, uint64_t begin, uint64_t end, Outbox tell) except -1
    cdef int _cut(self, int nth, uint32_t low, uint32_t high) except -1
    cdef void drop(self) noexcept
    cdef list listed(self)
