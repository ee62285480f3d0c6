# Slots of shared memory for piece payload.
#
# The arena is one file descriptor (a memfd where there is one) mapped by the network process, which allocates, and by the
# workers, which only look. A slot is a run of 4096-byte pages that starts at an address congruent to the piece's file
# offset modulo the page size, so that the aligned inside of a piece can be written with O_DIRECT straight from it.
#
# Who holds a slot: whoever has a reference to its Slot object, counted by Python. A stream that still has requests open
# for it, a job that a worker has not answered: each keeps a reference, and the pages go back when the last one is gone.
#
# A slot takes no part in garbage collection: it refers to nothing but its arena, and a collector that cleared that
# reference out of a dead cycle which held the slot would leave the pages taken for ever.
#
# The allocator keeps one int per page: at the first and last page of a free run its length, at the first page of a used
# run minus its length and at its last page, unless that is the first too, 0. What lies between is not looked at. First
# fit from the lowest address: pages that were used just now are likely still in the cache.
#
# Memory is asked for in huge pages, 2 MiB each, just before its first slot is given out. They cost less to make (0.2 ms
# against 1.3 ms of page faults), to hash from and to pin; and what lies in one piece reaches the disk as one segment
# of a request, where single pages fill a request at 1 MiB and leave a rest of two for another. Measured with O_DIRECT
# on a virtual disk: 2.0 GiB/s instead of 1.45. Shared memory gets none by itself unless the whole system was told so, and
# MADV_HUGEPAGE does not change that; MADV_COLLAPSE does, from Linux 6.1 on.

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport errno
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import os

cdef extern from "sys/mman.h" nogil:
    int munmap(void* address, size_t length)
    void* MAP_FAILED

