# cython: auto_pickle=False
"""Bitfields in the bit order of BEP 3: bit 0 is the high bit of byte 0. Set operations run 64 bits at a time."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define BTFAST_BE64(x) (x)
    #else
    #define BTFAST_BE64(x) __builtin_bswap64(x)
    #endif
    static inline uint64_t btfast_word(const unsigned char *p) { uint64_t w; memcpy(&w, p, 8); return w; }
    /* the word whose highest bit is the first bit in BEP 3 order */
    static inline uint64_t btfast_ordered(const unsigned char *p) { return BTFAST_BE64(btfast_word(p)); }
    static inline void btfast_store(unsigned char *p, uint64_t w) { memcpy(p, &w, 8); }
    #define btfast_popcount(x) __builtin_popcountll(x)
    #define btfast_lead(x) __builtin_clzll(x)
    """
    uint64_t word "btfast_word"(const unsigned char* p) noexcept nogil
    uint64_t ordered "btfast_ordered"(const unsigned char* p) noexcept nogil
    void store "btfast_store"(unsigned char* p, uint64_t w) noexcept nogil
    int popcount "btfast_popcount"(uint64_t w) noexcept nogil
    int lead "btfast_lead"(uint64_t w) noexcept nogil

# Piece indices are 32 bits on the wire; no torrent has more pieces.
cdef Py_ssize_t MAX_LENGTH = <Py_ssize_t>1 << 32


