# Files that blocks are served from, and the windows through which the kernel copies them into sockets.
#
# A window is a MiB of a file, mapped. This process never looks into one: its address is only given to the kernel. So a
# file that is cut short meanwhile is an EFAULT of a call, never a SIGBUS. One copy at most (_splice), and one call for
# dozens of blocks: measured on loopback with bare senders in C against 16 KiB sendfiles with corked headers 0.28 to 0.39
# CPU s/GiB.
#
# A third of those 0.28 is mapping pages and unmapping them. The peers of a torrent want the same pieces, each at another
# time: so many windows stay open that most pages are mapped already, which leaves 0.21. Populating windows costs more
# than faults around each page (0.37), and so does reading into a buffer (0.35). The windows are of all files together,
# and who needs one more takes the one that was not used for longest. What is mapped counts as resident, though it is the
# page cache, which the system takes back when it needs the room: so there are no more windows than leaves the budget
# whole (`keep`), and those that nobody uses are closed after a while.

cimport cython
from libc.errno cimport ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.unistd cimport close

import os

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, int64_t offset)
    int munmap(void* address, size_t length)
    int PROT_READ, MAP_SHARED
    void* MAP_FAILED

cdef extern from *:
    """
    #include <fcntl.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    /* Whether the byte is in memory, as far as can be told. */
    static int btfast_is_cached(int fd, int64_t offset) {
    #ifdef RWF_NOWAIT
        char byte;
        struct iovec v = {&byte, 1};
        return preadv2(fd, &v, 1, (off_t)offset, RWF_NOWAIT) == 1;
    #else
        (void)fd; (void)offset;
        return 0;
    #endif
    }
    /* Has the kernel begin to read: advice, and no more than that. Where both ends are in memory the rest is taken to be
     * there: looking for each page costs ten times as much. */
    static void btfast_read_ahead(int fd, int64_t offset, int64_t length) {
    #ifdef POSIX_FADV_WILLNEED
        if (length > 0 && btfast_is_cached(fd, offset) && btfast_is_cached(fd, offset + length - 1))
            return;
        (void)posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
    #else
        (void)fd; (void)offset; (void)length;
    #endif
    }
    """
    void btfast_read_ahead(int fd, int64_t offset, int64_t length) nogil

cdef enum:
    WINDOW = 1 << 20
    WINDOWS = 512
    BUCKETS = 1024
    WORTH = 1 << 16  # bytes for which a window is opened: fewer are read
    NONE = -1

MOST_WINDOWS = WINDOWS
WINDOW_SIZE = WINDOW  # bytes

cdef struct Window:
    void* base
    void* file  # NULL: it is not open. The ServedFile, which closes its windows before it ends
    int64_t number
    uint64_t batch  # of bytes that it was last used for
    uint32_t period  # in which it was
    int newer  # by last use, over the open ones
    int older
    int next  # in its bucket

cdef Window windows[WINDOWS]
cdef int buckets[BUCKETS]
cdef int unused[WINDOWS]  # those that are not open
cdef int newest = NONE
cdef int oldest = NONE
cdef int opened = 0
cdef int most = WINDOWS
cdef uint32_t period = 0  # between two calls of close_unused


cdef void _prepare() noexcept:
    cdef int i
    for i in range(BUCKETS):
        buckets[i] = NONE
    for i in range(WINDOWS):
        unused[i] = i


cdef int* _bucket(void* file, int64_t number) noexcept:
    cdef uint64_t mixed = (<uint64_t><size_t>file // 16 + <uint64_t>number) * 0x9E3779B97F4A7C15u
    return &buckets[mixed >> 54]


cdef void _take_out(int i) noexcept:
    """Out of the order of last use."""
    global newest, oldest
    cdef Window* window = &windows[i]
    if window.newer == NONE:
        newest = window.older
    else:
        windows[window.newer].older = window.older
    if window.older == NONE:
        oldest = window.newer
    else:
        windows[window.older].newer = window.newer


cdef void _put_first(int i) noexcept:
    """Into the order of last use, as the newest."""
    global newest, oldest
    windows[i].newer = NONE
    windows[i].older = newest
    if newest == NONE:
        oldest = i
    else:
        windows[newest].newer = i
    newest = i


cdef void _used(int i, uint64_t batch) noexcept:
    windows[i].batch = batch
    windows[i].period = period
    if i != newest:
        _take_out(i)
        _put_first(i)


cdef void _close(int i) noexcept:
    global opened
    cdef Window* window = &windows[i]
    cdef int* link = _bucket(window.file, window.number)
    while link[0] != i:
        link = &windows[link[0]].next
    link[0] = window.next
    munmap(window.base, WINDOW)
    window.file = NULL
    _take_out(i)
    opened -= 1
    unused[WINDOWS - opened - 1] = i


_prepare()


@cython.final
@cython.no_gc
cdef class ServedFile:
    """An open file that blocks are served from. It closes `fd` at its end."""

    def __cinit__(self, int fd):
        self.fd = fd
        if fd < 0:
            raise ValueError(f"descriptor {fd}")

    def __dealloc__(self):
        cdef int i
        for i in range(WINDOWS):
            if windows[i].file == <void*>self:
                _close(i)
        if self.fd >= 0:
            close(self.fd)

    def read_ahead(self, int64_t offset, int64_t length):
        """Has the kernel begin to read these bytes, if it does not hold them: they are wanted soon."""
        btfast_read_ahead(self.fd, offset, length)

    cdef const uint8_t* place(self, int64_t offset, size_t* length, uint64_t batch) noexcept:
        """Where the kernel finds the bytes from `offset` on, `length` of them at most; it is set to how many they are.

        NULL: read them instead. Windows that the same batch uses stay open.
        """
        global opened
        cdef int* bucket
        cdef int64_t number = offset // WINDOW
        cdef size_t at = <size_t>(offset % WINDOW), wanted = length[0]
        cdef Window* window
        cdef void* base
        cdef int i
        length[0] = min(wanted, <size_t>WINDOW - at)
        bucket = _bucket(<void*>self, number)
        i = bucket[0]
        while i != NONE:
            window = &windows[i]
            if window.file == <void*>self and window.number == number:
                _used(i, batch)
                return <const uint8_t*>window.base + at
            i = window.next
        if wanted < WORTH or self.unmappable or (opened >= most and (oldest == NONE or windows[oldest].batch == batch)):
            return NULL
        base = mmap(NULL, WINDOW, PROT_READ, MAP_SHARED, self.fd, number * WINDOW)
        if base == MAP_FAILED:
            self.unmappable = errno != ENOMEM
            return NULL
        if opened >= most:
            _close(oldest)
        opened += 1
        i = unused[WINDOWS - opened]
        window = &windows[i]
        window.base = base
        window.file = <void*>self
        window.number = number
        window.next = bucket[0]
        bucket[0] = i
        window.batch = batch
        window.period = period
        _put_first(i)
        return <const uint8_t*>base + at


def open_windows():
    """How many windows are open, of MOST_WINDOWS; a MiB each."""
    return opened


def keep(int count):
    """From now on at most so many windows are open: 0 to MOST_WINDOWS."""
    global most
    most = min(max(count, 0), WINDOWS)
    while opened > most:
        _close(oldest)


def close_unused():
    """To be called now and then: closes the windows that have not been used since the call before the last one."""
    global period
    period += 1
    while oldest != NONE and period - windows[oldest].period >= 2:
        _close(oldest)
