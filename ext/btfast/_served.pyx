# Files that blocks are served from, and the windows through which the kernel copies them into sockets.
#
# A window is a MiB of a file, mapped. This process never looks into one: its address is only ever given to sendmsg. So a
# file that is cut short meanwhile is an EFAULT of that call, never a SIGBUS. One copy, and one system call for dozens of
# blocks: measured on loopback with bare senders in C against 16 KiB sendfiles with corked headers 0.18 to 0.32 CPU s/GiB,
# and the receiver pays two thirds. There are few windows, of all files together, and who needs another one takes the one that was not
# used for longest: what is mapped, and counts as resident, stays small.

cimport cython
from libc.errno cimport ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
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
    WINDOWS = 32
    WORTH = 1 << 16  # bytes for which a window is opened: fewer are read

cdef struct Window:
    void* base  # NULL: free
    void* file  # the ServedFile, which closes its windows before it ends
    int64_t number
    uint64_t used
    uint64_t batch  # of bytes that it was last used for

cdef Window windows[WINDOWS]
cdef uint64_t clock = 0


cdef void _close(Window* window) noexcept:
    if window.base != NULL:
        munmap(window.base, WINDOW)
        window.base = window.file = NULL
        window.used = 0


@cython.final
@cython.no_gc
cdef class ServedFile:
    """An open file that blocks are served from. It closes `fd` at its end."""

    def __cinit__(self, int fd):
        if fd < 0:
            raise ValueError(f"descriptor {fd}")
        self.fd = fd

    def __dealloc__(self):
        cdef int i
        for i in range(WINDOWS):
            if windows[i].file == <void*>self:
                _close(&windows[i])
        close(self.fd)

    def read_ahead(self, int64_t offset, int64_t length):
        """Has the kernel begin to read these bytes, if it does not hold them: they are wanted soon."""
        btfast_read_ahead(self.fd, offset, length)

    cdef const uint8_t* place(self, int64_t offset, size_t* length, uint64_t batch) noexcept:
        """Where the kernel finds the bytes from `offset` on, `length` of them at most; it is set to how many they are.

        NULL: read them instead. Windows that the same batch uses stay open.
        """
        global clock
        cdef int i, oldest = 0
        cdef int64_t number = offset // WINDOW
        cdef size_t at = <size_t>(offset % WINDOW), wanted = length[0]
        cdef Window* window
        cdef void* base
        clock += 1
        length[0] = min(wanted, <size_t>WINDOW - at)
        for i in range(WINDOWS):
            window = &windows[i]
            if window.file == <void*>self and window.number == number:
                window.used = clock
                window.batch = batch
                return <const uint8_t*>window.base + at
            if window.used < windows[oldest].used:
                oldest = i
        window = &windows[oldest]
        if wanted < WORTH or self.unmappable or window.base != NULL and window.batch == batch:
            return NULL
        base = mmap(NULL, WINDOW, PROT_READ, MAP_SHARED, self.fd, number * WINDOW)
        if base == MAP_FAILED:
            self.unmappable = errno != ENOMEM
            return NULL
        _close(window)
        window.base = base
        window.file = <void*>self
        window.number = number
        window.used = clock
        window.batch = batch
        return <const uint8_t*>base + at


def open_windows():
    """How many windows are open."""
    cdef int i
    return sum([windows[i].base != NULL for i in range(WINDOWS)])
