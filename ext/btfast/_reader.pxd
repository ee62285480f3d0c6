"""Reads a plan's files for one thread."""

from libc.stdint cimport int64_t, uint64_t

from btfast._plan cimport Plan

cdef enum:
    OPEN_FILES = 64  # of a thread; more than lanes
    PROBLEMS = 64  # that are remembered

cdef struct Opened:
    Py_ssize_t file
    int fd
    uint64_t used

cdef struct Problem:
    Py_ssize_t file
    int error  # errno; 0: it ended early
    int64_t offset


cdef class Reader:
    cdef Plan plan
    cdef Opened opened[OPEN_FILES]
    cdef int opened_count
    cdef uint64_t clock
    cdef int parent  # a directory that is open, -1: none
    cdef const char* parent_path
    cdef size_t parent_length
    cdef Problem problem[PROBLEMS]
    cdef int problem_count
    cdef bint nowait  # reads can be told not to wait for the disk
    cdef bint cold  # some of what was read was not in the page cache
    cdef int64_t bytes_read

    cdef bint read(self, Py_ssize_t file, int64_t offset, unsigned char* room, size_t length) noexcept nogil
    cdef void ask(self, int64_t start, int64_t end) noexcept nogil
    cdef void close_files(self) noexcept nogil
    cdef void note(self, Py_ssize_t file, int error, int64_t offset) noexcept nogil
    cdef int descriptor(self, Py_ssize_t file) noexcept nogil
    cdef int open(self, const char* path) noexcept nogil
    cdef list problems(self)
