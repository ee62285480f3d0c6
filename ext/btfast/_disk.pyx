# System calls that the standard library lacks: fallocate without glibc's emulation by writing zeros (minutes on a file
# system that cannot preallocate), statx's answer to "which alignment does direct I/O need here", syncfs, sync_file_range.

from libc.errno cimport EINTR, ENOSYS, EOPNOTSUPP, errno

import os

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static int btfast_fallocate(int fd, int64_t size) {
    #if defined(__linux__)
        return fallocate(fd, 0, 0, (off_t)size);
    #elif defined(F_PREALLOCATE)
        fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, (off_t)size, 0};
        if (fcntl(fd, F_PREALLOCATE, &store) < 0) return -1;
        return ftruncate(fd, (off_t)size);
    #else
        errno = EOPNOTSUPP; (void)fd; (void)size; return -1;
    #endif
    }
    static int btfast_syncfs(int fd) {
    #if defined(__linux__)
        return syncfs(fd);
    #else
        errno = ENOSYS; (void)fd; return -1;
    #endif
    }
    static int btfast_wait(int fd) {
    #if defined(__linux__)
        return sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE);
    #else
        errno = ENOSYS; (void)fd; return -1;
    #endif
    }
    /* The kernel's struct statx, as far as needed: older headers lack the direct I/O fields. */
    static int btfast_direct_alignment(int fd, uint32_t *memory, uint32_t *offset) {
    #if defined(__linux__) && defined(SYS_statx)
        unsigned char raw[256];
        uint32_t mask;
        memset(raw, 0, sizeof raw);
        if (syscall(SYS_statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, 0x2000u /* STATX_DIOALIGN */, raw) < 0) return -1;
        memcpy(&mask, raw, 4);
        if (!(mask & 0x2000u)) { errno = ENOSYS; return -1; }
        memcpy(memory, raw + 0x98, 4);
        memcpy(offset, raw + 0x9c, 4);
        return 0;
    #else
        (void)fd; (void)memory; (void)offset; errno = ENOSYS; return -1;
    #endif
    }
    """
    int btfast_fallocate(int fd, long long size) nogil
    int btfast_syncfs(int fd) nogil
    int btfast_wait(int fd) nogil
    int btfast_direct_alignment(int fd, unsigned int* memory, unsigned int* offset) nogil


def preallocate(int fd, long long size):
    """Reserves `size` bytes for the file. False where the file system cannot; OSError where it would not (disk full)."""
    cdef int result
    while True:
        with nogil:
            result = btfast_fallocate(fd, size)
        if result == 0:
            return True
        if errno == EINTR:
            continue
        if errno == EOPNOTSUPP or errno == ENOSYS:
            return False
        raise OSError(errno, os.strerror(errno))


def direct_alignment(int fd):
    """(memory, offset) alignment in bytes that direct I/O needs on this file; (0, 0) where it is not supported.

    None where the kernel does not tell (before Linux 6.1).
    """
    cdef unsigned int memory = 0, offset = 0
    if btfast_direct_alignment(fd, &memory, &offset) < 0:
        return None
    return memory, offset


cdef bint _is_done(int result) except -1:
    """What a system call has said by `result` and errno: False where there is no such call. OSError."""
    if result == 0:
        return True
    if errno == ENOSYS:
        return False
    raise OSError(errno, os.strerror(errno))


def sync_file_system(int fd):
    """Makes all that was written to the file system of `fd` durable. False where that cannot be asked for; OSError."""
    cdef int result
    with nogil:
        result = btfast_syncfs(fd)
    return _is_done(result)


def wait_for_writes(int fd):
    """Waits for writes of the file's data that are under way, without asking the disk for anything.

    False where that cannot be done; OSError for what has failed since the file was opened, or before without anybody being
    told.
    """
    cdef int result
    with nogil:
        result = btfast_wait(fd)
    return _is_done(result)
