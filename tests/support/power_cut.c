/* A layer between a program and its disk, loaded with LD_PRELOAD: it notes what every change to a file overwrote, and what
 * was made durable, so that the test can take back what a power cut would have lost. Only files below $POWER_CUT_ROOT count;
 * the journal is $POWER_CUT_JOURNAL. Records of all processes and threads follow one another in it, each written at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 3, SYNC_ALL = 4 };

/* What follows: for WRITE the bytes that were there before, for RENAME both paths with a zero byte behind each. SYNC_ALL
 * counts for its device alone.
 */
struct record {
    uint64_t kind, device, inode, offset, length, size; /* size: of the file before a WRITE; for SYNC the journal's length */
};

static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_fdatasync)(int), (*real_fsync)(int), (*real_syncfs)(int);
static int (*real_renameat)(int, const char *, int, const char *);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static char root[PATH_MAX];
static int journal = -1;
static int broken;

static void set_up(void) {
    static int done;
    const char *where = getenv("POWER_CUT_ROOT"), *path = getenv("POWER_CUT_JOURNAL");
    if (done) return;
    done = 1;
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fallocate = dlsym(RTLD_NEXT, "fallocate64");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_syncfs = dlsym(RTLD_NEXT, "syncfs");
    real_renameat = dlsym(RTLD_NEXT, "renameat");
    if (!where || !path || !realpath(where, root)) return;
    strcat(root, "/");
    journal = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (journal >= 0) {
        int high = fcntl(journal, F_DUPFD_CLOEXEC, 900); /* out of the way of descriptors that are passed by number */
        close(journal);
        journal = high;
    }
}

__attribute__((constructor)) static void begin(void) { set_up(); }

/* Whether the descriptor is a file (or directory) below the root; its state in `status`. */
static int counts(int fd, struct stat *status) {
    char link[64], path[PATH_MAX];
    ssize_t length;
    set_up();
    if (journal < 0 || fd == journal || fstat(fd, status) < 0) return 0;
    if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strstr(path, "-shm")) return 0; /* SQLite's shared memory: nobody needs it after a cut */
    return strncmp(path, root, strlen(root)) == 0 || (strncmp(path, root, strlen(root) - 1) == 0 && path[strlen(root) - 1] == 0);
}

static void put(const struct record *record, const void *one, size_t length) {
    struct iovec parts[2] = {{(void *)record, sizeof *record}, {(void *)one, length}};
    static ssize_t (*real_writev)(int, const struct iovec *, int);
    if (!real_writev) real_writev = dlsym(RTLD_NEXT, "writev");
    if (real_writev(journal, parts, 2) != (ssize_t)(sizeof *record + length) && !broken) {
        broken = 1;
        abort(); /* a test that cannot take note proves nothing */
    }
}

/* Notes what `length` bytes at `offset` are going to overwrite; `length` 0: only the size changes. */
static void note(int fd, const struct stat *status, off_t offset, size_t length) {
    struct record record = {WRITE, status->st_dev, status->st_ino, offset, 0, status->st_size};
    char link[64], *old = NULL;
    size_t there = offset < status->st_size ? (size_t)(status->st_size - offset) : 0;
    if (there > length) there = length;
    if (there) {
        int again;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        again = open(link, O_RDONLY | O_CLOEXEC); /* the descriptor itself may want aligned reads, or none */
        old = malloc(there);
        if (again < 0 || !old || pread(again, old, there, offset) != (ssize_t)there) abort();
        close(again);
    }
    record.length = there;
    put(&record, old, there);
    free(old);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    struct stat status;
    size_t length = 0;
    set_up();
    for (int n = 0; n < count; n++) length += parts[n].iov_len;
    if (counts(fd, &status)) note(fd, &status, offset, length);
    return real_pwritev(fd, parts, count, offset);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    static ssize_t (*real)(int, const struct iovec *, int, off_t, int);
    struct stat status;
    size_t length = 0;
    set_up();
    if (!real) real = dlsym(RTLD_NEXT, "pwritev64v2");
    for (int n = 0; n < count; n++) length += parts[n].iov_len;
    if (counts(fd, &status)) note(fd, &status, offset, length);
    return real(fd, parts, count, offset, flags);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return pwritev64v2(fd, parts, count, offset, flags);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    struct stat status;
    set_up();
    if (counts(fd, &status)) note(fd, &status, offset, length);
    return real_pwrite(fd, data, length, offset);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    struct stat status;
    set_up();
    if (fd > 2 && counts(fd, &status)) {
        int flags = fcntl(fd, F_GETFL);
        note(fd, &status, flags & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR), length);
    }
    return real_write(fd, data, length);
}

int ftruncate64(int fd, off_t size) {
    struct stat status;
    set_up();
    if (counts(fd, &status)) note(fd, &status, size, size < status.st_size ? (size_t)(status.st_size - size) : 0);
    return real_ftruncate(fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int mode, off_t offset, off_t length) {
    struct stat status;
    set_up();
    if (counts(fd, &status)) note(fd, &status, status.st_size, 0);
    return real_fallocate(fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

/* What was in the journal before a sync began is durable when the sync has ended well. */
static int synced(int fd, int (*real)(int), uint64_t kind) {
    struct stat status, before;
    int found, result;
    set_up();
    found = counts(fd, &status);
    if (found && fstat(journal, &before) < 0) abort();
    result = real(fd);
    if (found && result == 0) {
        struct record record = {kind, status.st_dev, status.st_ino, 0, 0, before.st_size};
        put(&record, NULL, 0);
    }
    return result;
}
int fdatasync(int fd) { set_up(); return synced(fd, real_fdatasync, SYNC); }
int fsync(int fd) { set_up(); return synced(fd, real_fsync, SYNC); }
int syncfs(int fd) { set_up(); return synced(fd, real_syncfs, SYNC_ALL); }

static void path_of(int directory, const char *name, char *path) {
    char link[64];
    ssize_t length = 0;
    if (name[0] != '/') {
        if (directory == AT_FDCWD) {
            if (!getcwd(path, PATH_MAX)) abort();
            length = strlen(path);
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            length = readlink(link, path, PATH_MAX - NAME_MAX - 2);
            if (length < 0) abort();
        }
        path[length++] = '/';
    }
    strcpy(path + length, name);
}

int renameat(int from, const char *old, int to, const char *new) {
    char paths[2 * PATH_MAX], second[PATH_MAX];
    struct stat status;
    int result;
    set_up();
    result = real_renameat(from, old, to, new);
    if (result == 0 && journal >= 0 && fstatat(to, new, &status, 0) == 0) {
        struct record record = {RENAME, status.st_dev, status.st_ino, 0, 0, 0};
        path_of(from, old, paths);
        path_of(to, new, second);
        strcpy(paths + strlen(paths) + 1, second);
        record.length = strlen(paths) + 1 + strlen(second) + 1;
        if (strncmp(paths, root, strlen(root)) == 0) put(&record, paths, record.length);
    }
    return result;
}
int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }
