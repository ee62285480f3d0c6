from libc.stdint cimport uint8_t

from btfast.reading cimport iovec

cdef bint take_pipe(int* ends) noexcept
cdef void give_pipe_back(int* ends) noexcept
cdef uint8_t* lasting(size_t n) noexcept
cdef ssize_t put_pages(int pipe, const iovec* v, int n) noexcept
cdef ssize_t send_pages(int pipe, int fd, size_t n, bint more) noexcept
