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
# per run and not per block. On an encrypted stream (MSE) what a readv brought is decrypted in place, in the order in which
# it came, before anybody looks at it. The parts: _requests knows what was asked for, _message what the other messages look like,
# _outbox what is to be sent; here is what reads. All streams share one scratch buffer: one thread drives them.
# https://www.bittorrent.org/beps/bep_0003.html, bep_0006 (fast), bep_0010 (extensions).

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

import os

from btfast._arena cimport Slot, place
from btfast._events cimport Events
from btfast._message cimport Message
from btfast._outbox cimport FAILED, HELD, SENT, Flush, Outbox
from btfast._rc4 cimport Rc4
from btfast._requests cimport ASIDE, DIRECT, DISCARD, Requests, Run, block_length, release
from btfast.framing cimport BLOCK, HANDSHAKE, PIECE_HEADER, piece_header, read32
from btfast.reading cimport iovec, read_some, readv

cdef enum:
    INFO_HASH_END = 48  # of a handshake
    PREDICT = 32  # blocks a readv predicts: half a MiB
    SPILL = 65536
    MOST = 1 << 20  # bytes read in one wake-up, so that one peer cannot starve the others
    MANY = 4096  # events after which a wake-up reads no further, for the same reason
    LONGEST_BLOCK = 131072
    REQUEST = 6

cdef uint64_t ANY = UINT64_MAX

CLOSED_EVENT = 256  # (256, reason): the stream has ended; nothing follows
BLOCK_EVENT = 258  # (258, index, begin, bytes): a block of an indirect request
HANDSHAKE_EVENT = 259  # (259, 68 bytes)
INFO_HASH_EVENT = 260  # (260, 48 bytes): enough of an incoming handshake to answer it
REQUESTS_EVENT = 261  # (261, index, begin, length): requests for the blocks of this range, in order, 16 KiB each

cdef uint8_t headers[PREDICT][PIECE_HEADER]
cdef uint8_t spill[SPILL]
cdef uint8_t gathered[PREDICT * (PIECE_HEADER + BLOCK) + SPILL]


