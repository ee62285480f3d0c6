# The blocks that one peer has been asked for, kept as runs of consecutive blocks of one piece, oldest first.
#
# A run begins on a block boundary and only its last block may be short, so the blocks in it need no list of their own.
# Taking from the front is what nearly always happens and costs a few instructions; a block from elsewhere splits its run.
# A run holds a reference to its slot; the block that was taken holds one of its own.

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from btfast._arena cimport Slot
from btfast._outbox cimport Outbox
from btfast.framing cimport BLOCK


cdef int release(Block* block) except -1:
    """Lets go of what a block holds; the stream writes nothing for it from here on."""
    cdef PyObject* slot = block.slot
    cdef PyObject* aside = block.aside
    block.mode = NOTHING
    block.slot = block.aside = NULL
    if slot != NULL:
        Py_DECREF(<object>slot)
    if aside != NULL:
        Py_DECREF(<object>aside)
    return 0


cdef int _fill(Block* block, Run* run, uint32_t begin) except -1:
    cdef uint32_t length = block_length(run, begin)
    if run.mode == ASIDE:
        aside = PyBytes_FromStringAndSize(NULL, length)
        Py_INCREF(aside)
        block.aside = <PyObject*>aside
    Py_INCREF(<object>run.slot)
    block.slot = run.slot
    block.mode = run.mode
    block.index = run.index
    block.begin = begin
    block.length = length
    block.got = 0
    return 0


@cython.final
@cython.no_gc
cdef class Requests:
    """Open requests of one stream; used by other modules of the core only."""

    def __dealloc__(self):
        self.drop()
        free(self.runs)

    def __sizeof__(self):
        return object.__sizeof__(self) + self.room * sizeof(Run)

    cdef int reserve(self, int more) except -1:
        """Room for `more` runs, so that what follows cannot fail half-way. Runs may move."""
        cdef Run* grown
        cdef int room
        if self.end + more <= self.room:
            return 0
        if self.head >= more and self.head > self.room // 2:
            memmove(self.runs, self.runs + self.head, <size_t>(self.end - self.head) * sizeof(Run))
            self.end -= self.head
            self.head = 0
            return 0
        room = 2 * self.room + more + 3
        grown = <Run*>realloc(self.runs, <size_t>room * sizeof(Run))
        if grown == NULL:
            raise MemoryError()
        self.runs = grown
        self.room = room
        return 0

    cdef void add(self, uint32_t index, uint32_t begin, uint32_t end, Mode mode, Slot slot) noexcept:
        """Appends a run; the caller has checked it and reserved its place."""
        cdef Run* run = &self.runs[self.end]
        run.index = index
        run.begin = begin
        run.end = end
        run.mode = mode
        run.slot = <PyObject*>slot
        Py_INCREF(slot)
        self.end += 1
        self.outstanding += end - begin

    cdef int take_front(self, Block* block) except -1:
        """Takes the oldest block out and fills `block`; there must be one."""
        cdef Run* run = &self.runs[self.head]
        _fill(block, run, run.begin)
        self.outstanding -= block.length
        run.begin += block.length
        if run.begin == run.end:
            Py_DECREF(<object>run.slot)
            self.head += 1
            if self.head == self.end:
                self.head = self.end = 0
        return 0

    cdef bint take(self, uint32_t index, uint32_t begin, uint32_t length, Block* block) except -1:
        """Takes exactly this block, wherever it stands, and fills `block`. False when nobody waits for it."""
        cdef int nth
        cdef Run* run
        for nth in range(self.end - self.head):
            run = &self.runs[self.head + nth]
            if run.index == index and run.begin <= begin < run.end and begin % BLOCK == 0 \
                    and length == block_length(run, begin):
                if nth == 0 and begin == run.begin:
                    self.take_front(block)
                else:
                    self.reserve(1)
                    _fill(block, &self.runs[self.head + nth], begin)
                    self._cut(nth, begin, begin + length)
                return True
        return False

    cdef int64_t cancel(self, uint32_t index, uint64_t begin, uint64_t end, Outbox tell) except -1:
        """Removes the whole blocks that lie in [begin, end) of a piece and puts their cancels into `tell`, unless None.

        Returns how many bytes it removed. Any range is fine: a reject comes here with what the peer made up.
        """
        cdef int nth = 0
        cdef uint64_t low, high
        cdef int64_t removed = 0
        cdef Run* run
        begin = (begin + BLOCK - 1) // BLOCK * BLOCK
        while nth < self.end - self.head:
            run = &self.runs[self.head + nth]
            low = max(begin, <uint64_t>run.begin)
            high = run.end if end >= run.end else end // BLOCK * BLOCK
            if run.index != index or low >= high:
                nth += 1
                continue
            if tell is not None:
                tell.put_requests(8, index, low, high)
            nth += self._cut(nth, <uint32_t>low, <uint32_t>high)
            removed += high - low
        return removed

    cdef int _cut(self, int nth, uint32_t low, uint32_t high) except -1:
        """Removes [low, high), whole blocks, from the nth run; returns how many runs are left in its place."""
        cdef Run* run
        cdef PyObject* slot
        self.reserve(1)
        run = &self.runs[self.head + nth]
        self.outstanding -= high - low
        if run.begin == low and run.end == high:
            slot = run.slot
            memmove(run, run + 1, <size_t>(self.end - self.head - nth - 1) * sizeof(Run))
            self.end -= 1
            if self.head == self.end:
                self.head = self.end = 0
            Py_DECREF(<object>slot)
            return 0
        if run.begin == low:
            run.begin = high
            return 1
        if run.end == high:
            run.end = low
            return 1
        memmove(run + 1, run, <size_t>(self.end - self.head - nth) * sizeof(Run))
        self.end += 1
        Py_INCREF(<object>run.slot)
        run.end = low
        run[1].begin = high
        return 2

    cdef void drop(self) noexcept:
        """Forgets all."""
        cdef int i, end = self.end
        i = self.head
        self.head = self.end = 0
        self.outstanding = 0
        while i < end:
            Py_DECREF(<object>self.runs[i].slot)
            i += 1

    cdef list listed(self):
        """[(index, begin, length)] of the runs, oldest first."""
        cdef int i
        return [(self.runs[i].index, self.runs[i].begin, self.runs[i].end - self.runs[i].begin)
                for i in range(self.head, self.end)]