cdef extern from "unistd.h" nogil:
    int close(int fd)

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/mman.h>
    #define BTFAST_HUGE ((size_t)2 << 20) /* of x86-64, and of ARM with pages of 4 KiB; elsewhere the kernel says no */
    #ifndef MADV_COLLAPSE
    #define MADV_COLLAPSE 25
    #endif
    /* The memory at an address where huge pages can be mapped as such. */
    static void *btfast_map_arena(int fd, size_t size) {
        void *room = mmap(NULL, size + BTFAST_HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *found;
        char *base;
        size_t before;
        if (room == MAP_FAILED) return MAP_FAILED;
        before = -(uintptr_t)room % BTFAST_HUGE;
        base = (char *)room + before;
        found = mmap(base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        if (found == MAP_FAILED) {
            munmap(room, size + BTFAST_HUGE);
            return MAP_FAILED;
        }
        if (before) munmap(room, before);
        munmap(base + size, BTFAST_HUGE - before);
    #ifdef MADV_HUGEPAGE
        madvise(base, size, MADV_HUGEPAGE); /* where the system lets shared memory have them at the first touch */
    #endif
        return base;
    }
    /* Makes a huge page of memory that nobody has used; it has to have one page already. -1: it stays as it is. */
    static int btfast_make_huge(void *address) {
    #ifdef __linux__
        (void)*(volatile char *)address;
        return madvise(address, BTFAST_HUGE, MADV_COLLAPSE);
    #else
        (void)address; return -1;
    #endif
    }
    """
    void* btfast_map_arena(int fd, size_t size) nogil
    int btfast_make_huge(void* address) nogil
    size_t BTFAST_HUGE

cdef enum:
    PAGE = 4096
    NONE_FAILED = 0x7FFFFFFF


def shared_memory(str name, size_t size):
    """A descriptor of `size` zero bytes that can be mapped by other processes and that no path names. OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        import tempfile  # here: it brings much with it, and Linux never needs it

        fd, path = tempfile.mkstemp(prefix=name)
        os.unlink(path)
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


@cython.final
cdef class Arena:
    """A budget of shared memory, cut into slots.

    `fd`: descriptor of the memory, kept open by the caller (by the arena itself after `create`); `size`: bytes, a
    multiple of 4096; `owner`: this process allocates. `used`: bytes in slots now; `peak`: at most so far. Raises ValueError for a bad size or
    one larger than the memory, OSError where mapping fails.
    """

    def __cinit__(self, int fd, size_t size, *, bint owner=False):
        if size == 0 or size % PAGE or size // PAGE >= NONE_FAILED:
            raise ValueError(f"arena of {size} bytes: must be a positive multiple of {PAGE}")
        if os.fstat(fd).st_size < size:  # a look past the end would be SIGBUS
            raise ValueError(f"arena of {size} bytes: the memory is shorter")
        self.fd = fd
        self.owner = owner
        cdef void* address = btfast_map_arena(fd, size)
        if address == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.base = <uint8_t*>address
        self.size = size
        if owner:
            self.pages = <int32_t>(size // PAGE)
            self.runs = <int32_t*>calloc(self.pages, sizeof(int32_t))
            if self.runs == NULL:
                raise MemoryError()
            self.runs[0] = self.runs[self.pages - 1] = self.pages
            self.failed = NONE_FAILED

    def __dealloc__(self):
        free(self.runs)
        if self.base != NULL:
            munmap(self.base, self.size)
        if self.owns_fd:
            close(self.fd)

    @staticmethod
    def create(size_t size):
        """A new arena of `size` bytes, rounded up to pages, of its own memory, owned by this process."""
        if size == 0 or size > <size_t>NONE_FAILED * PAGE // 2:
            raise ValueError(f"arena of {size} bytes")
        size = (size + PAGE - 1) // PAGE * PAGE
        fd = shared_memory("btfast-arena", size)
        cdef Arena arena
        try:
            arena = Arena(fd, size, owner=True)
        except BaseException:
            os.close(fd)
            raise
        arena.owns_fd = True
        return arena

    def allocate(self, size_t length, size_t file_offset=0, size_t first=0):
        """A Slot of `length` bytes whose address is congruent to `file_offset` modulo 4096, or None when there is no room.

        `first`: which byte of its piece the slot begins with.
        """
        cdef size_t lead = file_offset % PAGE
        cdef int32_t page, run, need, rest
        if not self.owner or length == 0:
            raise ValueError("only the owner allocates, and never nothing")
        if length > self.size:
            return None
        need = <int32_t>((lead + length + PAGE - 1) // PAGE)
        if need >= self.failed:  # nothing has been freed since: a full arena answers at once
            return None
        page = self.lowest
        cdef bint full_so_far = True
        while page < self.pages:
            run = self.runs[page]
            if run < 0:
                page -= run
                continue
            if full_so_far:
                self.lowest = page
                full_so_far = False
            if run >= need:
                break
            page += run
        else:
            if full_so_far:
                self.lowest = self.pages
            self.failed = need
            return None
        rest = run - need
        self.runs[page] = -need
        if rest:
            self.runs[page + need] = rest
            self.runs[page + run - 1] = rest
        if need > 1:  # the run after it looks back at this page
            self.runs[page + need - 1] = 0
        if page == self.lowest:
            self.lowest = page + need
        self._make_ready(<size_t>(page + need) * PAGE)
        cdef Slot slot = Slot.__new__(Slot)
        slot.arena = self
        slot.page = page
        slot.offset = <size_t>page * PAGE + lead
        slot.length = length
        slot.first = first
        slot.data = self.base + slot.offset
        self.used += <size_t>need * PAGE
        self.peak = max(self.peak, self.used)
        return slot

    cdef void _make_ready(self, size_t end) noexcept:
        """Huge pages up to byte `end`, as long as the kernel gives them."""
        while self.ready < end:
            if self.ready + BTFAST_HUGE > self.size or btfast_make_huge(self.base + self.ready) < 0:
                self.ready = self.size  # there is none to be had: asking again might take long
            else:
                self.ready += BTFAST_HUGE

    cdef void _free(self, int32_t page) noexcept:
        cdef int32_t length = -self.runs[page]
        cdef int32_t before, after
        self.used -= <size_t>length * PAGE
        self.failed = NONE_FAILED
        if page + length < self.pages and self.runs[page + length] > 0:
            after = self.runs[page + length]
            self.runs[page + length] = 0
            length += after
        # A positive value just before this run is the last page of a free run: used runs end in 0 or, one page long, below 0.
        if page > 0 and self.runs[page - 1] > 0:
            before = self.runs[page - 1]
            self.runs[page - 1] = 0
            self.runs[page] = 0
            page -= before
            length += before
        self.runs[page] = length
        self.runs[page + length - 1] = length
        if page < self.lowest:
            self.lowest = page

    def view(self, size_t offset, size_t length):
        """A writable memoryview of `length` bytes at `offset`. ValueError outside the arena."""
        if length > self.size or offset > self.size - length:
            raise ValueError(f"arena view {offset}+{length}: outside {self.size} bytes")
        return memoryview(_Window(self, offset, length))

    def runs_for_test(self):
        """[(page, pages, free)] in address order. AssertionError when the runs do not tile the arena."""
        cdef int32_t page = 0, run
        found = []
        while page < self.pages:
            run = self.runs[page]
            if run == 0 or abs(run) > self.pages - page:
                raise AssertionError(f"page {page}: a run of {run} pages")
            if run > 0 and self.runs[page + run - 1] != run:
                raise AssertionError(f"page {page}: the free run's ends differ")
            if run > 0 and page < self.lowest:
                raise AssertionError(f"page {page}: free below the lowest, {self.lowest}")
            found.append((page, abs(run), run > 0))
            page += abs(run)
        return found


@cython.final
cdef class _Window:
    cdef Arena arena
    cdef size_t offset
    cdef size_t length

    def __cinit__(self, Arena arena not None, size_t offset, size_t length):
        self.arena = arena
        self.offset = offset
        self.length = length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.arena.base + self.offset, self.length, 0, flags)


@cython.final
@cython.no_gc
cdef class Slot:
    """Room for a piece or a part of one, made by `Arena.allocate`; a writable buffer that keeps it held while it is exported.

    `offset`: where its first byte lies in the arena; `length`: bytes; `first`: which byte of the piece that is.
    """

    def __init__(self):
        raise TypeError("slots come from Arena.allocate")

    def __dealloc__(self):
        if self.arena is not None:
            self.arena._free(self.page)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.length, 0, flags)

    def __len__(self):
        return self.length

    def write(self, size_t begin, const uint8_t[::1] data):
        """Copies `data` to byte `begin` of the piece. ValueError outside the slot."""
        cdef size_t length = data.shape[0]
        if length > self.length or begin < self.first or begin - self.first > self.length - length:
            raise ValueError(f"slot write {begin}+{length}: outside {self.first}+{self.length}")
        if length:
            memcpy(place(self, begin), &data[0], length)
