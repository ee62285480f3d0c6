/* Loaded with LD_PRELOAD: as long as the file $FAILING_DISK_FLAG exists, files below $FAILING_DISK_ROOT fail with the errno
 * that the flag's text says. What of them fails, it says behind that: any of `write`, `sync` and `read`; alone it means the
 * first two. Behind those, and a colon, comes the end of the names of the files that do, such as `5 sync:/a.part`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(int fd, const char *kind) {
    const char *flag = getenv("FAILING_DISK_FLAG"), *root = getenv("FAILING_DISK_ROOT");
    char link[64], path[PATH_MAX], text[PATH_MAX], *name;
    ssize_t length;
    int file, before = errno, number;
    if (!flag || !root) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0 || strncmp(path, root, strlen(root)) != 0) { errno = before; return 0; }
    path[length] = 0;
    file = open(flag, O_RDONLY | O_CLOEXEC);
    if (file < 0) { errno = before; return 0; }
    length = syscall(SYS_read, file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    name = strchr(text, ':');
    if (name) *name++ = 0;
    number = atoi(text);
    if (strchr(text, ' ') ? !strstr(text, kind) : !strcmp(kind, "read")) { errno = before; return 0; }
    if (name && (strlen(path) < strlen(name) || strcmp(path + strlen(path) - strlen(name), name))) { errno = before; return 0; }
    errno = number;
    return 1;
}

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL("pwritev64", ssize_t, int, const struct iovec *, int, off_t);
    return fails(fd, "write") ? -1 : real(fd, parts, count, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    REAL("pwritev64v2", ssize_t, int, const struct iovec *, int, off_t, int);
    return fails(fd, "write") ? -1 : real(fd, parts, count, offset, flags);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return pwritev64v2(fd, parts, count, offset, flags);
}

int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return fails(fd, "sync") ? -1 : real(fd);
}
int fsync(int fd) {
    REAL("fsync", int, int);
    return fails(fd, "sync") ? -1 : real(fd);
}
/* A disk that fails tells so of the file system, and of each file when that is asked. */
int syncfs(int fd) {
    REAL("syncfs", int, int);
    return fails(fd, "sync") ? -1 : real(fd);
}
int sync_file_range(int fd, off_t offset, off_t length, unsigned int flags) {
    REAL("sync_file_range", int, int, off_t, off_t, unsigned int);
    return fails(fd, "sync") ? -1 : real(fd, offset, length, flags);
}
int ftruncate64(int fd, off_t size) {
    REAL("ftruncate64", int, int, off_t);
    return fails(fd, "write") ? -1 : real(fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fallocate64(int fd, int mode, off_t offset, off_t length) {
    REAL("fallocate64", int, int, int, off_t, off_t);
    return fails(fd, "write") ? -1 : real(fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    REAL("preadv64v2", ssize_t, int, const struct iovec *, int, off_t, int);
    return fails(fd, "read") ? -1 : real(fd, parts, count, offset, flags);
}
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return preadv64v2(fd, parts, count, offset, flags);
}
ssize_t preadv64(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL("preadv64", ssize_t, int, const struct iovec *, int, off_t);
    return fails(fd, "read") ? -1 : real(fd, parts, count, offset);
}
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t offset) { return preadv64(fd, parts, count, offset); }

ssize_t pread64(int fd, void *data, size_t length, off_t offset) {
    REAL("pread64", ssize_t, int, void *, size_t, off_t);
    return fails(fd, "read") ? -1 : real(fd, data, length, offset);
}
ssize_t pread(int fd, void *data, size_t length, off_t offset) { return pread64(fd, data, length, offset); }

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off_t);
    return fails(fd, "write") ? -1 : real(fd, data, length, offset);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t sendfile64(int to, int fd, off_t *offset, size_t length) {
    REAL("sendfile64", ssize_t, int, int, off_t *, size_t);
    return fails(fd, "read") ? -1 : real(to, fd, offset, length);
}
ssize_t sendfile(int to, int fd, off_t *offset, size_t length) { return sendfile64(to, fd, offset, length); }
