# readv, and readv of a part of what an iovec describes.

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec* v, int n)


cdef inline ssize_t read_some(int fd, iovec* v, int n, size_t most) noexcept:
    """readv of `most` bytes at most; `v` stays as it was."""
    cdef int i = 0
    cdef size_t whole
    cdef ssize_t got
    while i < n and v[i].iov_len <= most:
        most -= v[i].iov_len
        i += 1
    if i == n:
        return readv(fd, v, n)
    whole = v[i].iov_len
    v[i].iov_len = most
    got = readv(fd, v, i + 1)
    v[i].iov_len = whole
    return got
