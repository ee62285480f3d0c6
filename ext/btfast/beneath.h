/* Opening files below a directory without ever following a link, and reads that do not wait for the disk. */
#ifndef BTFAST_BENEATH_H
#define BTFAST_BENEATH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void btfast_close_quietly(int fd)
{
    int kept = errno;
    close(fd);
    errno = kept;
}

/* The directory that the first `length` bytes of a relative path name. -1 with errno. */
static int btfast_open_parent(int root, const char *path, size_t length)
{
    int at = root;
    while (length) {
        char element[256];
        const char *slash = memchr(path, '/', length);
        const size_t n = slash ? (size_t)(slash - path) : length;
        int below = -1;
        if (n >= sizeof element) {
            errno = ENAMETOOLONG;
        } else {
            memcpy(element, path, n);
            element[n] = 0;
            below = openat(at, element, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        if (at != root)
            btfast_close_quietly(at);
        if (below < 0)
            return -1;
        at = below;
        path += n + (slash != NULL);
        length -= n + (slash != NULL);
    }
    return at == root ? fcntl(root, F_DUPFD_CLOEXEC, 0) : at;
}

/* A regular file in a directory: no link, and nothing that could block, such as a FIFO. -1 with errno. */
static int btfast_open_regular(int parent, const char *name)
{
    struct stat status;
    int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        return fd;
    close(fd);
    errno = EINVAL;
    return -1;
}

/* As pread, but -1 with EAGAIN where the disk would have to be waited for; EOPNOTSUPP where that cannot be told. */
static ssize_t btfast_read_cached(int fd, void *room, size_t length, int64_t offset)
{
#if defined(__linux__) && defined(RWF_NOWAIT)
    struct iovec part = {room, length};
    return preadv2(fd, &part, 1, (off_t)offset, RWF_NOWAIT);
#else
    (void)fd, (void)room, (void)length, (void)offset;
    errno = EOPNOTSUPP;
    return -1;
#endif
}

/* Advice only: has the kernel begin to read, and does not wait. */
static void btfast_will_need(int fd, int64_t offset, int64_t length)
{
#if defined(POSIX_FADV_WILLNEED)
    posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
#else
    (void)fd, (void)offset, (void)length;
#endif
}

/* On pages of its own; free() takes it back. */
static void *btfast_pages(size_t size)
{
    void *room = NULL;
    return posix_memalign(&room, 4096, size) ? NULL : room;
}

#endif
