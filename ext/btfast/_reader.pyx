# The files of a plan as one thread reads them: a bounded set of descriptors, opened below the plan's directory without
# ever following a link, and what was in the way.
#
# Data that is not in the page cache is noticed by the first read that would have had to wait for the disk. From then on
# whoever reads tells the kernel what comes next (`ask`), so that the disk works while others hash.

cimport cython
from libc.errno cimport EAGAIN, EINTR, EINVAL, EOPNOTSUPP, errno
from libc.stdint cimport int64_t
from libc.string cimport memcmp, strrchr

from btfast._plan cimport File, Plan

cdef extern from "beneath.h" nogil:
    int btfast_open_parent(int root, const char* path, size_t length)
    int btfast_open_regular(int parent, const char* name)
    Py_ssize_t btfast_read_cached(int fd, void* room, size_t length, int64_t offset)
    void btfast_will_need(int fd, int64_t offset, int64_t length)

cdef extern from "unistd.h" nogil:
    int close(int fd)
    Py_ssize_t pread(int fd, void* room, size_t length, int64_t offset)


@cython.final
cdef class Reader:
    def __cinit__(self, Plan plan not None):
        self.plan = plan
        self.parent = -1
        self.nowait = True

    def __dealloc__(self):
        self.close_files()

    cdef void close_files(self) noexcept nogil:
        cdef int i
        for i in range(self.opened_count):
            close(self.opened[i].fd)
        self.opened_count = 0
        if self.parent >= 0:
            close(self.parent)
        self.parent = -1

    cdef bint read(self, Py_ssize_t file, int64_t offset, unsigned char* room, size_t length) noexcept nogil:
        """Fills the room with bytes of the file; False, and a problem noted, where it cannot."""
        cdef int fd = self.descriptor(file)
        cdef Py_ssize_t got
        if fd < 0:
            self.note(file, errno, offset)
            return False
        while length:
            got = -1
            if self.nowait and not self.cold:
                got = btfast_read_cached(fd, room, length, offset)
                if got < 0 and errno == EAGAIN:
                    self.cold = True
                elif got < 0 and (errno == EOPNOTSUPP or errno == EINVAL):
                    self.nowait = False
            if got <= 0:
                got = pread(fd, room, length, offset)
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                self.note(file, 0 if got == 0 else errno, offset)
                return False
            self.bytes_read += got
            room += got
            offset += got
            length -= got
        return True

    cdef void ask(self, int64_t start, int64_t end) noexcept nogil:
        """Has the disk begin to read these bytes of the stream; nothing is waited for."""
        cdef Py_ssize_t i = self.plan.file_at(start) if start < end else 0
        cdef File* file
        cdef int64_t part
        cdef int fd
        while start < end:
            file = &self.plan.files[i]
            part = min(end, file.start + file.length) - start
            if part > 0 and file.path is not NULL and file.available > start - file.start:
                fd = self.descriptor(i)
                if fd >= 0:
                    btfast_will_need(fd, start - file.start, part)
            start += part
            i += 1

    cdef void note(self, Py_ssize_t file, int error, int64_t offset) noexcept nogil:
        """The first problem of each file, up to PROBLEMS of them."""
        cdef int i
        for i in range(self.problem_count):
            if self.problem[i].file == file:
                return
        if self.problem_count < PROBLEMS:
            self.problem[self.problem_count].file = file
            self.problem[self.problem_count].error = error
            self.problem[self.problem_count].offset = offset
            self.problem_count += 1

    cdef list problems(self):
        """(file, errno, offset) of those since the last call; errno 0: the file ended before that offset."""
        found = [(self.problem[i].file, self.problem[i].error, self.problem[i].offset) for i in range(self.problem_count)]
        self.problem_count = 0
        return found

    cdef int descriptor(self, Py_ssize_t file) noexcept nogil:
        """Of an open file, which stays the table's; -1 with errno."""
        cdef int i, place = 0, fd
        self.clock += 1
        for i in range(self.opened_count):
            if self.opened[i].file == file:
                self.opened[i].used = self.clock
                return self.opened[i].fd
            if self.opened[i].used < self.opened[place].used:
                place = i
        fd = self.open(self.plan.files[file].path)
        if fd < 0:
            return -1
        if self.opened_count < OPEN_FILES:
            place = self.opened_count
            self.opened_count += 1
        else:
            close(self.opened[place].fd)
        self.opened[place].file, self.opened[place].fd, self.opened[place].used = file, fd, self.clock
        return fd

    cdef int open(self, const char* path) noexcept nogil:
        """The directory stays open for the next file, which is likely to be in it."""
        cdef const char* slash = strrchr(path, b"/")
        cdef size_t length = slash - path if slash is not NULL else 0
        if self.parent < 0 or length != self.parent_length or memcmp(path, self.parent_path, length):
            if self.parent >= 0:
                close(self.parent)
            self.parent = btfast_open_parent(self.plan.root, path, length)
            if self.parent < 0:
                return -1
            self.parent_path, self.parent_length = path, length
        return btfast_open_regular(self.parent, slash + 1 if slash is not NULL else path)
