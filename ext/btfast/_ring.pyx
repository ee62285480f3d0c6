# Single-producer single-consumer rings of 128-byte records between the network process and a worker.
#
# Each ring: a page of control words, the consumer's and the producer's on cache lines of their own, then the records.
# `head` counts records taken, `tail` records put; both only grow. The consumer says in `sleeping` that it is about to
# wait, then looks once more; the producer looks at `sleeping` after it has put something and only then pays for a
# system call. Both sides order the two steps with a full fence, so one of them always sees the other.

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import os

from btfast._arena import shared_memory

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void* MAP_FAILED

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void* data, size_t length)
    ssize_t read(int fd, void* data, size_t length)

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t btfast_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void btfast_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void btfast_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    """
    uint64_t btfast_load(const uint64_t* p) nogil
    void btfast_store(uint64_t* p, uint64_t v) nogil
    void btfast_fence() nogil

cdef enum:
    CONTROL = 4096
    RECORD = 128
    MOST = 1 << 24
    TAIL = 64  # offset of the producer's word
    SLEEPING = 128
    DIGEST = 64  # room for the 52 bytes that verify a piece of a hybrid, or the 40 that say which file it is
    COMPLETION = 128  # kinds from here on answer a job

cdef struct Record:
    uint64_t job
    uint64_t offset  # of the payload in the arena
    uint32_t torrent
    uint32_t index
    uint32_t length
    uint8_t kind
    uint8_t status
    uint16_t detail  # a completion: what its kind says
    uint8_t digest[DIGEST]
    uint16_t size  # bytes of digest


def ring_bytes(size_t capacity):
    """Bytes of shared memory that a ring of `capacity` records needs, whole pages. ValueError above 16 Mi records."""
    if capacity > MOST:
        raise ValueError(f"a ring of {capacity} records: at most {MOST}")
    return CONTROL + (capacity * RECORD + CONTROL - 1) // CONTROL * CONTROL


@cython.final
cdef class Ring:
    """One direction between two processes.

    `fd`, `position`: where the ring lies in shared memory; `capacity`: records, a power of two; `wake_fd`: an eventfd (or
    the writing end of a pipe for the producer, the reading end for the consumer). ValueError, OSError.
    """

    cdef readonly int wake_fd
    cdef readonly size_t capacity
    cdef uint8_t* base
    cdef void* mapping
    cdef size_t mapped
    cdef bint is_eventfd

    def __cinit__(self, int fd, size_t position, size_t capacity, int wake_fd, *, bint is_eventfd=True):
        if capacity == 0 or capacity & (capacity - 1) or position % CONTROL:
            raise ValueError("a ring's capacity is a power of two and its position a multiple of 4096")
        if os.fstat(fd).st_size < position + ring_bytes(capacity):  # a look past the end would be SIGBUS
            raise ValueError(f"a ring of {capacity} records at {position}: the memory is shorter")
        self.capacity = capacity
        self.wake_fd = wake_fd
        self.is_eventfd = is_eventfd
        self.mapped = ring_bytes(capacity)
        self.mapping = mmap(NULL, self.mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, <long>position)
        if self.mapping == MAP_FAILED:
            self.mapping = NULL
            raise OSError(errno, os.strerror(errno))
        self.base = <uint8_t*>self.mapping

    def __dealloc__(self):
        if self.mapping != NULL:
            munmap(self.mapping, self.mapped)

    cdef inline uint64_t* _head(self) noexcept:
        return <uint64_t*>self.base

    cdef inline uint64_t* _tail(self) noexcept:
        return <uint64_t*>(self.base + TAIL)

    cdef inline uint64_t* _sleeping(self) noexcept:
        return <uint64_t*>(self.base + SLEEPING)

    cdef inline Record* _record(self, uint64_t n) noexcept:
        return <Record*>(self.base + CONTROL + (n & (self.capacity - 1)) * RECORD)

    def __len__(self):
        return <Py_ssize_t>self._waiting(btfast_load(self._head()), btfast_load(self._tail()))

    cdef uint64_t _waiting(self, uint64_t head, uint64_t tail) except? 0xFFFFFFFF:
        # The other side may be broken only by our own bug; a torn count must still not lead outside the ring.
        if tail - head > self.capacity:
            raise ValueError(f"ring counters are damaged: {head} taken, {tail} put, room for {self.capacity}")
        return tail - head

    def put(self, uint8_t kind, uint64_t job, uint32_t torrent, uint32_t index, uint64_t offset, uint32_t length,
            bytes digest not None=b"", uint8_t status=0, uint16_t detail=0):
        """Puts one record; False when the ring is full. Wakes nobody: call `wake` after the last one of a batch.

        It may carry a `digest` of up to 64 bytes; a completion (`kind` from 128 on) a `detail`, too. ValueError,
        OverflowError, also when the counters are damaged.
        """
        cdef uint64_t tail = btfast_load(self._tail())
        cdef Py_ssize_t size = len(digest)
        if size > DIGEST or (detail and kind < COMPLETION):
            raise ValueError("a digest has at most 64 bytes, and a job carries no detail")
        if self._waiting(btfast_load(self._head()), tail) == self.capacity:
            return False
        cdef Record* record = self._record(tail)
        record.job = job
        record.offset = offset
        record.torrent = torrent
        record.index = index
        record.length = length
        record.kind = kind
        record.status = status
        record.detail = detail
        record.size = <uint16_t>size
        memcpy(record.digest, <const char*>digest, size)
        btfast_store(self._tail(), tail + 1)
        return True

    def wake(self):
        """Wakes the consumer if it sleeps."""
        cdef uint64_t one = 1
        btfast_fence()
        if btfast_load(self._sleeping()):
            btfast_store(self._sleeping(), 0)
            while write(self.wake_fd, &one, 8 if self.is_eventfd else 1) < 0:
                if errno == EAGAIN:  # it holds an unread wake-up already
                    return
                if errno != EINTR:
                    raise OSError(errno, os.strerror(errno))

    def take(self, size_t most=1024):
        """Up to `most` records: [(kind, job, torrent, index, offset, length, digest, status, detail)].

        ValueError when the counters are damaged.
        """
        cdef uint64_t head = btfast_load(self._head())
        cdef uint64_t tail = btfast_load(self._tail())
        cdef Record* record
        cdef list found = []
        self._waiting(head, tail)
        while head != tail and <size_t>len(found) < most:
            record = self._record(head)
            found.append((
                record.kind, record.job, record.torrent, record.index, record.offset, record.length,
                (<const char*>record.digest)[: min(record.size, DIGEST)],
                record.status, record.detail,
            ))
            head += 1
        btfast_store(self._head(), head)
        return found

    def prepare_sleep(self):
        """The consumer is about to wait on `wake_fd`. True if it may; False when there is something to take first."""
        btfast_store(self._sleeping(), 1)
        btfast_fence()
        if btfast_load(self._tail()) != btfast_load(self._head()):
            btfast_store(self._sleeping(), 0)
            return False
        return True

    def drain(self):
        """Takes the wake-up out of `wake_fd` (which must not block)."""
        cdef uint8_t sink[64]
        cdef ssize_t got = read(self.wake_fd, sink, 8 if self.is_eventfd else 64)
        if got < 0 and errno != EAGAIN and errno != EINTR:
            raise OSError(errno, os.strerror(errno))

    def reset(self):
        """Empties the ring; only while the other side is dead."""
        memset(self.base, 0, CONTROL)
