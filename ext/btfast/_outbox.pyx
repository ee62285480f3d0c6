# What one stream has to send: framed messages, and blocks that go straight from files into the socket.
#
# Messages overtake blocks that wait, never one that has begun to leave: its header, its first segment and the segments
# after it stay together. A block keeps a reference to the owner of each file it is read from until it has left or was
# taken back. References are let go only when the queues are in order again: an owner's end may run any code. An encrypted
# stream reads its blocks through a buffer, at most SEALED bytes ahead of the socket: what has been encrypted must leave.

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

import os

from btfast._rc4 cimport Rc4, rc4_apply
from btfast.framing cimport BLOCK, PIECE_HEADER, piece_header, put32

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/socket.h>
    #include <sys/types.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/sendfile.h>
    #endif
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifndef MSG_MORE
    #define MSG_MORE 0
    #endif
    static ssize_t btfast_send(int fd, const void *data, size_t length, int more) {
        return send(fd, data, length, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    }
    /* Sends file bytes to a socket: sendfile where it has Linux's shape, else through a buffer. */
    static ssize_t btfast_sendfile(int fd, int file, int64_t offset, size_t length) {
    #ifdef __linux__
        off_t position = (off_t)offset;
        return sendfile(fd, file, &position, length);
    #else
        char buffer[16384];
        ssize_t got = pread(file, buffer, length < sizeof buffer ? length : sizeof buffer, (off_t)offset);
        return got <= 0 ? got : send(fd, buffer, (size_t)got, MSG_NOSIGNAL);
    #endif
    }
    """
    ssize_t btfast_send(int fd, const void* data, size_t length, int more) nogil
    ssize_t btfast_sendfile(int fd, int file, int64_t offset, size_t length) nogil

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void* buffer, size_t length, int64_t offset)

cdef enum:
    TRIPLE = 17  # bytes of a request, cancel or reject
    TEXT_KEPT = 512  # bytes of room that stay when all has been sent
    PARTS_KEPT = 8
    SEALED = 65536

cdef uint8_t zeros[BLOCK]


@cython.final
@cython.no_gc
cdef class Outbox:
    """The way out of one stream; used by other modules of the core only."""

    def __dealloc__(self):
        cdef int i
        for i in range(self.parts_head, self.parts_end):
            Py_DECREF(<object>self.parts[i].owner)
        free(self.parts)
        free(self.text)
        free(self.sealed)

    def __sizeof__(self):
        return object.__sizeof__(self) + self.room + self.parts_room * sizeof(Part) + self.sealed_end

    cdef uint8_t* _extend(self, size_t n) except NULL:
        """Room for `n` more bytes of messages, already counted as filled."""
        cdef uint8_t* grown
        cdef size_t room
        if self.head and self.end + n > self.room:
            memmove(self.text, self.text + self.head, self.end - self.head)
            self.end -= self.head
            self.head = 0
        if self.end + n > self.room:
            room = max(2 * self.room, self.end + n)
            grown = <uint8_t*>realloc(self.text, room)
            if grown == NULL:
                raise MemoryError()
            self.text = grown
            self.room = room
        self.end += n
        return self.text + self.end - n

    cdef int put(self, const uint8_t* data, size_t n) except -1:
        """Appends `n` bytes of whole messages."""
        if n:
            memcpy(self._extend(n), data, n)
        return 0

    cdef int put_requests(self, uint8_t kind, uint32_t index, uint64_t begin, uint64_t end) except -1:
        """Appends a request (6) or cancel (8) for each block of [begin, end)."""
        cdef size_t blocks = <size_t>((end - begin + BLOCK - 1) // BLOCK)
        cdef uint8_t* p
        if begin >= end:
            return 0
        p = self._extend(blocks * TRIPLE)
        while begin < end:
            put32(p, 13)
            p[4] = kind
            put32(p + 5, index)
            put32(p + 9, <uint32_t>begin)
            put32(p + 13, <uint32_t>min(<uint64_t>BLOCK, end - begin))
            p += TRIPLE
            begin += BLOCK
        return 0

    cdef int put_block(self, uint32_t index, uint32_t begin, uint32_t length, list segments) except -1:
        """Appends a block. ValueError when its segments are no places in files that add up to `length`."""
        cdef int filled = 0, i
        cdef int fd
        cdef int64_t offset
        cdef uint32_t size
        cdef uint64_t total = 0
        cdef Part* part
        self._reserve_parts(len(segments))
        for owner, py_fd, py_offset, py_size in segments:
            fd = py_fd
            offset = py_offset
            size = py_size
            if fd < -1 or fd >= 0 and offset < 0:
                raise ValueError(f"segment at {offset} of descriptor {fd}")
            total += size
            if size == 0:
                continue
            part = &self.parts[self.parts_end + filled]
            part.index = index
            part.begin = begin
            part.length = length
            part.left = size
            part.offset = offset
            part.fd = fd
            part.first = filled == 0
            part.header_left = PIECE_HEADER if part.first else 0
            part.owner = <PyObject*>owner
            filled += 1
        if total != length or length == 0:
            raise ValueError(f"block of {length} bytes from segments of {total}")
        for i in range(filled):
            Py_INCREF(<object>self.parts[self.parts_end + i].owner)
        self.parts_end += filled
        self.uploads += 1
        return 0

    cdef int _reserve_parts(self, Py_ssize_t more) except -1:
        cdef Part* grown
        cdef Py_ssize_t room
        if self.parts_end + more <= self.parts_room:
            return 0
        if self.parts_head:
            memmove(self.parts, self.parts + self.parts_head, <size_t>(self.parts_end - self.parts_head) * sizeof(Part))
            self.parts_end -= self.parts_head
            self.parts_head = 0
        if self.parts_end + more > self.parts_room:
            room = 2 * self.parts_room + more + 2
            if room > 1 << 24:
                raise MemoryError("too many blocks wait to be sent")
            grown = <Part*>realloc(self.parts, <size_t>room * sizeof(Part))
            if grown == NULL:
                raise MemoryError()
            self.parts = grown
            self.parts_room = <int>room
        return 0

    cdef bint _waits(self, int i) noexcept:
        """Whether part i is the first of a block of which nothing has left."""
        return self.parts[i].first and self.parts[i].header_left == PIECE_HEADER

    cdef bint cancel_block(self, uint32_t index, uint32_t begin, uint32_t length) except -1:
        """Takes a block back. True if it was there and nothing of it had left."""
        cdef int i = self.parts_head, end
        cdef list owners
        while i < self.parts_end:
            if self._waits(i) and self.parts[i].index == index and self.parts[i].begin == begin \
                    and self.parts[i].length == length:
                end = i + 1
                while end < self.parts_end and not self.parts[end].first:
                    end += 1
                owners = self._taken(i, end)
                memmove(&self.parts[i], &self.parts[end], <size_t>(self.parts_end - end) * sizeof(Part))
                self.parts_end -= end - i
                self.uploads -= 1
                owners.clear()
                return True
            i += 1
        return False

    cdef list drop_blocks(self):
        """Takes back every block of which nothing has left: [(index, begin, length)]."""
        cdef int i, keep = self.parts_head
        cdef list found, owners
        while keep < self.parts_end and not self._waits(keep):
            keep += 1
        found = [(self.parts[i].index, self.parts[i].begin, self.parts[i].length)
                 for i in range(keep, self.parts_end) if self.parts[i].first]
        owners = self._taken(keep, self.parts_end)
        self.parts_end = keep
        self.uploads -= <int>len(found)
        owners.clear()
        return found

    cdef list _taken(self, int first, int end):
        """The owners of parts [first, end), their references handed to the list."""
        cdef int i
        cdef list owners = [<object>self.parts[i].owner for i in range(first, end)]
        for i in range(first, end):
            Py_DECREF(<object>self.parts[i].owner)
        return owners

    cdef Flush flush(self, int fd, uint64_t allowed) except? FAILED:
        """Sends what the socket takes, of blocks `allowed` bytes at most; `failure` says why it said FAILED."""
        cdef ssize_t n
        cdef int error
        cdef bint block
        self.allowed = allowed
        if self.cipher is not None:
            return self._flush_sealed(fd)
        while True:
            block = self.parts_head < self.parts_end
            if self.head < self.end and (not block or self._waits(self.parts_head)):
                n = self._flush_text(fd, block and self.allowed)
            elif block:
                if not self.allowed:
                    return HELD
                n = self._flush_part(fd)
                if n == 0:
                    self.failure = "a file that is being served has become shorter"
                    return FAILED
            else:
                return SENT
            if n < 0:
                error = errno
                if error == EAGAIN:
                    return FULL
                if error != EINTR:
                    self.failure = os.strerror(error)
                    return FAILED

    cdef ssize_t _flush_text(self, int fd, bint more) noexcept:
        cdef ssize_t n = btfast_send(fd, self.text + self.head, self.end - self.head, more)
        if n > 0:
            self.sent += n
            self._advance_text(n)
        return n

    cdef void _advance_text(self, size_t n) noexcept:
        self.head += n
        if self.head == self.end:
            self.head = self.end = 0
            if self.room > TEXT_KEPT:
                free(self.text)
                self.text = NULL
                self.room = 0

    cdef ssize_t _flush_part(self, int fd) except? -1:
        """What one system call takes of the block in front; 0 when its file ends too early, below 0 as `send`."""
        cdef Part* part = &self.parts[self.parts_head]
        cdef uint8_t header[PIECE_HEADER]
        cdef ssize_t n
        if part.header_left:
            piece_header(header, part.index, part.begin, part.length)
            n = btfast_send(fd, header + PIECE_HEADER - part.header_left, part.header_left, True)
            if n > 0:
                part.header_left -= <uint8_t>n
                self.sent += n
            return n
        if part.fd < 0:
            n = btfast_send(fd, zeros, <size_t>min(min(part.left, <uint32_t>BLOCK), self.allowed), part.left > BLOCK)
        else:
            n = btfast_sendfile(fd, part.fd, part.offset, <size_t>min(part.left, self.allowed))
        if n > 0:
            self.sent += n
            self._advance_part(n)
        return n

    cdef int _advance_part(self, size_t n) except -1:
        cdef Part* part = &self.parts[self.parts_head]
        self.payload_sent += n
        self.allowed -= n
        part.left -= <uint32_t>n
        part.offset += <int64_t>n
        if part.left == 0:
            self._finish_part()
        return 0

    cdef int _finish_part(self) except -1:
        owner = <object>self.parts[self.parts_head].owner
        Py_DECREF(owner)
        self.parts_head += 1
        if self.parts_head == self.parts_end:
            self.uploads -= 1
            self.parts_head = self.parts_end = 0
            if self.parts_room > PARTS_KEPT:
                free(self.parts)
                self.parts = NULL
                self.parts_room = 0
        elif self.parts[self.parts_head].first:
            self.uploads -= 1
        return 0

    # encrypted

    cdef Flush _flush_sealed(self, int fd) except? FAILED:
        cdef uint8_t staging[SEALED]
        cdef ssize_t n, left
        cdef int error
        cdef bint more
        if self.sealing:  # the end of an owner has called back into here: what is being gathered goes first
            return FULL
        while True:
            if self.sealed_head == self.sealed_end:
                self.sealing = True
                try:
                    n = self._seal(staging)
                finally:
                    self.sealing = False
                if n < 0:
                    return FAILED
                if n == 0:
                    return HELD if self.parts_head < self.parts_end else SENT
                with nogil:
                    rc4_apply(&self.cipher.state, staging, <size_t>n)
                more = self.head < self.end or self.parts_head < self.parts_end and self.allowed
                left = btfast_send(fd, staging, <size_t>n, more)
                error = errno
                if left < n:
                    self._keep(staging + max(left, 0), <size_t>(n - max(left, 0)))
                n = left
            else:
                n = btfast_send(fd, self.sealed + self.sealed_head, self.sealed_end - self.sealed_head, False)
                error = errno
                if n > 0:
                    self.sealed_head += <size_t>n
                    if self.sealed_head == self.sealed_end:
                        free(self.sealed)
                        self.sealed = NULL
                        self.sealed_head = self.sealed_end = 0
            if n > 0:
                self.sent += <uint64_t>n
            elif n < 0:
                if error == EAGAIN:
                    return FULL
                if error != EINTR:
                    self.failure = os.strerror(error)
                    return FAILED

    cdef ssize_t _seal(self, uint8_t* staging) except? -1:
        """Fills `staging` with what is to be sent next; returns how many bytes, -1 where a file cannot be read."""
        cdef size_t n = 0, take
        cdef ssize_t got
        cdef Part* part
        cdef bint block
        while n < SEALED:
            block = self.parts_head < self.parts_end
            if self.head < self.end and (not block or self._waits(self.parts_head)):
                take = min(SEALED - n, self.end - self.head)
                memcpy(staging + n, self.text + self.head, take)
                self._advance_text(take)
                n += take
                continue
            if not block or not self.allowed:
                break
            part = &self.parts[self.parts_head]
            if part.header_left:
                if SEALED - n <= PIECE_HEADER:
                    break
                piece_header(staging + n, part.index, part.begin, part.length)
                part.header_left = 0
                n += PIECE_HEADER
            take = <size_t>min(min(<uint64_t>part.left, self.allowed), SEALED - n)
            if part.fd < 0:
                memset(staging + n, 0, take)
            else:
                got = pread(part.fd, staging + n, take, part.offset)
                if got < 0 and errno == EINTR:
                    continue
                if got <= 0:
                    self.failure = os.strerror(errno) if got else "a file that is being served has become shorter"
                    return -1
                take = <size_t>got
            n += take
            self._advance_part(take)
        return <ssize_t>n

    cdef int _keep(self, const uint8_t* data, size_t n) except -1:
        """What the socket did not take waits."""
        self.sealed = <uint8_t*>malloc(n)
        if self.sealed == NULL:
            raise MemoryError()
        memcpy(self.sealed, data, n)
        self.sealed_head = 0
        self.sealed_end = n
        return 0
