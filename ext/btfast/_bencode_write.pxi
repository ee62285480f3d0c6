# Part of _bencode.pyx: from objects to bytes.

cdef struct Pair:
    const uchar* key
    Py_ssize_t length
    PyObject* key_object     # both held
    PyObject* value

cdef struct Open:
    PyObject* sequence       # held; NULL for a dict
    Py_ssize_t place         # next item, or next pair
    Py_ssize_t base          # first of the dict's pairs
    Py_ssize_t stop          # after the last of them

cdef struct Writer:
    uchar* out
    uchar* heap              # NULL while `out` is the inline buffer
    Py_ssize_t size
    Py_ssize_t capacity
    Pair* pairs
    Py_ssize_t pair_count
    Py_ssize_t pair_capacity


cdef int compare(const void* left, const void* right) noexcept nogil:
    cdef const Pair* a = <const Pair*>left
    cdef const Pair* b = <const Pair*>right
    cdef int order = memcmp(a.key, b.key, min(a.length, b.length))
    if order:
        return order
    return (a.length > b.length) - (a.length < b.length)


cdef int widen(Writer* w, Py_ssize_t more) except -1:
    cdef Py_ssize_t wanted = w.size + more
    cdef Py_ssize_t capacity
    cdef uchar* heap
    if wanted > ENCODED_CAP:
        raise BencodeError("the encoded value is larger than 1 GiB")
    capacity = max(wanted, w.capacity * 2)
    heap = <uchar*>realloc(w.heap, capacity)
    if heap == NULL:
        raise MemoryError()
    if w.heap == NULL:
        memcpy(heap, w.out, w.size)
    w.heap = heap
    w.out = heap
    w.capacity = capacity
    return 0


cdef inline int room(Writer* w, Py_ssize_t more) except -1:
    if unlikely(w.capacity - w.size < more):
        widen(w, more)
    return 0


cdef inline uchar* put_number(uchar* out, uint64_t n) noexcept nogil:
    cdef uchar digits[20]
    cdef int i = 20
    if n < 10:
        out[0] = <uchar>(c'0' + n)
        return out + 1
    while n:
        i -= 1
        digits[i] = <uchar>(c'0' + n % 10)
        n //= 10
    memcpy(out, &digits[i], 20 - i)
    return out + (20 - i)


cdef inline int put_string(Writer* w, const void* data, Py_ssize_t length) except -1:
    cdef uchar* out
    if unlikely(length > ENCODED_CAP):
        raise BencodeError("the encoded value is larger than 1 GiB")
    room(w, length + 24)
    out = put_number(w.out + w.size, <uint64_t>length)
    out[0] = c':'
    memcpy(out + 1, data, length)
    w.size = out + 1 + length - w.out
    return 0


cdef int put_integer(Writer* w, PyObject* value) except -1:
    cdef int overflow = 0
    cdef long long n = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef uchar* out
    cdef bytes text
    if overflow:
        # 1000 digits are 3322 bits; the size is known before the slow conversion. int.__pos__ runs no subclass's code.
        text = b"" if int.bit_length(<object>value) > 3322 else b"i%de" % int.__pos__(<object>value)
        if not text or len(text) - 2 - (overflow < 0) > DIGITS:
            raise BencodeError("an integer of too many digits")
        room(w, len(text))
        memcpy(w.out + w.size, <const char*>text, len(text))
        w.size += len(text)
        return 0
    room(w, 24)
    out = w.out + w.size
    out[0] = c'i'
    out += 1
    if n < 0:
        out[0] = c'-'
        out = put_number(out + 1, ~<uint64_t>n + 1)
    else:
        out = put_number(out, <uint64_t>n)
    out[0] = c'e'
    w.size = out + 1 - w.out
    return 0


cdef int put_text(Writer* w, PyObject* value) except -1:
    cdef Py_ssize_t length = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(value, &length)
    if data == NULL:
        PyErr_Clear()
        raise BencodeError("a str that UTF-8 cannot carry")
    return put_string(w, data, length)


cdef int put_buffer(Writer* w, object value) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        put_string(w, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int gather(Writer* w, PyObject* value, Open* open) except -1:
    # The dict's pairs, sorted by raw key, onto the stack of pairs.
    cdef Py_ssize_t n = PyDict_GET_SIZE(value), place = 0, capacity, i, j
    cdef PyObject* key
    cdef PyObject* item
    cdef Pair* pairs
    cdef Pair* pair
    cdef Pair held
    cdef bint sorted_already = True
    cdef Py_ssize_t length = 0
    if w.pair_count + n > w.pair_capacity:
        capacity = max(w.pair_count + n, w.pair_capacity * 2, 32)
        pairs = <Pair*>realloc(w.pairs, capacity * sizeof(Pair))
        if pairs == NULL:
            raise MemoryError()
        w.pairs = pairs
        w.pair_capacity = capacity
    open.sequence = NULL
    open.base = w.pair_count
    open.place = w.pair_count
    pairs = w.pairs + w.pair_count
    i = 0
    while i < n and PyDict_Next(value, &place, &key, &item):
        pair = &pairs[i]
        if PyBytes_Check(key):
            pair.key = <const uchar*>PyBytes_AS_STRING(key)
            pair.length = PyBytes_GET_SIZE(key)
        elif PyUnicode_Check(key):
            pair.key = <const uchar*>PyUnicode_AsUTF8AndSize(key, &length)
            if pair.key == NULL:
                PyErr_Clear()
                raise BencodeError("a str that UTF-8 cannot carry")
            pair.length = length
        else:
            raise BencodeError(f"a dict key of type {type(<object>key).__name__}: bytes or str are possible")
        pair.key_object = key
        pair.value = item
        Py_INCREF(key)
        Py_INCREF(item)
        w.pair_count += 1
        if i and sorted_already and compare(&pairs[i - 1], pair) >= 0:
            sorted_already = False
        i += 1
    n = i
    open.stop = w.pair_count
    if not sorted_already:
        if n <= SORT_BY_INSERTION:
            for i in range(1, n):
                held = pairs[i]
                j = i
                while j > 0 and compare(&pairs[j - 1], &held) > 0:
                    pairs[j] = pairs[j - 1]
                    j -= 1
                pairs[j] = held
        else:
            qsort(pairs, n, sizeof(Pair), compare)
        for i in range(1, n):
            if compare(&pairs[i - 1], &pairs[i]) == 0:
                raise BencodeError("two equal dict keys, one bytes and one str")
    return 0


cdef inline PyObject* next_item(Open* open) noexcept:
    # The next item of a list or tuple, borrowed; NULL after the last. A list's size is read afresh each time.
    cdef PyObject* sequence = open.sequence
    cdef Py_ssize_t place = open.place
    open.place = place + 1
    if PyList_Check(sequence):
        return PyList_GET_ITEM(sequence, place) if place < PyList_GET_SIZE(sequence) else NULL
    return PyTuple_GET_ITEM(sequence, place) if place < PyTuple_GET_SIZE(sequence) else NULL


cdef int write_value(Writer* w, PyObject* value, Open* stack, int* open_count, int max_depth) except -1:
    cdef Open* top = NULL
    cdef Pair* pair
    while True:
        if PyBytes_Check(value):
            put_string(w, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        elif PyLong_Check(value):
            put_integer(w, value)
        elif PyUnicode_Check(value):
            put_text(w, value)
        elif PyDict_Check(value) or PyList_Check(value) or PyTuple_Check(value):
            if open_count[0] >= max_depth:
                raise BencodeError("nested too deeply, or a container that holds itself")
            top = &stack[open_count[0]]
            room(w, 2)
            if PyDict_Check(value):
                w.out[w.size] = c'd'
                gather(w, value, top)
            else:
                w.out[w.size] = c'l'
                top.sequence = value
                top.place = 0
                Py_INCREF(value)
            w.size += 1
            open_count[0] += 1
        elif PyObject_CheckBuffer(value):
            put_buffer(w, <object>value)
        else:
            raise BencodeError(f"a value of type {type(<object>value).__name__} has no bencoding")
        # Now the next value to write: close what is at its end.
        while True:
            if open_count[0] == 0:
                return 0
            top = &stack[open_count[0] - 1]
            if top.sequence == NULL:
                if top.place < top.stop:
                    pair = &w.pairs[top.place]
                    top.place += 1
                    put_string(w, pair.key, pair.length)
                    value = pair.value
                    break
                drop_pairs(w, top.base)
            else:
                value = next_item(top)
                if value != NULL:
                    break
                Py_DECREF(top.sequence)
            open_count[0] -= 1
            room(w, 1)
            w.out[w.size] = c'e'
            w.size += 1


cdef void drop_pairs(Writer* w, Py_ssize_t base) noexcept:
    cdef Pair* pair
    while w.pair_count > base:
        w.pair_count -= 1
        pair = &w.pairs[w.pair_count]
        Py_DECREF(pair.key_object)
        Py_DECREF(pair.value)