@cython.final
@cython.no_gc
cdef class PeerStream:
    """One connected, non-blocking stream socket. `bitfield_limit`: the longest bitfield to accept, bytes.

    Feed it: `handle_readable` when there is something to read, `flush` when it may be written. It never closes the
    descriptor. Counters are bytes.
    """

    def __cinit__(self, int fd, *, size_t bitfield_limit=1 << 21):
        self.fd = fd
        self.bitfield_limit = bitfield_limit
        self.state = IN_HANDSHAKE
        self.events = Events.__new__(Events)
        self.asked = Requests.__new__(Requests)
        self.out = Outbox.__new__(Outbox)
        self.message = Message.__new__(Message)

    def __dealloc__(self):
        release(&self.block)

    def __sizeof__(self):
        parts = (self.asked, self.out, self.message, self.events, self.cipher)
        return object.__sizeof__(self) + sum([part.__sizeof__() for part in parts])

    def handle_readable(self, size_t most=MOST):
        """Reads what is there and returns the events, in order: see `btfast.wire.ids` and the constants above.

        `most`: bytes to read at most; without it so many that one peer cannot starve the others.
        """
        cdef iovec v[2 * PREDICT + 2]
        cdef size_t lengths[PREDICT]
        cdef size_t wanted, budget = most
        cdef int n, first, blocks, error
        cdef bint spilled
        cdef ssize_t got
        while self.state != CLOSED and most:
            n = blocks = 0
            wanted = 0
            spilled = True
            if self.state == IN_PAYLOAD:
                n = self._place_rest(v)
                wanted = v[0].iov_len
                spilled = wanted == self.block.length - self.block.got
            first = n
            if self.state == IN_PAYLOAD and spilled or self.state == IN_HEADER:
                blocks = self._predict(v + n, lengths, &wanted)
                n += 2 * blocks
            if spilled and blocks < PREDICT:
                v[n].iov_base = spill
                v[n].iov_len = SPILL
                wanted += SPILL
                n += 1
            else:
                spilled = False
            got = readv(self.fd, v, n) if budget == MOST else read_some(self.fd, v, n, budget)
            if got <= 0:
                error = errno
                if got == 0:
                    self._close("closed by the peer")
                elif error == EINTR:
                    continue
                elif error != EAGAIN:
                    self._close(os.strerror(error))
                break
            self.received += got
            if self.cipher is not None:  # of a block that is thrown away the spill may hold what follows already
                self.cipher.apply_read(v, n, got, first and self.block.mode == DISCARD)
            self._walk(v, n, first, blocks, lengths, got, spilled)
            if <size_t>got < wanted or <size_t>got >= budget or len(self.events.found) >= MANY:
                break
            budget -= got
        return self.events.take()

    def handle_bytes(self, const uint8_t[::1] data not None):
        """The same for bytes that were read, and decrypted, before this stream had the socket."""
        self.received += <uint64_t>data.shape[0]
        if data.shape[0]:
            self._parse(&data[0], <size_t>data.shape[0])
        return self.events.take()

    def encrypt(self, Rc4 incoming not None, Rc4 outgoing not None):
        """From here on all that is read and sent goes through these. What is queued has not been sent yet."""
        self.cipher = incoming
        self.out.cipher = outgoing

    cdef int _place_rest(self, iovec* v) except -1:
        cdef size_t left = self.block.length - self.block.got
        if self.block.mode == DIRECT:
            v[0].iov_base = place(<Slot>self.block.slot, self.block.begin) + self.block.got
        elif self.block.mode == ASIDE:
            v[0].iov_base = PyBytes_AS_STRING(<object>self.block.aside) + self.block.got
        else:
            v[0].iov_base = spill
            left = min(left, <size_t>SPILL)
        v[0].iov_len = left
        return 1

    cdef void _front_header(self, uint8_t* header) noexcept:
        cdef Run* run = &self.asked.runs[self.asked.head]
        piece_header(header, run.index, run.begin, block_length(run, run.begin))

    cdef int _predict(self, iovec* v, size_t* lengths, size_t* wanted) except -1:
        """Fills `v` with headers and places of the next blocks; returns how many.

        Bytes of a header that are here already stand in front of the first one, whatever they turn out to be.
        """
        cdef int blocks = 0, i = self.asked.head
        cdef int skip = self.head_got if self.state == IN_HEADER else 0
        cdef uint32_t begin
        cdef Run* run
        while i < self.asked.end:
            run = &self.asked.runs[i]
            if run.mode != DIRECT:
                break
            begin = run.begin
            while begin < run.end:
                if blocks == PREDICT:
                    return blocks
                lengths[blocks] = block_length(run, begin)
                if skip:
                    memcpy(headers[0], self.head, skip)
                v[2 * blocks].iov_base = headers[blocks] + skip
                v[2 * blocks].iov_len = PIECE_HEADER - skip
                v[2 * blocks + 1].iov_base = place(<Slot>run.slot, begin)
                v[2 * blocks + 1].iov_len = lengths[blocks]
                wanted[0] += PIECE_HEADER - skip + lengths[blocks]
                begin += <uint32_t>lengths[blocks]
                skip = 0
                blocks += 1
            i += 1
        return blocks

    cdef int _walk(self, iovec* v, int n, int first, int blocks, size_t* lengths, size_t got, bint spilled) except -1:
        """Makes sense of `got` bytes that a readv laid out over `v`."""
        cdef int i
        cdef size_t part, held
        cdef uint8_t expected[PIECE_HEADER]
        if first:
            part = min(got, v[0].iov_len)
            self.block.got += <uint32_t>part
            got -= part
            if self.block.got == self.block.length:
                self._finish_block()
        for i in range(blocks):
            if got == 0:
                return 0
            part = v[first + 2 * i].iov_len
            held = PIECE_HEADER - part
            self._front_header(expected)
            if got < part or memcmp(expected, headers[i], PIECE_HEADER):
                if got < part and memcmp(expected, headers[i], held + got) == 0:
                    memcpy(self.head, headers[i], held + got)
                    self.head_got = <int>(held + got)
                    return 0
                self.head_got = <int>held
                return self._gather(v, n, first + 2 * i, got)
            self.head_got = 0
            got -= part
            self.asked.take_front(&self.block)
            self.state = IN_PAYLOAD
            part = min(got, lengths[i])
            self.block.got = <uint32_t>part
            got -= part
            if self.block.got == self.block.length:
                self._finish_block()
            else:
                return 0
        if got and spilled:
            self._parse(spill, got)
        return 0

    cdef int _gather(self, iovec* v, int n, int i, size_t got) except -1:
        """The prediction failed at v[i]: parse the `got` bytes from there on as a plain stream."""
        cdef size_t at = 0, part
        while i < n and at < got:
            part = min(v[i].iov_len, got - at)
            memcpy(gathered + at, v[i].iov_base, part)
            at += part
            i += 1
        return self._parse(gathered, at)

    cdef int _parse(self, const uint8_t* p, size_t n) except -1:
        """The plain parser: any bytes, cut anywhere."""
        cdef size_t take
        cdef int need
        cdef uint32_t length
        while n and self.state != CLOSED:
            if self.state == IN_PAYLOAD:
                take = min(n, <size_t>(self.block.length - self.block.got))
                if self.block.mode == DIRECT:
                    memcpy(place(<Slot>self.block.slot, self.block.begin) + self.block.got, p, take)
                elif self.block.mode == ASIDE:
                    memcpy(PyBytes_AS_STRING(<object>self.block.aside) + self.block.got, p, take)
                self.block.got += <uint32_t>take
                if self.block.got == self.block.length:
                    self._finish_block()
            elif self.state == IN_MESSAGE:
                take = min(n, self.message.length - self.message.got)
                self.message.append(p, take)
                if self.message.got == self.message.length:
                    self._finish_message()
            else:
                if self.state == IN_HANDSHAKE:
                    need = INFO_HASH_END if self.head_got < INFO_HASH_END else HANDSHAKE
                elif self.head_got < 4:
                    need = 4
                elif self.head_got == 4:
                    need = 5
                else:
                    need = PIECE_HEADER
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
            if have == INFO_HASH_END:
                self.events.add((INFO_HASH_EVENT, PyBytes_FromStringAndSize(<char*>self.head, INFO_HASH_END)))
            else:
                self.events.add((HANDSHAKE_EVENT, PyBytes_FromStringAndSize(<char*>self.head, HANDSHAKE)))
                self.state = IN_HEADER
                self.head_got = 0
            return 0
        length = read32(self.head)
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
            self._begin_block(read32(self.head + 5), read32(self.head + 9), length - 9)
        return 0

    cdef int _begin_message(self, uint8_t kind, size_t length) except -1:
        if not self.message.begin(kind, length, self.bitfield_limit):
            return self._close(f"message {kind} with {length} bytes")
        self.state = IN_MESSAGE
        if length == 0:
            self._finish_message()
        return 0

    cdef int _finish_message(self) except -1:
        self.state = IN_HEADER
        self.messages += 1
        if self.message.kind == REQUEST:
            return self.events.asked(read32(self.message.data), read32(self.message.data + 4), read32(self.message.data + 8))
        event = self.message.finish()
        return 0 if event is None else self.events.add(event)

    cdef int _begin_block(self, uint32_t index, uint32_t begin, uint32_t length) except -1:
        """A block's header came through the plain parser: find its request, wherever it stands."""
        if not self.asked.take(index, begin, length, &self.block):
            self.block.mode = DISCARD
            self.block.index = index
            self.block.begin = begin
            self.block.length = length
            self.block.got = 0
        self.state = IN_PAYLOAD
        if length == 0:
            self._finish_block()
        return 0

    cdef int _finish_block(self) except -1:
        self.state = IN_HEADER
        self.messages += 1
        if self.block.mode == DIRECT:
            self.payload += self.block.length
            self.events.landed(self.block.index, self.block.begin, self.block.length)
        elif self.block.mode == ASIDE:
            self.payload += self.block.length
            self.events.add((BLOCK_EVENT, self.block.index, self.block.begin, <object>self.block.aside))
        else:
            self.wasted += self.block.length
        return release(&self.block)

    cdef int _close(self, str reason) except -1:
        if self.state != CLOSED:
            self.state = CLOSED
            self.error = reason
            self.events.add((CLOSED_EVENT, reason))
        return 0

    # requests

    @property
    def outstanding(self):
        """Bytes asked for that have not begun to arrive."""
        return self.asked.outstanding

    def request(self, uint32_t index, uint32_t begin, uint32_t length, Slot slot not None, *, bint direct=True):
        """Asks for a run of blocks of one piece, from byte `begin` of it, `length` bytes, into `slot`. Sent by `flush`.

        `direct`: no other stream may write these bytes. ValueError when the run does not fit the slot or is cut amiss.
        """
        cdef uint64_t end = <uint64_t>begin + length
        if length == 0 or begin % BLOCK or begin < slot.first or end > slot.first + slot.length or end > 0xFFFFFFFF:
            raise ValueError(f"run {begin}+{length} of a slot of {slot.first}+{slot.length}")
        self.asked.reserve(1)
        self.out.put_requests(6, index, begin, end)
        self.asked.add(index, begin, <uint32_t>end, DIRECT if direct else ASIDE, slot)

    def cancel(self, uint32_t index, uint32_t begin, uint32_t length, *, bint tell=True):
        """Takes back what is still open of a range: the whole blocks in it, one that is arriving included.

        `tell`: send cancels for those that have not begun to arrive. Returns the bytes taken back. After this the
        stream writes nothing there any more.
        """
        cdef uint64_t end = <uint64_t>begin + length, taken = 0
        if self._arriving() and self.block.index == index and begin <= self.block.begin \
                and <uint64_t>self.block.begin + self.block.length <= end:
            taken = self.block.length
            self._abandon()
        return taken + <uint64_t>self.asked.cancel(index, begin, end, self.out if tell else None)

    def drop_requests(self):
        """Forgets every open request, the arriving block included: the peer has choked us or is leaving."""
        self.asked.drop()
        if self._arriving():
            self._abandon()

    def open_runs(self):
        """[(index, begin, length)] of the requests that have not been answered, oldest first; without the arriving block."""
        return self.asked.listed()

    cdef bint _arriving(self) noexcept:
        return self.block.mode == DIRECT or self.block.mode == ASIDE

    cdef int _abandon(self) except -1:
        """The rest of the arriving block is thrown away."""
        release(&self.block)
        self.block.mode = DISCARD
        return 0

    # out

    @property
    def sent(self):
        """Bytes sent, blocks included."""
        return self.out.sent

    @property
    def payload_sent(self):
        """Bytes of blocks sent."""
        return self.out.payload_sent

    @property
    def uploads(self):
        """Blocks that wait to be sent or are being sent."""
        return self.out.blocks.count

    @property
    def uploading(self):
        """The piece of the block that is being sent or comes next; -1: none."""
        return self.out.blocks.parts[self.out.blocks.head].index if self.out.blocks.count else -1

    @property
    def unsent(self):
        """Bytes of messages (not of blocks) that wait for `flush`."""
        return self.out.end - self.out.head

    def send(self, const uint8_t[::1] message not None):
        """Queues whole messages, as bytes."""
        if message.shape[0]:
            self.out.put(&message[0], message.shape[0])

    def send_block(self, uint32_t index, uint32_t begin, uint32_t length, list segments not None):
        """Queues a block to be sent. `segments`: [(owner, fd, offset, length)], fd -1 for zeros; `owner` is kept meanwhile.

        ValueError when the segments do not add up to `length`.
        """
        self.out.blocks.put(index, begin, length, max(length, 1), segments)

    def send_blocks(self, uint32_t index, uint32_t begin, uint32_t length, list segments not None):
        """The same for all blocks of a range: 16 KiB each, the last may be shorter."""
        self.out.blocks.put(index, begin, length, BLOCK, segments)

    def cancel_block(self, uint32_t index, uint32_t begin, uint32_t length):
        """Takes a queued block back. True if it was there and had not begun to leave."""
        return self.out.blocks.cancel(index, begin, length)

    def drop_blocks(self):
        """Takes back every queued block that has not begun to leave: [(index, begin, length)]."""
        return self.out.blocks.drop()

    def flush(self, uint64_t most=ANY):
        """Sends what can be sent, of blocks `most` bytes. True when nothing is left.

        Else call again: when the socket is writable, or where `held` is true, when more may be sent.
        Where sending fails the stream has ended: `error` says why, and the next `handle_readable` returns the event.
        """
        cdef Flush result
        self.held = False
        if self.state == CLOSED:
            return False
        result = self.out.flush(self.fd, most)
        self.held = result == HELD
        if result == FAILED:
            self._close(self.out.failure)
        return result == SENT
