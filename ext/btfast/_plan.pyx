# What is to be read from disk and hashed, and the room for what comes of it: a byte of state a piece, its digests, the
# files' sums. Filled in place by sweeps (_sweep.pyx), which work on different pieces and files and so need no lock.

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from btfast._hashing cimport KERNEL_AUTO, SHA256, HashJob, hash_jobs

import os

cdef extern from "unistd.h" nogil:
    int close(int fd)

cdef extern from "fcntl.h" nogil:
    int fcntl(int fd, int command, int argument)
    int F_DUPFD_CLOEXEC


@cython.final
cdef class Plan:
    """What is to be read, and what came of it.

    `root`: a descriptor of the directory that `paths` (with slashes) are below; it is duplicated.
    A path of None is a pad file: zeros that are on no disk. `available`: how many bytes of each file are there, -1 for
    none. `expected_sha1` and `expected_sha256` (20 and 32 bytes a piece; 32 zeros: not known) are compared with; the
    digests themselves are kept only with `keep`. With `sha256` every file begins with a piece. ValueError, OSError."""

    def __cinit__(self, int root, int64_t piece_length, list paths not None, lengths, available, *, bint sha1=True,
                  bint sha256=False, bytes expected_sha1=None, bytes expected_sha256=None, bint keep=False,
                  bint sums=False):
        cdef Py_ssize_t i, count = len(paths)
        cdef int64_t start = 0, length
        cdef bytes path
        self.root = -1
        if not 0 < piece_length <= 1 << 30 or (sha256 and (piece_length < LEAF or piece_length & (piece_length - 1))):
            raise ValueError(f"piece length {piece_length}")
        if len(lengths) != count or len(available) != count:
            raise ValueError("paths, lengths and available differ in number")
        self.files = <File*>calloc(max(count, 1), sizeof(File))
        if self.files is NULL:
            raise MemoryError
        self.root = fcntl(root, F_DUPFD_CLOEXEC, 0)
        if self.root < 0:
            raise OSError(errno, os.strerror(errno))
        self.piece_length, self.paths, self.file_count = piece_length, list(paths), count
        self.hashes_sha1, self.hashes_sha256 = sha1, sha256
        for i in range(count):
            length = lengths[i]
            if length < 0 or length > (<int64_t>1 << 62) - start:
                raise ValueError(f"file {i} has {length} bytes")
            if self.paths[i] is not None:
                path = <bytes?>self.paths[i]
                if not path or b"\0" in path or b".." in path.split(b"/"):
                    raise ValueError(f"file {i} has no usable path")
                self.files[i].path = path
            self.files[i].start, self.files[i].length = start, length
            self.files[i].available = min(length, <int64_t>available[i])
            self.files[i].height = _height(min(length, piece_length))
            start += length
        self.total_length = start
        self.piece_count = (start + piece_length - 1) // piece_length
        for expected, size in ((expected_sha1, 20), (expected_sha256, HASH)):
            if expected is not None and len(expected) != size * self.piece_count:
                raise ValueError(f"{len(expected)} bytes of hashes for {self.piece_count} pieces")
        self.expected_sha1, self.expected_sha256 = expected_sha1, expected_sha256
        if expected_sha1 is not None:
            self.wanted_sha1 = expected_sha1
        if expected_sha256 is not None:
            self.wanted_sha256 = expected_sha256
        self.states_ = _room(self.piece_count)
        if keep and sha1:
            self.sha1_ = _room(20 * self.piece_count)
        if keep and sha256:
            self.sha256_ = _room(HASH * self.piece_count)
        if sums:
            self.sums_ = _room((HASH + 1) * count)
        _fill_pads(self.pads)

    def __dealloc__(self):
        if self.root >= 0:
            close(self.root)
        free(self.files)
        free(self.states_)
        free(self.sha1_)
        free(self.sha256_)
        free(self.sums_)

    @property
    def states(self):
        """A byte a piece: 0 (not looked at), GOOD, MISSING, or SHA1_DIFFERS | SHA256_DIFFERS."""
        return _copy(self.states_, self.piece_count)

    @property
    def sha1(self):
        """20 bytes a piece; None where they were not to be kept."""
        return _copy(self.sha1_, 20 * self.piece_count)

    @property
    def sha256(self):
        """32 bytes a piece: the roots of their trees; None where they were not to be kept."""
        return _copy(self.sha256_, HASH * self.piece_count)

    def sum(self, Py_ssize_t file):
        """SHA-256 of a whole file, None when it was not read to its end by Sweep.tracks."""
        if self.sums_ is NULL or not 0 <= file < self.file_count:
            raise IndexError(f"file {file}")
        cdef unsigned char* found = self.sums_ + file * (HASH + 1)
        return _copy(found + 1, HASH) if found[0] else None

    def stop(self):
        """Has all sweeps return as soon as they have hashed what they hold; what they have not finished stays unknown."""
        self.stopped = True

    cdef Py_ssize_t file_at(self, int64_t position) noexcept nogil:
        """The file that holds this byte of the stream."""
        cdef Py_ssize_t low = 0, high = self.file_count, middle
        while low < high:
            middle = (low + high) // 2
            if self.files[middle].start <= position:
                low = middle + 1
            else:
                high = middle
        return low - 1

    cdef bint is_there(self, int64_t start, int64_t end) noexcept nogil:
        """Whether these bytes of the stream are on disk, as far as is known."""
        cdef Py_ssize_t i = self.file_at(start)
        cdef File* file
        while start < end:
            file = &self.files[i]
            if file.path is not NULL and min(end, file.start + file.length) - file.start > file.available \
                    and file.length > 0:
                return False
            start = file.start + file.length
            i += 1
        return True


cdef unsigned char* _room(size_t size) except NULL:
    cdef unsigned char* room = <unsigned char*>calloc(max(size, <size_t>1), 1)
    if room is NULL:
        raise MemoryError
    return room


cdef object _copy(const unsigned char* source, size_t size):
    return None if source is NULL else PyBytes_FromStringAndSize(<const char*>source, size)


cdef unsigned int _height(int64_t length) noexcept:
    """Levels above the leaves in the tree of so many bytes."""
    cdef unsigned int height = 0
    while (<int64_t>LEAF << height) < length:
        height += 1
    return height


cdef void _fill_pads(unsigned char[HASH]* pads) noexcept:
    """The roots of trees of missing leaves, by height (BEP 52)."""
    cdef HashJob job
    cdef unsigned char pair[2 * HASH]
    memset(pads[0], 0, HASH)
    for level in range(MAX_HEIGHT):
        memcpy(pair, pads[level], HASH)
        memcpy(pair + HASH, pads[level], HASH)
        job.data, job.length = pair, 2 * HASH
        hash_jobs(SHA256, &job, 1, KERNEL_AUTO)
        memcpy(pads[level + 1], job.digest, HASH)
