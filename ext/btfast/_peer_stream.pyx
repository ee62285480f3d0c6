# One peer's byte stream: payload into its slot, everything else into events, requests and blocks out.
#
# Theory of operation. A peer that serves us sends, nearly always, exactly the blocks that we asked for, in order. So for
# every read we predict the bytes: [13-byte header][payload of the next block][13-byte header][payload]... and hand the
# kernel an iovec in which each payload already is its place in the slot: no copy. Then the headers that arrived are
# compared with the predicted ones. At the first that differs (a HAVE in between, blocks out of order) the prediction is
# off from there on: the bytes read since are gathered out of the scratch headers and slots into one buffer and parsed as
# a plain stream. That is always right, only slower; the slots' bytes that it scribbled on belong to blocks which have
# not arrived, from a peer that alone may write them.
#
# Which blocks may be written in place: a request is direct (this peer alone has been asked, the bytes may go to the slot)
# or indirect (endgame: others were asked too; the block is received aside and comes out as bytes). `cancel` ends the
# right to write at once: the rest of a block that is on its way is thrown away.
#
# Requests are kept as runs of blocks of one piece; what arrives is reported as runs too, so that the cost in Python is
# per run and not per block. https://www.bittorrent.org/beps/bep_0003.html, bep_0006 (fast), bep_0010 (extensions).

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove

import os

from btfast._arena cimport Slot

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec* v, int n)

cdef extern from *:
    """
    #include <errno.h>
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
    static inline void btfast_put32(uint8_t *p, uint32_t v) {
        p[0] = (uint8_t)(v >> 24); p[1] = (uint8_t)(v >> 16); p[2] = (uint8_t)(v >> 8); p[3] = (uint8_t)v;
    }
    static inline uint32_t btfast_read32(const uint8_t *p) {
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    """
    ssize_t btfast_send(int fd, const void* data, size_t length, int more) nogil
    ssize_t btfast_sendfile(int fd, int file, int64_t offset, size_t length) nogil
    void btfast_put32(uint8_t* p, uint32_t v) nogil
    uint32_t btfast_read32(const uint8_t* p) nogil

cdef enum:
    BLOCK = 16384
    HEADER = 13
    HANDSHAKE = 68
    PREDICT = 32  # blocks a readv predicts: half a MiB
    SPILL = 65536
    MOST = 1 << 20  # bytes read in one wake-up, so that one peer cannot starve the others
    LONGEST_BLOCK = 131072
    LONGEST_EXTENDED = 1 << 20
    LONGEST_UNKNOWN = 1 << 20

cdef enum Mode:
    NOTHING
    DIRECT
    ASIDE  # received into a bytes object of its own
    DISCARD

cdef enum State:
    IN_HANDSHAKE
    IN_HEADER
    IN_MESSAGE
    IN_PAYLOAD
    CLOSED

CLOSED_EVENT = 256  # (256, reason): the stream has ended; nothing follows
BLOCK_EVENT = 258  # (258, index, begin, bytes): a block of an indirect request
HANDSHAKE_EVENT = 259  # (259, 68 bytes)
INFO_HASH_EVENT = 260  # (260, 48 bytes): enough of an incoming handshake to answer it

cdef struct Run:
    uint32_t index
    uint32_t begin
    uint32_t end
    Mode mode
    PyObject* slot

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

cdef uint8_t spill[SPILL]
cdef uint8_t headers[PREDICT][HEADER]
cdef uint8_t zeros[BLOCK]


