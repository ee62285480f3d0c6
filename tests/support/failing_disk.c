/* Loaded with LD_PRELOAD: as long as the file $FAILING_DISK_FLAG exists, changes to files below $FAILING_DISK_ROOT fail with
 * the errno that the flag's text says.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("FAILING_DISK_FLAG"), *root = getenv("FAILING_DISK_ROOT");
    char link[64], path[PATH_MAX];
    ssize_t length;
    int file, before = errno;
    if (!flag || !root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0 || strncmp(path, root, strlen(root)) != 0) { errno = before; return 0; }
    file = open(flag, O_RDONLY | O_CLOEXEC);
    if (file < 0) { errno = before; return 0; }
    length = read(file, path, sizeof path - 1);
    close(file);
    path[length > 0 ? length : 0] = 0;
    errno = atoi(path);
    return 1;
}

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL("pwritev64", ssize_t, int, const struct iovec *, int, off_t);
    return fails(fd) ? -1 : real(fd, parts, count, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    REAL("pwritev64v2", ssize_t, int, const struct iovec *, int, off_t, int);
    return fails(fd) ? -1 : real(fd, parts, count, offset, flags);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return pwritev64v2(fd, parts, count, offset, flags);
}

int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return fails(fd) ? -1 : real(fd);
}
int ftruncate64(int fd, off_t size) {
    REAL("ftruncate64", int, int, off_t);
    return fails(fd) ? -1 : real(fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fallocate64(int fd, int mode, off_t offset, off_t length) {
    REAL("fallocate64", int, int, int, off_t, off_t);
    return fails(fd) ? -1 : real(fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }
