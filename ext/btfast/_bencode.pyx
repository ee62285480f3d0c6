"""Bencode (BEP 3): decoding and encoding without recursion, with limits checked before anything is allocated.

Decoding walks the bytes once. Finished values lie on one stack; a list or dict that is opened remembers where on the
stack its items begin, and takes them off when it ends. Memory in use is therefore bounded by what has been read, the
depth by `max_depth`, the number of objects by `max_tokens`, and no length prefix allocates before the bytes are seen to
be there. Short dict keys come from a small cache: they are the same few names again and again, and a cached key brings
its hash along.

Strict: dict keys strictly ascending, nothing after the value. Lenient: keys in any order (the first of two equal keys
counts, as in other clients) and trailing bytes are tolerated. Integers and lengths are always canonical: no leading zero,
no -0, no plus sign.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    char* PyBytes_AS_STRING(PyObject*) nogil
    Py_ssize_t PyBytes_GET_SIZE(PyObject*) nogil
    bint PyBytes_Check(PyObject*)
    bint PyBytes_CheckExact(object)
    char* PyByteArray_AS_STRING(PyObject*)
    Py_ssize_t PyByteArray_GET_SIZE(PyObject*)
    bint PyByteArray_Check(PyObject*)
    bint PyUnicode_Check(PyObject*)
    const char* PyUnicode_AsUTF8AndSize(PyObject*, Py_ssize_t*)
    bint PyLong_Check(PyObject*)
    PyObject* PyLong_FromLongLong(long long)
    PyObject* PyLong_FromString(const char*, char**, int)
    long long PyLong_AsLongLongAndOverflow(PyObject*, int*)
    bint PyList_Check(PyObject*)
    PyObject* PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    PyObject* PyList_GET_ITEM(PyObject*, Py_ssize_t)
    Py_ssize_t PyList_GET_SIZE(PyObject*)
    bint PyTuple_Check(PyObject*)
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t)
    Py_ssize_t PyTuple_GET_SIZE(PyObject*)
    bint PyDict_Check(PyObject*)
    PyObject* PyDict_New()
    Py_ssize_t PyDict_GET_SIZE(PyObject*)
    int PyDict_SetItem(PyObject*, PyObject*, PyObject*)
    PyObject* PyDict_SetDefault(PyObject*, PyObject*, PyObject*)
    int PyDict_Next(PyObject*, Py_ssize_t*, PyObject**, PyObject**)
    bint PyObject_CheckBuffer(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)
    int PyGC_Disable()
    int PyGC_Enable()
    void PyErr_Clear()

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t btfast_load8(const unsigned char *p) { uint64_t w; memcpy(&w, p, 8); return w; }
    static inline uint64_t btfast_load4(const unsigned char *p) { uint32_t w; memcpy(&w, p, 4); return w; }
    /* tells Cython that an exception is set already */
    static inline int btfast_reraise(void) { return -1; }
    #define btfast_likely(x) __builtin_expect(!!(x), 1)
    #define btfast_unlikely(x) __builtin_expect(!!(x), 0)
    """
    uint64_t load8 "btfast_load8"(const unsigned char*) noexcept nogil
    uint64_t load4 "btfast_load4"(const unsigned char*) noexcept nogil
    int reraise "btfast_reraise"() except -1
    bint likely "btfast_likely"(bint) noexcept nogil
    bint unlikely "btfast_unlikely"(bint) noexcept nogil

ctypedef unsigned char uchar


cdef enum:
    DEPTH_CAP = 256        # frames lie on the C stack
    STACK_INLINE = 128     # values on the C stack before the heap is used
    KEY_CACHE = 512        # slots, a power of two
    KEY_CACHED_LENGTH = 16
    DIGITS = 1000          # of an integer; int() itself refuses 4300
    GC_THRESHOLD = 16384   # bytes of input above which the cycle collector rests while we build
    ENCODE_INLINE = 1024
    SORT_BY_INSERTION = 12

cdef Py_ssize_t ENCODED_CAP = <Py_ssize_t>1 << 30

cdef enum Fault:
    OK
    RAISED              # a Python exception is set already
    NO_MEMORY
    TRUNCATED
    BAD_BYTE
    BAD_LENGTH
    BEYOND
    BAD_INTEGER
    LONG_INTEGER
    KEY_NOT_STRING
    KEY_ORDER
    TOO_DEEP
    TOO_MANY
    TRAILING
    NOT_DICT
    NO_INFO

cdef dict WHY = {
    TRUNCATED: "the data ends in the middle of a value",
    BAD_BYTE: "no value begins with this byte",
    BAD_LENGTH: "not a string length",
    BEYOND: "a string reaches beyond the end of the data",
    BAD_INTEGER: "not an integer",
    LONG_INTEGER: "an integer of too many digits",
    KEY_NOT_STRING: "a dict key is not a string",
    KEY_ORDER: "dict keys are not in ascending order",
    TOO_DEEP: "nested too deeply",
    TOO_MANY: "too many values",
    TRAILING: "more bytes after the value",
    NOT_DICT: "not a dict",
    NO_INFO: "no info dict",
}


class BencodeError(ValueError):
    """Bytes that are not the bencode asked for, or a value that cannot be encoded. `offset` is the byte, -1 if none."""

    def __init__(self, why, offset=-1):
        super().__init__(f"bencode: {why}" if offset < 0 else f"bencode: {why} at byte {offset}")
        self.why = why
        self.offset = offset

    def __reduce__(self):
        return BencodeError, (self.why, self.offset)


include "_bencode_read.pxi"
include "_bencode_write.pxi"


cdef object refuse(Fault fault, Py_ssize_t offset):
    if fault == NO_MEMORY:
        raise MemoryError()
    if fault != RAISED:
        raise BencodeError(WHY[fault], offset)


cdef object read_all(Reader* r, bint whole):
    # One value, the rest of the data checked too when `whole`.
    cdef PyObject* inline_values[STACK_INLINE]
    cdef Fault fault
    cdef bint collector = False
    cdef object value
    cdef Py_ssize_t i
    r.values = inline_values
    r.heap = NULL
    r.top = 0
    r.capacity = STACK_INLINE
    r.info_start = -1
    r.info_end = -1
    # Nothing built here can be part of a cycle; walking it again and again while it grows would be most of the time.
    if r.end - r.p > GC_THRESHOLD:
        collector = PyGC_Disable()
    fault = read_value(r)
    if fault == OK and whole and r.p != r.end and r.strict:
        fault = TRAILING
    if collector:
        PyGC_Enable()
    if fault == OK:
        value = <object>r.values[0]
        Py_DECREF(r.values[0])
        free(r.heap)
        return value
    for i in range(r.top):
        Py_DECREF(r.values[i])
    free(r.heap)
    if fault == RAISED:
        reraise()
    refuse(fault, r.p - r.start)


cdef int check_limits(int max_depth, Py_ssize_t max_tokens) except -1:
    if max_depth < 0 or max_depth > DEPTH_CAP or max_tokens < 1:
        raise ValueError(f"max_depth is 0 to {DEPTH_CAP}, max_tokens at least 1")
    return 0


def decode(data, *, bint strict=True, int max_depth=64, Py_ssize_t max_tokens=2_500_000):
    """The one value that `data` (bytes-like) consists of; strings and dict keys come as bytes.

    `max_depth` (up to 256) bounds the nesting of lists and dicts, `max_tokens` the number of strings, integers, lists, dicts
    and ends of them. Raises BencodeError.
    """
    cdef Reader r
    cdef Py_buffer view
    check_limits(max_depth, max_tokens)
    r.strict = strict
    r.max_depth = max_depth
    r.tokens = max_tokens
    if PyBytes_CheckExact(data):
        r.start = <const uchar*>PyBytes_AS_STRING(<PyObject*>data)
        r.p = r.start
        r.end = r.start + PyBytes_GET_SIZE(<PyObject*>data)
        return read_all(&r, True)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        r.start = <const uchar*>view.buf
        r.p = r.start
        r.end = r.start + view.len
        return read_all(&r, True)
    finally:
        PyBuffer_Release(&view)


def decode_prefix(data, *, Py_ssize_t offset=0, bint strict=True, int max_depth=64, Py_ssize_t max_tokens=2_500_000):
    """The value that begins at `offset`, and the offset just after it; what follows is not looked at (BEP 9 data messages).

    Raises BencodeError; its offset counts from the start of `data`.
    """
    cdef Reader r
    cdef Py_buffer view
    check_limits(max_depth, max_tokens)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if offset < 0 or offset > view.len:
            raise BencodeError("no such offset in the data", offset)
        r.strict = strict
        r.max_depth = max_depth
        r.tokens = max_tokens
        r.start = <const uchar*>view.buf
        r.p = r.start + offset
        r.end = r.start + view.len
        value = read_all(&r, False)
        return value, r.p - r.start
    finally:
        PyBuffer_Release(&view)


def decode_with_info(data, *, bint strict=False, int max_depth=64, Py_ssize_t max_tokens=2_500_000):
    """A .torrent in one pass: (value, start, end), where data[start:end] are the raw bytes of the top-level `info`.

    start and end are -1 when there is no such key. Lenient unless told otherwise. Raises BencodeError.
    """
    cdef Reader r
    cdef Py_buffer view
    check_limits(max_depth, max_tokens)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        r.strict = strict
        r.max_depth = max_depth
        r.tokens = max_tokens
        r.start = <const uchar*>view.buf
        r.p = r.start
        r.end = r.start + view.len
        value = read_all(&r, True)
        return value, r.info_start, r.info_end
    finally:
        PyBuffer_Release(&view)


def info_span(data):
    """(start, end) of the raw bytes of the top-level `info` value, found without building objects.

    The first `info` counts, as in decode_with_info; what follows it is not looked at, and neither the order of keys nor
    leading zeros are checked. Raises BencodeError.
    """
    cdef Py_buffer view
    cdef const uchar* p
    cdef const uchar* first = NULL
    cdef const uchar* start
    cdef Fault fault
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        start = <const uchar*>view.buf
        p = start
        fault = find_info(&p, start + view.len, &first)
        if fault != OK:
            refuse(fault, p - start)
        return first - start, p - start
    finally:
        PyBuffer_Release(&view)


def encode(value, *, int max_depth=64):
    """`value` as bencode: bytes-like and str (as UTF-8) become strings, int and bool integers, list and tuple lists.

    Dict keys are bytes or str and come out sorted by their raw bytes. Raises BencodeError for any other type, two equal keys,
    nesting beyond `max_depth` (up to 256; also what ends a cycle), or more than 1 GiB.
    """
    cdef uchar inline_out[ENCODE_INLINE]
    cdef Open stack[DEPTH_CAP]
    cdef int open_count = 0, i
    cdef Writer w
    cdef PyObject* made
    check_limits(max_depth, 1)
    w.out = inline_out
    w.heap = NULL
    w.size = 0
    w.capacity = ENCODE_INLINE
    w.pairs = NULL
    w.pair_count = 0
    w.pair_capacity = 0
    try:
        write_value(&w, <PyObject*>value, stack, &open_count, max_depth)
        return w.out[:w.size]
    finally:
        for i in range(open_count):
            if stack[i].sequence != NULL:
                Py_DECREF(stack[i].sequence)
        drop_pairs(&w, 0)
        free(w.pairs)
        free(w.heap)