cdef class PeerStream:
    """One connected, non-blocking stream socket. `bitfield_limit`: the longest bitfield to accept, bytes.

    Feed it: `handle_readable`, `handle_writable`. It never closes the descriptor. Counters are bytes.
    """

    cdef readonly int fd
    cdef readonly uint64_t received  # everything
    cdef readonly uint64_t payload  # of blocks that were asked for
    cdef readonly uint64_t wasted  # of blocks that nobody waits for any more
    cdef readonly uint64_t sent
    cdef readonly uint64_t payload_sent
    cdef readonly uint64_t outstanding  # asked for and not yet begun
    cdef readonly uint64_t messages
    cdef readonly int uploads  # blocks queued to be sent
    cdef public size_t bitfield_limit
    cdef readonly str error

    cdef State state
    cdef list events
    # The run of blocks that came in and is not yet an event.
    cdef bint landed
    cdef uint32_t landed_index, landed_begin, landed_length
    # The message that is being read.
    cdef uint8_t head[HANDSHAKE]
    cdef int head_got
    cdef uint8_t message_id
    cdef uint8_t* message
    cdef size_t message_length, message_got, message_room
    # The block that is being read.
    cdef uint32_t block_index, block_begin, block_length, block_got
    cdef Mode block_mode
    cdef PyObject* block_slot
    cdef PyObject* block_bytes
    # Requests in the order in which they were sent.
    cdef Run* runs
    cdef int runs_head, runs_end, runs_room
    # On the way out.
    cdef uint8_t* out
    cdef size_t out_head, out_end, out_room
    cdef Part* parts
    cdef int parts_head, parts_end, parts_room

    def __cinit__(self, int fd, *, size_t bitfield_limit=1 << 21):
        self.fd = fd
        self.bitfield_limit = bitfield_limit
        self.state = IN_HANDSHAKE
        self.events = []

    def __dealloc__(self):
        cdef int i
        for i in range(self.runs_head, self.runs_end):
            Py_XDECREF(self.runs[i].slot)
        for i in range(self.parts_head, self.parts_end):
            Py_XDECREF(self.parts[i].owner)
        Py_XDECREF(self.block_slot)
        Py_XDECREF(self.block_bytes)
        free(self.runs)
        free(self.parts)
        free(self.out)
        free(self.message)

    # ---- in ----

    def handle_readable(self):
        """Reads what is there and returns the events, in order: see `btfast.wire.ids` and the constants above."""
        cdef iovec v[2 * PREDICT + 2]
        cdef size_t lengths[PREDICT]
        cdef size_t wanted, budget = MOST
        cdef int n, first, blocks, i
        cdef bint spilled
        cdef ssize_t got
        while self.state != CLOSED:
            n = blocks = 0
            wanted = 0
            spilled = True
            if self.state == IN_PAYLOAD:
                n = self._place_rest(v)
                wanted = v[0].iov_len
                spilled = wanted == self.block_length - self.block_got
            first = n
            if self.state == IN_PAYLOAD and spilled or self.state == IN_HEADER and self._head_fits():
                blocks = self._predict(v + n, lengths, &wanted)
                n += 2 * blocks
            if spilled and blocks < PREDICT:
                v[n].iov_base = spill
                v[n].iov_len = SPILL
                wanted += SPILL
                n += 1
            else:
                spilled = False
            got = readv(self.fd, v, n)
            if got <= 0:
                if got == 0:
                    self._close("closed by the peer")
                elif errno == EINTR:
                    continue
                elif errno != EAGAIN:
                    self._close(os.strerror(errno))
                break
            self.received += got
            self._walk(v, n, first, blocks, lengths, got, spilled)
            if <size_t>got < wanted or <size_t>got >= budget:
                break
            budget -= got
        self._report_landed()
        found = self.events
        self.events = []
        return found

    cdef int _place_rest(self, iovec* v) except -1:
        cdef size_t left = self.block_length - self.block_got
        if self.block_mode == DIRECT:
            v[0].iov_base = (<Slot>self.block_slot).data + self.block_begin + self.block_got
        elif self.block_mode == ASIDE:
            v[0].iov_base = PyBytes_AS_STRING(<object>self.block_bytes) + self.block_got
        else:
            v[0].iov_base = spill
            left = min(left, <size_t>SPILL)
        v[0].iov_len = left
        return 1

    cdef bint _head_fits(self) noexcept:
        """Whether the header bytes that are already here are those of the next expected block."""
        cdef uint8_t expected[HEADER]
        if self.head_got == 0:
            return True
        if self.runs_head == self.runs_end or self.runs[self.runs_head].mode != DIRECT:
            return False
        self._header(&self.runs[self.runs_head], self.runs[self.runs_head].begin, expected)
        return memcmp(expected, self.head, self.head_got) == 0

    cdef inline uint32_t _header(self, Run* run, uint32_t begin, uint8_t* header) noexcept:
        cdef uint32_t length = min(<uint32_t>BLOCK, run.end - begin)
        btfast_put32(header, 9 + length)
        header[4] = 7
        btfast_put32(header + 5, run.index)
        btfast_put32(header + 9, begin)
        return length

    cdef int _predict(self, iovec* v, size_t* lengths, size_t* wanted) except -1:
        """Fills `v` with headers and places of the next blocks; returns how many."""
        cdef int blocks = 0, i = self.runs_head
        cdef int skip = self.head_got if self.state == IN_HEADER else 0
        cdef uint32_t begin
        cdef Run* run
        while i < self.runs_end:
            run = &self.runs[i]
            if run.mode != DIRECT:
                break
            begin = run.begin
            while begin < run.end:
                if blocks == PREDICT:
                    return blocks
                lengths[blocks] = min(<uint32_t>BLOCK, run.end - begin)
                if skip:
                    memcpy(headers[0], self.head, skip)
                v[2 * blocks].iov_base = headers[blocks] + skip
                v[2 * blocks].iov_len = HEADER - skip
                v[2 * blocks + 1].iov_base = (<Slot>run.slot).data + begin
                v[2 * blocks + 1].iov_len = lengths[blocks]
                wanted[0] += HEADER - skip + lengths[blocks]
                begin += <uint32_t>lengths[blocks]
                skip = 0
                blocks += 1
            i += 1
        return blocks

    cdef int _walk(self, iovec* v, int n, int first, int blocks, size_t* lengths, size_t got, bint spilled) except -1:
        """Makes sense of `got` bytes that a readv laid out over `v`."""
        cdef int i
        cdef size_t part, held
        cdef uint8_t expected[HEADER]
        cdef Run* run
        if first:
            part = min(got, v[0].iov_len)
            self.block_got += <uint32_t>part
            got -= part
            if self.block_got == self.block_length:
                self._finish_block()
        for i in range(blocks):
            if got == 0:
                return 0
            part = v[first + 2 * i].iov_len
            held = HEADER - part
            run = &self.runs[self.runs_head]
            self._header(run, run.begin, expected)
            if got < part or memcmp(expected, headers[i], HEADER):
                if got < part and memcmp(expected, headers[i], held + got) == 0:
                    memcpy(self.head, headers[i], held + got)
                    self.head_got = <int>(held + got)
                    return 0
                self.head_got = <int>held
                return self._gather(v, n, first + 2 * i, got)
            self.head_got = 0
            got -= part
            self._begin_front()
            part = min(got, lengths[i])
            self.block_got = <uint32_t>part
            got -= part
            if self.block_got == self.block_length:
                self._finish_block()
            else:
                return 0
        if got and spilled:
            self._parse(spill, got)
        return 0

    cdef int _gather(self, iovec* v, int n, int i, size_t got) except -1:
        """The prediction failed at v[i]: parse the `got` bytes from there on as a plain stream."""
        cdef uint8_t* plain = <uint8_t*>malloc(got)
        cdef size_t at = 0, part
        if plain == NULL:
            raise MemoryError()
        while i < n and at < got:
            part = min(v[i].iov_len, got - at)
            memcpy(plain + at, v[i].iov_base, part)
            at += part
            i += 1
        try:
            self._parse(plain, at)
        finally:
            free(plain)
        return 0

    cdef int _parse(self, const uint8_t* p, size_t n) except -1:
        """The plain parser: any bytes, cut anywhere."""
        cdef size_t take
        cdef int need
        cdef uint32_t length
        while n and self.state != CLOSED:
            if self.state == IN_PAYLOAD:
                take = min(n, <size_t>(self.block_length - self.block_got))
                if self.block_mode == DIRECT:
                    memcpy((<Slot>self.block_slot).data + self.block_begin + self.block_got, p, take)
                elif self.block_mode == ASIDE:
                    memcpy(PyBytes_AS_STRING(<object>self.block_bytes) + self.block_got, p, take)
                self.block_got += <uint32_t>take
                if self.block_got == self.block_length:
                    self._finish_block()
            elif self.state == IN_MESSAGE:
                take = min(n, self.message_length - self.message_got)
                self._keep(p, take)
                if self.message_got == self.message_length:
                    self._dispatch()
            else:
                if self.state == IN_HANDSHAKE:
                    need = 48 if self.head_got < 48 else HANDSHAKE
                elif self.head_got < 4:
                    need = 4
                elif self.head_got == 4:
                    need = 5
                else:
                    need = HEADER
                take = min(n, <size_t>(need - self.head_got))
                memcpy(self.head + self.head_got, p, take)
                self.head_got += <int>take
                if self.head_got == need:
                    self._handle_head(need)
            p += take
            n -= take
        return 0

    cdef int _handle_head(self, int have) except -1:
        cdef uint32_t length
        if self.state == IN_HANDSHAKE:
            if have == 48:
                self.events.append((INFO_HASH_EVENT, PyBytes_FromStringAndSize(<char*>self.head, 48)))
            else:
                self.events.append((HANDSHAKE_EVENT, PyBytes_FromStringAndSize(<char*>self.head, HANDSHAKE)))
                self.state = IN_HEADER
                self.head_got = 0
            return 0
        length = btfast_read32(self.head)
        if have == 4:
            if length == 0:  # keep-alive
                self.head_got = 0
                self.messages += 1
        elif have == 5:
            if self.head[4] == 7:
                if length < 9 or length > 9 + LONGEST_BLOCK:
                    self._close(f"a piece message of {length} bytes")
            else:
                self.head_got = 0
                self._begin_message(self.head[4], length - 1)
        else:
            self.head_got = 0
            self._begin_block(btfast_read32(self.head + 5), btfast_read32(self.head + 9), length - 9)
        return 0

    cdef int _begin_message(self, uint8_t kind, size_t length) except -1:
        cdef bint right
        if kind <= 3 or kind == 14 or kind == 15:
            right = length == 0
        elif kind == 4 or kind == 13 or kind == 17:
            right = length == 4
        elif kind == 6 or kind == 8 or kind == 16:
            right = length == 12
        elif kind == 9:
            right = length == 2
        elif kind == 5:
            right = length <= self.bitfield_limit
        elif kind == 20:
            right = 1 <= length <= LONGEST_EXTENDED
        else:
            right = length <= LONGEST_UNKNOWN
        if not right:
            self._close(f"message {kind} with {length} bytes")
            return 0
        self.message_id = kind
        self.message_length = length
        self.message_got = 0
        self.state = IN_MESSAGE
        if length == 0:
            self._dispatch()
        return 0

    cdef int _keep(self, const uint8_t* p, size_t n) except -1:
        """Appends to the message; memory grows with what has come, not with what was promised."""
        cdef size_t room
        cdef uint8_t* grown
        if self.message_got + n > self.message_room:
            room = max(self.message_got + n, min(2 * self.message_room, self.message_length))
            grown = <uint8_t*>realloc(self.message, room)
            if grown == NULL:
                raise MemoryError()
            self.message = grown
            self.message_room = room
        memcpy(self.message + self.message_got, p, n)
        self.message_got += n
        return 0

    cdef int _dispatch(self) except -1:
        cdef uint8_t* m = self.message
        cdef uint8_t kind = self.message_id
        cdef size_t n = self.message_length
        self._report_landed()
        self.state = IN_HEADER
        self.messages += 1
        if kind <= 3 or kind == 14 or kind == 15:
            self.events.append((kind,))
        elif kind == 4 or kind == 13 or kind == 17:
            self.events.append((kind, btfast_read32(m)))
        elif kind == 6 or kind == 8 or kind == 16:
            self.events.append((kind, btfast_read32(m), btfast_read32(m + 4), btfast_read32(m + 8)))
        elif kind == 5:
            self.events.append((kind, PyBytes_FromStringAndSize(<char*>m, n)))
        elif kind == 9:
            self.events.append((kind, m[0] << 8 | m[1]))
        elif kind == 20:
            self.events.append((kind, m[0], PyBytes_FromStringAndSize(<char*>m + 1, n - 1)))
        if self.message_room > 4096:
            free(self.message)
            self.message = NULL
            self.message_room = 0
        return 0

    cdef int _begin_front(self) except -1:
        """The next expected block is beginning."""
        cdef Run* run = &self.runs[self.runs_head]
        self.block_index = run.index
        self.block_begin = run.begin
        self.block_length = min(<uint32_t>BLOCK, run.end - run.begin)
        self.block_got = 0
        self.block_mode = run.mode
        self.block_slot = run.slot
        self.outstanding -= self.block_length
        self.state = IN_PAYLOAD
        run.begin += self.block_length
        if run.begin == run.end:
            self.runs_head += 1  # the run's reference to the slot becomes the block's
            if self.runs_head == self.runs_end:
                self.runs_head = self.runs_end = 0
        else:
            Py_INCREF(<object>run.slot)
        if self.block_mode == ASIDE:
            self._set_aside()
        return 0

    cdef int _set_aside(self) except -1:
        held = PyBytes_FromStringAndSize(NULL, self.block_length)
        Py_INCREF(held)
        self.block_bytes = <PyObject*>held
        return 0

    cdef int _begin_block(self, uint32_t index, uint32_t begin, uint32_t length) except -1:
        """A block's header came through the plain parser: find its request, wherever it stands."""
        cdef int i
        cdef uint32_t end
        cdef Run* run
        for i in range(self.runs_head, self.runs_end):
            run = &self.runs[i]
            if run.index == index and run.begin <= begin < run.end and (begin - run.begin) % BLOCK == 0 \
                    and length == min(<uint32_t>BLOCK, run.end - begin):
                if i == self.runs_head and begin == run.begin:
                    return self._begin_front()
                Py_INCREF(<object>run.slot)
                self.block_slot = run.slot
                self.block_mode = run.mode
                self.outstanding -= length
                end = run.end
                self._cut(i, begin, begin + length)
                break
        else:
            self.block_mode = DISCARD
        self.block_index = index
        self.block_begin = begin
        self.block_length = length
        self.block_got = 0
        self.state = IN_PAYLOAD
        if self.block_mode == ASIDE:
            self._set_aside()
        if length == 0:
            self._finish_block()
        return 0

    cdef int _finish_block(self) except -1:
        self.state = IN_HEADER
        self.messages += 1
        if self.block_mode == DIRECT:
            self.payload += self.block_length
            if self.landed and self.landed_index == self.block_index \
                    and self.landed_begin + self.landed_length == self.block_begin:
                self.landed_length += self.block_length
            else:
                self._report_landed()
                self.landed = True
                self.landed_index = self.block_index
                self.landed_begin = self.block_begin
                self.landed_length = self.block_length
        elif self.block_mode == ASIDE:
            self.payload += self.block_length
            self._report_landed()
            self.events.append((BLOCK_EVENT, self.block_index, self.block_begin, <object>self.block_bytes))
        else:
            self.wasted += self.block_length
        self._forget_block()
        return 0

    cdef int _forget_block(self) except -1:
        self.block_mode = NOTHING
        if self.block_slot != NULL:
            Py_DECREF(<object>self.block_slot)
            self.block_slot = NULL
        if self.block_bytes != NULL:
            Py_DECREF(<object>self.block_bytes)
            self.block_bytes = NULL
        return 0

    cdef int _report_landed(self) except -1:
        if self.landed:
            self.landed = False
            self.events.append((7, self.landed_index, self.landed_begin, self.landed_length))
        return 0

    cdef int _close(self, str reason) except -1:
        self._report_landed()
        if self.state != CLOSED:
            self.state = CLOSED
            self.error = reason
            self.events.append((CLOSED_EVENT, reason))
        return 0

    # ---- requests ----

    def request(self, uint32_t index, uint32_t begin, uint32_t length, Slot slot not None, *, bint direct=True):
        """Asks for a run of blocks of one piece, from byte `begin` of it, `length` bytes, into `slot`. Sent by `flush`.

        `direct`: no other stream may write these bytes. ValueError when the run does not fit the slot or is cut amiss.
        """
        cdef uint32_t at = begin, part, end = begin + length
        cdef uint8_t* p
        if length == 0 or begin % BLOCK or end < begin or end > slot.length:
            raise ValueError(f"run {begin}+{length} of a slot of {slot.length} bytes")
        self._room_for_runs(1)
        cdef Run* run = &self.runs[self.runs_end]
        run.index = index
        run.begin = begin
        run.end = end
        run.mode = DIRECT if direct else ASIDE
        run.slot = <PyObject*>slot
        Py_INCREF(slot)
        self.runs_end += 1
        self.outstanding += length
        p = self._room_out(<size_t>((length + BLOCK - 1) // BLOCK) * 17)
        while at < end:
            part = min(<uint32_t>BLOCK, end - at)
            self._triple(p, 6, index, at, part)
            p += 17
            at += part

    cdef void _triple(self, uint8_t* p, uint8_t kind, uint32_t index, uint32_t begin, uint32_t length) noexcept:
        btfast_put32(p, 13)
        p[4] = kind
        btfast_put32(p + 5, index)
        btfast_put32(p + 9, begin)
        btfast_put32(p + 13, length)

    def cancel(self, uint32_t index, uint32_t begin, uint32_t length, *, bint tell=True):
        """Takes back what is still open of a run of blocks, one that is arriving included; `tell`: send cancels.

        Returns the bytes taken back. After this the stream writes nothing there any more.
        """
        cdef uint32_t end = begin + length, low, high
        cdef uint64_t removed = 0
        cdef int i = self.runs_head
        cdef uint8_t* p
        if self.state == IN_PAYLOAD and self.block_index == index and begin <= self.block_begin < end \
                and self.block_mode != DISCARD:
            removed += self.block_length
            self._forget_block()
            self.block_mode = DISCARD
        while i < self.runs_end:
            if self.runs[i].index == index and self.runs[i].begin < end and self.runs[i].end > begin:
                low = max(begin, self.runs[i].begin)
                high = min(end, self.runs[i].end)
                removed += high - low
                self.outstanding -= high - low
                if tell:
                    p = self._room_out(<size_t>((high - low + BLOCK - 1) // BLOCK) * 17)
                    begin_at = low
                    while begin_at < high:
                        self._triple(p, 8, index, begin_at, min(<uint32_t>BLOCK, high - <uint32_t>begin_at))
                        p += 17
                        begin_at += BLOCK
                i += self._cut(i, low, high)
            else:
                i += 1
        return removed

    def open_runs(self):
        """[(index, begin, length)] of the requests that have not been answered, oldest first; without the arriving block."""
        cdef int i
        return [(self.runs[i].index, self.runs[i].begin, self.runs[i].end - self.runs[i].begin)
                for i in range(self.runs_head, self.runs_end)]

    def drop_requests(self):
        """Forgets every open request, the arriving block included: the peer has choked us or is leaving."""
        cdef int i
        for i in range(self.runs_head, self.runs_end):
            Py_DECREF(<object>self.runs[i].slot)
        self.runs_head = self.runs_end = 0
        self.outstanding = 0
        if self.state == IN_PAYLOAD and self.block_mode != DISCARD:
            self._forget_block()
            self.block_mode = DISCARD

    cdef int _cut(self, int i, uint32_t low, uint32_t high) except -1:
        """Removes [low, high) from run i; returns how many pieces of the run are left in its place."""
        cdef Run* run = &self.runs[i]
        if run.begin == low and run.end == high:
            Py_DECREF(<object>run.slot)
            memmove(run, run + 1, (self.runs_end - i - 1) * sizeof(Run))
            self.runs_end -= 1
            return 0
        if run.begin == low:
            run.begin = high
            return 1
        if run.end == high:
            run.end = low
            return 1
        i -= self.runs_head
        self._room_for_runs(1)
        i += self.runs_head
        run = &self.runs[i]
        memmove(run + 1, run, (self.runs_end - i) * sizeof(Run))
        self.runs_end += 1
        Py_INCREF(<object>run.slot)
        run.end = low
        run[1].begin = high
        return 2

    cdef int _room_for_runs(self, int more) except -1:
        cdef Run* grown
        if self.runs_end + more <= self.runs_room:
            return 0
        if self.runs_head > self.runs_room // 2:
            memmove(self.runs, self.runs + self.runs_head, (self.runs_end - self.runs_head) * sizeof(Run))
            self.runs_end -= self.runs_head
            self.runs_head = 0
            return 0
        grown = <Run*>realloc(self.runs, <size_t>(2 * self.runs_room + 8) * sizeof(Run))
        if grown == NULL:
            raise MemoryError()
        self.runs = grown
        self.runs_room = 2 * self.runs_room + 8
        return 0

    # ---- out ----

    cdef uint8_t* _room_out(self, size_t n) except NULL:
        """Room for `n` more bytes of messages, already counted as filled."""
        cdef uint8_t* grown
        cdef size_t room
        if self.out_head and self.out_end + n > self.out_room:
            memmove(self.out, self.out + self.out_head, self.out_end - self.out_head)
            self.out_end -= self.out_head
            self.out_head = 0
        if self.out_end + n > self.out_room:
            room = max(2 * self.out_room, self.out_end + n, <size_t>64)
            grown = <uint8_t*>realloc(self.out, room)
            if grown == NULL:
                raise MemoryError()
            self.out = grown
            self.out_room = room
        self.out_end += n
        return self.out + self.out_end - n

    @property
    def unsent(self):
        """Bytes of messages (not of blocks) that wait for `flush`."""
        return self.out_end - self.out_head

    def send(self, const uint8_t[::1] message):
        """Queues whole messages, as bytes."""
        cdef size_t n = message.shape[0]
        if n:
            memcpy(self._room_out(n), &message[0], n)

    def send_block(self, uint32_t index, uint32_t begin, uint32_t length, list segments):
        """Queues a block to be sent. `segments`: [(owner, fd, offset, length)], fd -1 for zeros; `owner` is kept meanwhile.

        ValueError when the segments do not add up to `length`.
        """
        cdef uint64_t total = 0
        cdef Part* part
        cdef Part* grown
        cdef bint first = True
        for _, _, _, size in segments:
            total += <uint64_t>size
        if total != length or not segments:
            raise ValueError(f"block of {length} bytes from segments of {total}")
        if self.parts_end + len(segments) > self.parts_room:
            if self.parts_head:
                memmove(self.parts, self.parts + self.parts_head, (self.parts_end - self.parts_head) * sizeof(Part))
                self.parts_end -= self.parts_head
                self.parts_head = 0
            if self.parts_end + len(segments) > self.parts_room:
                grown = <Part*>realloc(self.parts, <size_t>(2 * self.parts_room + len(segments) + 8) * sizeof(Part))
                if grown == NULL:
                    raise MemoryError()
                self.parts = grown
                self.parts_room = 2 * self.parts_room + <int>len(segments) + 8
        for owner, fd, offset, size in segments:
            part = &self.parts[self.parts_end]
            part.index = index
            part.begin = begin
            part.length = length
            part.left = size
            part.offset = offset
            part.fd = fd
            part.header_left = HEADER if first else 0
            part.first = first
            part.owner = <PyObject*>owner
            Py_INCREF(owner)
            first = False
            self.parts_end += 1
        self.uploads += 1

    def cancel_block(self, uint32_t index, uint32_t begin, uint32_t length):
        """Takes a queued block back. True if it was there and had not begun to leave."""
        cdef int i = self.parts_head, end
        while i < self.parts_end:
            if self.parts[i].first and self.parts[i].header_left == HEADER and self.parts[i].index == index \
                    and self.parts[i].begin == begin and self.parts[i].length == length:
                end = i
                while end < self.parts_end and (end == i or not self.parts[end].first):
                    Py_DECREF(<object>self.parts[end].owner)
                    end += 1
                memmove(&self.parts[i], &self.parts[end], (self.parts_end - end) * sizeof(Part))
                self.parts_end -= end - i
                self.uploads -= 1
                return True
            i += 1
        return False

    def drop_blocks(self):
        """Takes back every queued block that has not begun to leave: [(index, begin, length)]."""
        cdef int i
        found = [(self.parts[i].index, self.parts[i].begin, self.parts[i].length)
                 for i in range(self.parts_head, self.parts_end)
                 if self.parts[i].first and self.parts[i].header_left == HEADER]
        return [block for block in found if self.cancel_block(block[0], block[1], block[2])]

    def flush(self):
        """Sends what can be sent. True when nothing is left; else call again when the socket is writable."""
        cdef ssize_t n
        cdef Part* part
        cdef uint8_t header[HEADER]
        cdef size_t piece
        while self.state != CLOSED:
            part = &self.parts[self.parts_head] if self.parts_head < self.parts_end else NULL
            if self.out_head < self.out_end and (part == NULL or (part.first and part.header_left == HEADER)):
                n = btfast_send(self.fd, self.out + self.out_head, self.out_end - self.out_head, part != NULL)
                if n > 0:
                    self.out_head += n
                    self.sent += n
                    if self.out_head == self.out_end:
                        self.out_head = self.out_end = 0
                        if self.out_room > 65536:
                            free(self.out)
                            self.out = NULL
                            self.out_room = 0
                    continue
            elif part == NULL:
                return True
            elif part.header_left:
                btfast_put32(header, 9 + part.length)
                header[4] = 7
                btfast_put32(header + 5, part.index)
                btfast_put32(header + 9, part.begin)
                n = btfast_send(self.fd, header + HEADER - part.header_left, part.header_left, True)
                if n > 0:
                    part.header_left -= <uint8_t>n
                    self.sent += n
                    continue
            else:
                if part.fd < 0:
                    piece = min(part.left, <uint32_t>BLOCK)
                    n = btfast_send(self.fd, zeros, piece, False)
                else:
                    n = btfast_sendfile(self.fd, part.fd, part.offset, part.left)
                    if n == 0:
                        self._close("a file that is being served has become shorter")
                        return False
                if n > 0:
                    self.sent += n
                    self.payload_sent += n
                    part.left -= <uint32_t>n
                    part.offset += n
                    if part.left == 0:
                        Py_DECREF(<object>part.owner)
                        self.parts_head += 1
                        if self.parts_head == self.parts_end:
                            self.parts_head = self.parts_end = 0
                            self.uploads -= 1
                        elif self.parts[self.parts_head].first:
                            self.uploads -= 1
                    continue
            if errno == EINTR:
                continue
            if errno != EAGAIN:
                self._close(os.strerror(errno))
            return False
        return False
