# The blocks that one stream has to send, in order, and where in which files their bytes are.
#
# A part is one place in a file: a part of one block, or whole blocks that follow one another, so that a peer which asks
# for a piece costs one part. It keeps a reference to its owner, whatever keeps the file open, until it has left or was
# taken back. References are let go only when the queue is in order again: an owner's end may run any code.

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memmove

from btfast.framing cimport BLOCK, PIECE_HEADER

cdef enum:
    PARTS_KEPT = 8


cdef void next_block(Part* part) noexcept:
    """The block in front is done with, and `offset` stands behind it."""
    part.begin += part.length
    part.length = part.left = min(<uint32_t>BLOCK, part.rest)
    part.rest -= part.length
    part.header_left = PIECE_HEADER


@cython.final
@cython.no_gc
cdef class Uploads:
    """The blocks of one stream that wait or are being sent; used by other modules of the core only."""

    def __dealloc__(self):
        cdef int i
        for i in range(self.head, self.end):
            Py_DECREF(<object>self.parts[i].owner)
        free(self.parts)

    def __sizeof__(self):
        return object.__sizeof__(self) + self.room * sizeof(Part)

    cdef int put(self, uint32_t index, uint32_t begin, uint32_t length, uint32_t block, list segments) except -1:
        """Appends blocks of `block` bytes, the last may be shorter; where it is not BLOCK, one block.

        ValueError when the segments are no places in files that add up to `length`.
        """
        cdef int filled, i
        cdef int fd
        cdef int64_t offset
        cdef uint32_t size, taken
        cdef uint64_t total = 0
        self._reserve(3 * len(segments))  # the end of a block, whole blocks, the begin of one
        filled = self.end
        for owner, py_fd, py_offset, py_size in segments:
            fd = py_fd
            offset = py_offset
            size = py_size
            if fd < -1 or fd >= 0 and offset < 0:
                raise ValueError(f"segment at {offset} of descriptor {fd}")
            if total + size > length:
                raise ValueError(f"blocks of {length} bytes from segments of more")
            while size:
                self._fill(&self.parts[filled], index, begin, length, block, <uint32_t>total, size)
                self.parts[filled].offset = offset
                self.parts[filled].fd = fd
                self.parts[filled].owner = <PyObject*>owner
                taken = self.parts[filled].left + self.parts[filled].rest
                total += taken
                offset += taken
                size -= taken
                filled += 1
        if total != length or length == 0:
            raise ValueError(f"blocks of {length} bytes from segments of {total}")
        for i in range(self.end, filled):
            Py_INCREF(<object>self.parts[i].owner)
        self.end = filled
        self.count += <int>((length + <uint64_t>block - 1) // block)
        return 0

    cdef void _fill(self, Part* part, uint32_t index, uint32_t begin, uint32_t length, uint32_t block, uint32_t at,
                    uint32_t size) noexcept:
        """As much of the range as one part takes of a segment's `size` bytes, `at` bytes after its begin."""
        cdef uint32_t within = at % block
        cdef uint32_t whole
        part.index = index
        part.begin = begin + at - within
        part.length = min(block, length - (at - within))
        part.first = within == 0
        part.header_left = PIECE_HEADER if part.first else 0
        part.left = min(size, part.length - within)
        part.rest = 0
        if part.first and part.left == part.length:
            whole = size if at + size == length else size // block * block
            part.rest = whole - part.left

    cdef int _reserve(self, Py_ssize_t more) except -1:
        cdef Part* grown
        cdef Py_ssize_t room
        if self.end + more <= self.room:
            return 0
        if self.head:
            memmove(self.parts, self.parts + self.head, <size_t>(self.end - self.head) * sizeof(Part))
            self.end -= self.head
            self.head = 0
        if self.end + more > self.room:
            room = 2 * self.room + more + 2
            if room > 1 << 24:
                raise MemoryError("too many blocks wait to be sent")
            grown = <Part*>realloc(self.parts, <size_t>room * sizeof(Part))
            if grown == NULL:
                raise MemoryError()
            self.parts = grown
            self.room = <int>room
        return 0

    cdef bint waits(self, int i) noexcept:
        """Whether part i is the first of a block of which nothing has left."""
        return self.parts[i].first and self.parts[i].header_left == PIECE_HEADER

    cdef bint cancel(self, uint32_t index, uint32_t begin, uint32_t length) except -1:
        """Takes a block back. True if it was there and nothing of it had left."""
        cdef int i = self.head, stop
        cdef list owners
        cdef Part* part
        while i < self.end:
            part = &self.parts[i]
            if self.waits(i) and part.index == index and part.begin == begin and part.length == length:
                self.count -= 1
                if part.rest:
                    part.offset += part.length
                    next_block(part)
                    return True
                stop = i + 1
                while stop < self.end and not self.parts[stop].first:
                    stop += 1
                owners = self._taken(i, stop)
                memmove(&self.parts[i], &self.parts[stop], <size_t>(self.end - stop) * sizeof(Part))
                self.end -= stop - i
                owners.clear()
                return True
            if part.rest and part.index == index and begin > part.begin and (begin - part.begin) % BLOCK == 0 \
                    and begin - part.begin < part.length + part.rest \
                    and length == min(<uint32_t>BLOCK, part.length + part.rest - (begin - part.begin)):
                self._cut_out(i, begin - part.begin, length)
                self.count -= 1
                return True
            i += 1
        return False

    cdef int _cut_out(self, int i, uint32_t at, uint32_t length) except -1:
        """Takes the block `at` bytes after the begin of the one in front out of part i."""
        cdef int place = i - self.head
        cdef Part* part
        cdef Part* behind
        cdef uint32_t after
        self._reserve(1)
        i = self.head + place
        part = &self.parts[i]
        after = part.length + part.rest - at - length
        part.rest = at - part.length
        if after:
            behind = part + 1
            memmove(behind + 1, behind, <size_t>(self.end - i - 1) * sizeof(Part))
            self.end += 1
            behind[0] = part[0]
            behind.offset += <int64_t>at + length - (part.length - part.left)
            behind.begin += at
            behind.length = length
            behind.rest = after
            next_block(behind)
            Py_INCREF(<object>part.owner)
        return 0

    cdef list drop(self):
        """Takes back every block of which nothing has left: [(index, begin, length)]."""
        cdef int i, keep = self.head
        cdef list found = [], owners
        while keep < self.end and not self.waits(keep):
            if self.parts[keep].rest:
                self._list_rest(keep, found)
                self.parts[keep].rest = 0
            keep += 1
        for i in range(keep, self.end):
            if self.parts[i].first:
                found.append((self.parts[i].index, self.parts[i].begin, self.parts[i].length))
                self._list_rest(i, found)
        owners = self._taken(keep, self.end)
        self.end = keep
        self.count -= <int>len(found)
        owners.clear()
        return found

    cdef int _list_rest(self, int i, list found) except -1:
        """Appends the blocks behind the one in front."""
        cdef Part part = self.parts[i]
        while part.rest:
            next_block(&part)
            found.append((part.index, part.begin, part.length))
        return 0

    cdef list _taken(self, int first, int end):
        """The owners of parts [first, end), their references handed to the list."""
        cdef int i
        cdef list owners = [<object>self.parts[i].owner for i in range(first, end)]
        for i in range(first, end):
            Py_DECREF(<object>self.parts[i].owner)
        return owners

    cdef PyObject* advance(self, size_t n) noexcept:
        """That many bytes of the block in front have left. The owner that is to be let go, where it was a part's last."""
        cdef Part* part = &self.parts[self.head]
        cdef PyObject* owner
        part.left -= <uint32_t>n
        part.offset += <int64_t>n
        if part.left:
            return NULL
        if part.rest:
            self.count -= 1
            next_block(part)
            return NULL
        owner = part.owner
        self.head += 1
        if self.head == self.end:
            self.count -= 1
            self.head = self.end = 0
            if self.room > PARTS_KEPT:
                free(self.parts)
                self.parts = NULL
                self.room = 0
        elif self.parts[self.head].first:
            self.count -= 1
        return owner