cdef class Bitfield:
    """`length` bits, all 0 or taken from `data` (ceil(length / 8) bytes, as a bitfield message carries them).

    Raises ValueError when `data` has another size or a spare bit set, or when length is not in 0..2**32.
    """

    def __cinit__(self, Py_ssize_t length, data=None):
        if length < 0 or length > MAX_LENGTH:
            raise ValueError(f"bitfield of {length} bits: 0 to {MAX_LENGTH} are possible")
        cdef Py_ssize_t size = (length + 7) >> 3
        cdef const unsigned char[::1] view
        if data is not None:
            view = data
            if view.shape[0] != size:
                raise ValueError(f"bitfield of {length} bits: {size} bytes needed, {view.shape[0]} given")
            if length & 7 and view[size - 1] & (0xFF >> (length & 7)):
                raise ValueError(f"bitfield of {length} bits: a spare bit is set")
        self.length = length
        self.words = (length + 63) >> 6
        self.ones = 0
        self.bits = <unsigned char*>PyMem_Calloc(self.words if self.words else 1, 8)
        if self.bits == NULL:
            raise MemoryError()
        if data is not None and size:
            memcpy(self.bits, &view[0], size)
            self.recount()

    def __dealloc__(self):
        PyMem_Free(self.bits)

    @staticmethod
    def full(Py_ssize_t length):
        """A bitfield whose bits are all 1."""
        cdef Bitfield made = Bitfield(length)
        made.set_all()
        return made

    def copy(self):
        """An equal bitfield that shares nothing with this one."""
        cdef Bitfield made = Bitfield(self.length)
        memcpy(made.bits, self.bits, self.words << 3)
        made.ones = self.ones
        return made

    def to_bytes(self):
        """ceil(length / 8) bytes, spare bits 0: the payload of a bitfield message."""
        return PyBytes_FromStringAndSize(<const char*>self.bits, (self.length + 7) >> 3)

    @property
    def count(self):
        """How many bits are 1; known without counting."""
        return self.ones

    def all(self):
        """Whether every bit is 1; True for a bitfield without bits."""
        return self.ones == self.length

    def none(self):
        """Whether every bit is 0; True for a bitfield without bits."""
        return self.ones == 0

    def __len__(self):
        return self.length

    def __getitem__(self, Py_ssize_t index):
        if index < 0 or index >= self.length:
            raise IndexError(f"bit {index} of {self.length}")
        return self.test(index)

    def set(self, Py_ssize_t index):
        """Make a bit 1; whether it was 0 before. Raises IndexError."""
        if index < 0 or index >= self.length:
            raise IndexError(f"bit {index} of {self.length}")
        return self.put(index)

    def clear(self, Py_ssize_t index):
        """Make a bit 0; whether it was 1 before. Raises IndexError."""
        if index < 0 or index >= self.length:
            raise IndexError(f"bit {index} of {self.length}")
        return self.drop(index)

    def set_all(self):
        """Make every bit 1."""
        cdef Py_ssize_t size = (self.length + 7) >> 3
        memset(self.bits, 0xFF, size)
        if self.length & 7:
            self.bits[size - 1] = <unsigned char>(0xFF << (8 - (self.length & 7)))
        self.ones = self.length

    def clear_all(self):
        """Make every bit 0."""
        memset(self.bits, 0, self.words << 3)
        self.ones = 0

    def and_not(self, Bitfield other not None):
        """A new bitfield: the bits that are 1 here and 0 in `other`. Raises ValueError when the lengths differ."""
        self._same_length(other)
        cdef Bitfield made = Bitfield(self.length)
        cdef Py_ssize_t i, ones = 0
        cdef uint64_t w
        for i in range(self.words):
            w = word(self.bits + (i << 3)) & ~word(other.bits + (i << 3))
            store(made.bits + (i << 3), w)
            ones += popcount(w)
        made.ones = ones
        return made

    def any_and_not(self, Bitfield other not None):
        """Whether some bit is 1 here and 0 in `other`. Raises ValueError when the lengths differ."""
        self._same_length(other)
        if self.ones == 0 or other.ones == other.length:
            return False
        if self.ones > other.ones:
            return True
        cdef Py_ssize_t i
        for i in range(self.words):
            if word(self.bits + (i << 3)) & ~word(other.bits + (i << 3)):
                return True
        return False

    def first_and_not(self, Bitfield other not None, Py_ssize_t start=0):
        """The first index >= `start` that is 1 here and 0 in `other`, or -1. Raises ValueError when the lengths differ."""
        self._same_length(other)
        if start < 0:
            start = 0
        if start >= self.length:
            return -1
        cdef Py_ssize_t i = start >> 6
        cdef uint64_t mask = (~<uint64_t>0) >> (start & 63)
        cdef uint64_t w
        while i < self.words:
            w = ordered(self.bits + (i << 3)) & ~ordered(other.bits + (i << 3)) & mask
            if w:
                return (i << 6) + lead(w)
            mask = ~<uint64_t>0
            i += 1
        return -1

    def __or__(self, other):
        if not isinstance(self, Bitfield) or not isinstance(other, Bitfield):
            return NotImplemented
        return (<Bitfield>self)._joined(<Bitfield>other, False)

    def __and__(self, other):
        if not isinstance(self, Bitfield) or not isinstance(other, Bitfield):
            return NotImplemented
        return (<Bitfield>self)._joined(<Bitfield>other, True)

    def __eq__(self, other):
        if not isinstance(other, Bitfield):
            return NotImplemented
        cdef Bitfield right = other
        return (
            self.length == right.length
            and self.ones == right.ones
            and memcmp(self.bits, right.bits, self.words << 3) == 0
        )

    __hash__ = None

    def first_set(self, Py_ssize_t start=0):
        """The first index >= `start` whose bit is 1, or -1."""
        return self.seek(start if start > 0 else 0)

    def indices(self):
        """The indices of all bits that are 1, ascending."""
        cdef list found = []
        cdef Py_ssize_t i, base
        cdef uint64_t w
        if self.ones == self.length:
            return list(range(self.length))
        for i in range(self.words):
            w = ordered(self.bits + (i << 3))
            base = i << 6
            while w:
                found.append(base + lead(w))
                w &= ~((<uint64_t>1 << 63) >> lead(w))
        return found

    def iter_set(self):
        """Walks the indices of the bits that are 1, ascending; bits changed ahead of the walk are seen changed."""
        return _SetBits(self)

    def __repr__(self):
        return f"<Bitfield {self.ones} of {self.length}>"

    cdef int _same_length(self, Bitfield other) except -1:
        if self.length != other.length:
            raise ValueError(f"bitfields of {self.length} and {other.length} bits do not go together")
        return 0

    cdef Bitfield _joined(self, Bitfield other, bint both):
        self._same_length(other)
        cdef Bitfield made = Bitfield(self.length)
        cdef Py_ssize_t i, ones = 0
        cdef uint64_t w
        for i in range(self.words):
            if both:
                w = word(self.bits + (i << 3)) & word(other.bits + (i << 3))
            else:
                w = word(self.bits + (i << 3)) | word(other.bits + (i << 3))
            store(made.bits + (i << 3), w)
            ones += popcount(w)
        made.ones = ones
        return made

    cdef void recount(self) noexcept nogil:
        cdef Py_ssize_t i, ones = 0
        for i in range(self.words):
            ones += popcount(word(self.bits + (i << 3)))
        self.ones = ones

    cdef Py_ssize_t seek(self, Py_ssize_t start) noexcept nogil:
        if start >= self.length:
            return -1
        cdef Py_ssize_t i = start >> 6
        cdef uint64_t w = ordered(self.bits + (i << 3)) & ((~<uint64_t>0) >> (start & 63))
        while not w:
            i += 1
            if i >= self.words:
                return -1
            w = ordered(self.bits + (i << 3))
        return (i << 6) + lead(w)


cdef class _SetBits:
    cdef Bitfield field
    cdef Py_ssize_t next_index

    def __cinit__(self, Bitfield field not None):
        self.field = field
        self.next_index = 0

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t found = self.field.seek(self.next_index)
        if found < 0:
            self.next_index = self.field.length
            raise StopIteration
        self.next_index = found + 1
        return found
