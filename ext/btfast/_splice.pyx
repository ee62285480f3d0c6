# Pages that go into a socket as they are: by vmsplice into a pipe, by splice out of it. Linux alone.
#
# The kernel then copies nothing on our side, and on loopback the other side finds the pages in its cache. Measured with
# bare senders in C that map each MiB and send its 64 blocks on loopback, CPU s/GiB of the sender and of the receiver:
# sendmsg 0.38 and 0.59, through a pipe 0.27 and 0.44, splice of each block from its file 0.35 and 0.33.
#
# What is in a pipe belongs to one stream, so a stream has a pipe to itself until that is empty, which under load it seldom
# is. There are MOST at a time, and who gets none copies. Bytes that were given to a pipe must stay as they are until the
# peer has acknowledged them, and nobody tells when that is: headers lie in memory that is written once, and given up when
# it is full.
#
# Before Linux 6.5 a socket takes one page a call from a pipe, which costs more than copying.

from libc.errno cimport EAGAIN, EFAULT, EINTR, errno
from libc.stdint cimport uint8_t
from posix.unistd cimport close

import os
import sys

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <sys/mman.h>
    #include <sys/uio.h>
    #include <unistd.h>
    #ifdef SPLICE_F_NONBLOCK
    static int btfast_pipe(int ends[2], int size) {
        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) return -1;
        if (fcntl(ends[1], F_SETPIPE_SZ, size) >= size) return 0;
        close(ends[0]); close(ends[1]);
        return -1;
    }
    static ssize_t btfast_vmsplice(int fd, const struct iovec *v, int n) {
        return vmsplice(fd, v, (size_t)n, SPLICE_F_NONBLOCK);
    }
    static ssize_t btfast_splice(int from, int to, size_t n, int more) {
        return splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | (more ? SPLICE_F_MORE : 0));
    }
    #else
    static int btfast_pipe(int ends[2], int size) { (void)ends; (void)size; return -1; }
    static ssize_t btfast_vmsplice(int fd, const struct iovec *v, int n) {
        (void)fd; (void)v; (void)n;
        errno = ENOSYS;
        return -1;
    }
    static ssize_t btfast_splice(int from, int to, size_t n, int more) {
        (void)from; (void)to; (void)n; (void)more;
        errno = ENOSYS;
        return -1;
    }
    #endif
    static void *btfast_fresh(void *old, size_t size) {
        void *found;
        if (old) munmap(old, size);
        found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return found == MAP_FAILED ? NULL : found;
    }
    """
    int btfast_pipe(int* ends, int size) nogil
    ssize_t btfast_vmsplice(int fd, const iovec* v, int n) nogil
    ssize_t btfast_splice(int source, int to, size_t n, int more) nogil
    void* btfast_fresh(void* old, size_t size) nogil

cdef enum:
    MOST = 16
    SIZE = 1 << 20  # of a pipe; its 256 places take the pages of half a MiB of blocks, their headers and their crossings
    MEMORY = 1 << 16

MOST_PIPES = MOST

cdef uint8_t* memory = NULL
cdef size_t filled = 0
cdef int taken = 0
cdef bint works = False


def set_use(bint use):
    """Whether streams may take pipes, where the system has what they need; it begins with True. Returns whether they do."""
    global works
    works = use and sys.platform == "linux" and _version() >= (6, 5)
    return works


def _version():
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple([int(number) for number in numbers]) if all([number.isdigit() for number in numbers]) else (0, 0)


def pipes_taken():
    """How many streams have a pipe, of MOST_PIPES."""
    return taken


set_use(True)


cdef bint take_pipe(int* ends) noexcept:
    """Sets what it is read from and what it is written to. False: there is none to be had."""
    global works, taken
    if not works or taken == MOST:
        return False
    if btfast_pipe(ends, SIZE) < 0:  # there are no descriptors, or this user has all the pipes that it may: no more of it
        works = False
        return False
    taken += 1
    return True


cdef void give_pipe_back(int* ends) noexcept:
    """What is left in it is nobody's."""
    global taken
    close(ends[0])
    close(ends[1])
    ends[0] = ends[1] = -1
    taken -= 1


cdef uint8_t* lasting(size_t n) noexcept:
    """Room for `n` bytes, MEMORY at most, that nobody else writes to; NULL: there is none."""
    global memory, filled
    if memory == NULL or filled + n > MEMORY:
        memory = <uint8_t*>btfast_fresh(memory, MEMORY)
        filled = 0
        if memory == NULL:
            return NULL
    filled += n
    return memory + filled - n


cdef ssize_t put_pages(int pipe, const iovec* v, int n) noexcept:
    """Puts what lies there into an empty pipe, as far as it has places; below 0: errno says why not."""
    global works
    cdef ssize_t put
    while True:
        put = btfast_vmsplice(pipe, v, n)
        if put >= 0 or errno != EINTR:
            break
    if put < 0 and errno != EFAULT and errno != EAGAIN:  # the call is not to be had here: a sandbox may forbid it
        works = False
    return put


cdef ssize_t send_pages(int pipe, int fd, size_t n, bint more) noexcept:
    """Moves `n` bytes at most from the pipe into a socket that does not block; below 0: errno says why not."""
    cdef ssize_t sent
    while True:
        sent = btfast_splice(pipe, fd, n, more)
        if sent >= 0 or errno != EINTR:
            return sent
