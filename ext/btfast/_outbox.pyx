# What one stream has to send: framed messages, and blocks that are read from files when they leave.
#
# Messages overtake blocks that wait, never one that has begun to leave: its header, its first segment and the segments
# after it stay together. One system call takes dozens of blocks: their headers from here, their bytes from where
# _served has them mapped, or through a buffer. A block keeps a reference to the owner of each file it is read from until
# it has left or was taken back. References are let go only when the queues are in order again: an owner's end may run
# any code. An encrypted stream reads its blocks through a buffer, at most SEALED bytes ahead of the socket: what has
# been encrypted must leave. So must what was put into a pipe, from which the socket takes it without a copy.

cimport cython
from cpython.ref cimport Py_DECREF, PyObject
from libc.errno cimport EAGAIN, EFAULT, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

import os

from btfast._rc4 cimport Rc4, rc4_apply
from btfast._served cimport ServedFile
from btfast._splice cimport give_pipe_back, lasting, put_pages, send_pages, take_pipe
from btfast._uploads cimport Part, Uploads, next_block
from btfast.framing cimport BLOCK, PIECE_HEADER, piece_header, put32
from btfast.reading cimport iovec

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #include <unistd.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifndef MSG_MORE
    #define MSG_MORE 0
    #endif
    static ssize_t btfast_send(int fd, const void *data, size_t length, int more) {
        return send(fd, data, length, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    }
    static ssize_t btfast_sendv(int fd, struct iovec *v, int n, int more) {
        struct msghdr message;
        memset(&message, 0, sizeof message);
        message.msg_iov = v;
        message.msg_iovlen = (size_t)n;
        return sendmsg(fd, &message, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    }
    /* Bytes from OFFSET to the end of a file; below 0: it cannot be told. */
    static int64_t btfast_bytes_from(int fd, int64_t offset) {
        struct stat found;
        return fstat(fd, &found) ? -1 : found.st_size > offset ? (int64_t)found.st_size - offset : 0;
    }
    """
    ssize_t btfast_send(int fd, const void* data, size_t length, int more) nogil
    ssize_t btfast_sendv(int fd, iovec* v, int n, int more) nogil
    int64_t btfast_bytes_from(int fd, int64_t offset) nogil

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void* buffer, size_t length, int64_t offset)

cdef enum:
    TRIPLE = 17  # bytes of a request, cancel or reject
    TEXT_KEPT = 512  # bytes of room that stay when all has been sent
    SEALED = 65536
    AT_ONCE = 1 << 19  # bytes of blocks that one system call is given
    PLACES = 66  # twice the blocks that AT_ONCE are, and two
    TURN = 1 << 20  # bytes after which the others have theirs
    STAGED = 1 << 18
    WORTH = 1 << 16  # bytes of blocks for which a pipe is used: fewer are copied

cdef str SHORTER = "a file that is being served has become shorter"

cdef uint8_t zeros[BLOCK]
cdef uint8_t headers[PLACES][PIECE_HEADER]
cdef uint8_t staged[STAGED]
cdef uint64_t batch = 0


@cython.final
@cython.no_gc
cdef class Outbox:
    """The way out of one stream; used by other modules of the core only."""

    def __cinit__(self):
        self.blocks = Uploads.__new__(Uploads)
        self.pipe[0] = self.pipe[1] = -1

    def __dealloc__(self):
        if self.pipe[0] >= 0:
            give_pipe_back(self.pipe)
        free(self.text)
        free(self.sealed)

    def __sizeof__(self):
        return object.__sizeof__(self) + self.room + self.blocks.__sizeof__() + self.sealed_end

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

    cdef Flush flush(self, int fd, uint64_t allowed) except? FAILED:
        """Sends what the socket takes, of blocks `allowed` bytes at most; `failure` says why it said FAILED."""
        cdef Flush result
        self.allowed = allowed
        if self.cipher is not None:
            return self._flush_sealed(fd)
        result = self._flush_plain(fd)
        if self.pipe[0] >= 0 and self.piped == 0:
            give_pipe_back(self.pipe)
        return result

    cdef Flush _flush_plain(self, int fd) except? FAILED:
        cdef iovec v[PLACES]
        cdef size_t wanted, turn = 0
        cdef ssize_t sent
        cdef bint more = False, stays
        cdef int n
        while turn < TURN:
            if self.piped:
                wanted = self.piped
                sent = send_pages(self.pipe[0], fd, wanted, more)
                if sent > 0:
                    self.piped -= <size_t>sent
            else:
                wanted = 0
                n = self._gather(v, &wanted, &more, &stays)
                if n < 0:
                    return FAILED
                if n == 0:
                    return HELD if self.blocks.head < self.blocks.end else SENT
                if stays and wanted >= WORTH and self._put_into_pipe(v, n):
                    continue
                sent = btfast_sendv(fd, v, n, more and turn + wanted < TURN)
                if sent > 0:
                    self._advance(<size_t>sent)
            if sent < 0:
                if errno == EINTR:
                    continue
                if errno == EAGAIN:
                    return FULL
                self.failure = SHORTER if errno == EFAULT else os.strerror(errno)
                return FAILED
            self.sent += <size_t>sent
            if <size_t>sent < wanted:
                return FULL
            turn += wanted
        return FULL if self.piped or self.head < self.end or self.blocks.head < self.blocks.end and self.allowed else \
            HELD if self.blocks.head < self.blocks.end else SENT

    cdef bint _put_into_pipe(self, iovec* v, int n) except -1:
        """Whether some of what is laid out, which stays as it is, has been put into an empty pipe; it has then left here."""
        cdef uint8_t* room
        cdef ssize_t put
        cdef int i
        if self.pipe[0] < 0 and not take_pipe(self.pipe):
            return False
        room = lasting(<size_t>n * PIECE_HEADER)
        if room == NULL:
            return False
        for i in range(n):
            if <uint8_t*>headers <= <uint8_t*>v[i].iov_base < <uint8_t*>headers + sizeof(headers):
                memcpy(room, v[i].iov_base, v[i].iov_len)
                v[i].iov_base = room
                room += v[i].iov_len
        put = put_pages(self.pipe[1], v, n)
        if put <= 0:
            return False
        self.piped = <size_t>put
        self._advance(self.piped)
        return True

    cdef int _gather(self, iovec* v, size_t* wanted, bint* more, bint* stays) except? -1:
        """Lays out what leaves next; returns in how many places, -1 where the first byte of it cannot be had.

        `wanted`: how many bytes that is; `more`: whether others follow at once; `stays`: whether they, but for headers,
        stay as they are when they have left.
        """
        global batch
        cdef Part part
        cdef int n = 0, i = self.blocks.head
        cdef size_t room = 0, take, used = 0
        cdef uint64_t allowed = self.allowed
        cdef bint text = self.head < self.end
        cdef const uint8_t* place = NULL
        batch += 1
        stays[0] = True
        if i < self.blocks.end:
            part = self.blocks.parts[i]
        while n + 2 <= PLACES and wanted[0] < AT_ONCE:
            if text and (i == self.blocks.end or part.first and part.header_left == PIECE_HEADER):
                v[n].iov_base = self.text + self.head
                v[n].iov_len = self.end - self.head
                wanted[0] += v[n].iov_len
                n += 1
                text = stays[0] = False
                continue
            if i == self.blocks.end or not allowed:
                break
            if room == 0:
                room = <size_t>min(<uint64_t>part.left + part.rest, allowed)
                place = self._find(&part, &room, &used)
                if room == 0:
                    if n == 0:
                        return -1
                    break
            if part.header_left:
                piece_header(headers[n], part.index, part.begin, part.length)
                v[n].iov_base = headers[n] + PIECE_HEADER - part.header_left
                v[n].iov_len = part.header_left
                wanted[0] += part.header_left
                part.header_left = 0
                n += 1
            take = <size_t>min(min(<uint64_t>part.left, allowed), room if part.fd >= 0 else <size_t>BLOCK)
            v[n].iov_base = <void*>place
            v[n].iov_len = take
            wanted[0] += take
            n += 1
            allowed -= take
            room -= take
            if part.fd >= 0:
                place += take
            part.offset += <int64_t>take
            part.left -= <uint32_t>take
            if part.left == 0:
                if part.rest:
                    next_block(&part)
                else:
                    i += 1
                    room = 0
                    if i < self.blocks.end:
                        part = self.blocks.parts[i]
        more[0] = text or i < self.blocks.end and allowed
        if used:
            stays[0] = False
        return n

    cdef const uint8_t* _find(self, Part* part, size_t* room, size_t* used) except? NULL:
        """Where the part's next bytes are, and how many of `room` at that place: none when they cannot be had now."""
        cdef const uint8_t* place
        cdef size_t wanted
        cdef ssize_t got
        cdef int64_t there
        if part.fd < 0:
            return zeros
        if type(<object>part.owner) is ServedFile and part.fd == (<ServedFile>part.owner).fd:
            there = btfast_bytes_from(part.fd, part.offset)
            if 0 <= there < <int64_t>room[0]:
                room[0] = <size_t>there
            if room[0]:
                wanted = room[0]
                place = (<ServedFile>part.owner).place(part.offset, room, batch)
                if place != NULL:
                    return place
                room[0] = wanted
        wanted = min(room[0], STAGED - used[0])
        if room[0] and not wanted:  # what is laid out goes first
            room[0] = 0
            return NULL
        got = pread(part.fd, staged + used[0], wanted, part.offset)
        if got <= 0:
            self.failure = SHORTER if got == 0 or wanted == 0 else os.strerror(errno)
            got = 0
        place = staged + used[0]
        used[0] += <size_t>got
        room[0] = <size_t>got
        return place

    cdef int _advance(self, size_t n) except -1:
        """That many bytes have left, in the order in which they were laid out."""
        cdef PyObject* done[PLACES]
        cdef PyObject* owner
        cdef Part* part
        cdef size_t take
        cdef int finished = 0, i
        while n:
            if self.head < self.end and (self.blocks.head == self.blocks.end or self.blocks.waits(self.blocks.head)):
                take = min(n, self.end - self.head)
                self._advance_text(take)
                n -= take
                continue
            part = &self.blocks.parts[self.blocks.head]
            take = min(n, <size_t>part.header_left)
            part.header_left -= <uint8_t>take
            n -= take
            take = min(n, <size_t>part.left)
            n -= take
            if take:
                owner = self._advance_block(take)
                if owner != NULL:
                    done[finished] = owner
                    finished += 1
        for i in range(finished):
            Py_DECREF(<object>done[i])
        return 0

    cdef void _advance_text(self, size_t n) noexcept:
        self.head += n
        if self.head == self.end:
            self.head = self.end = 0
            if self.room > TEXT_KEPT:
                free(self.text)
                self.text = NULL
                self.room = 0

    cdef PyObject* _advance_block(self, size_t n) noexcept:
        self.payload_sent += n
        self.allowed -= n
        return self.blocks.advance(n)

    # encrypted

    cdef Flush _flush_sealed(self, int fd) except? FAILED:
        cdef uint8_t staging[SEALED]
        cdef ssize_t n, left
        cdef size_t turn = 0
        cdef int error
        cdef bint more
        if self.sealing:  # the end of an owner has called back into here: what is being gathered goes first
            return FULL
        while turn < TURN:
            if self.sealed_head == self.sealed_end:
                self.sealing = True
                try:
                    n = self._seal(staging)
                finally:
                    self.sealing = False
                if n < 0:
                    return FAILED
                if n == 0:
                    return HELD if self.blocks.head < self.blocks.end else SENT
                with nogil:
                    rc4_apply(&self.cipher.state, staging, <size_t>n)
                more = self.head < self.end or self.blocks.head < self.blocks.end and self.allowed
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
                turn += <size_t>n
            elif n < 0:
                if error == EAGAIN:
                    return FULL
                if error != EINTR:
                    self.failure = os.strerror(error)
                    return FAILED
        return FULL

    cdef ssize_t _seal(self, uint8_t* staging) except? -1:
        """Fills `staging` with what is to be sent next; returns how many bytes, -1 where a file cannot be read."""
        cdef size_t n = 0, take
        cdef ssize_t got
        cdef Part* part
        cdef PyObject* owner
        cdef bint block
        while n < SEALED:
            block = self.blocks.head < self.blocks.end
            if self.head < self.end and (not block or self.blocks.waits(self.blocks.head)):
                take = min(SEALED - n, self.end - self.head)
                memcpy(staging + n, self.text + self.head, take)
                self._advance_text(take)
                n += take
                continue
            if not block or not self.allowed:
                break
            part = &self.blocks.parts[self.blocks.head]
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
                    self.failure = os.strerror(errno) if got else SHORTER
                    return -1
                take = <size_t>got
            n += take
            owner = self._advance_block(take)
            if owner != NULL:
                Py_DECREF(<object>owner)
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
