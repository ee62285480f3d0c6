# Part of _bencode.pyx: from bytes to objects.

cdef struct Frame:
    Py_ssize_t base        # where in the value stack its items begin
    const uchar* key       # last key seen, to check the order
    Py_ssize_t key_length
    bint is_dict
    bint unordered

cdef struct Reader:
    const uchar* start
    const uchar* p
    const uchar* end
    bint strict
    int max_depth
    Py_ssize_t tokens      # left to spend
    PyObject** values
    PyObject** heap        # NULL while `values` is the inline stack
    Py_ssize_t top
    Py_ssize_t capacity
    Py_ssize_t info_start  # of the value of the top-level key `info`; -1 when there is none
    Py_ssize_t info_end

cdef struct CachedKey:
    uint64_t low
    uint64_t high
    PyObject* key

cdef CachedKey key_cache[KEY_CACHE]


cdef inline PyObject* key_object(const uchar* p, Py_ssize_t length) noexcept:
    cdef uint64_t low, high, mixed
    cdef CachedKey* slot
    if length > KEY_CACHED_LENGTH or length == 0:
        return PyBytes_FromStringAndSize(<const char*>p, length)
    # Two words that together with the length name the bytes uniquely; no byte outside the key is read.
    if length >= 8:
        low = load8(p)
        high = load8(p + length - 8)
    elif length >= 4:
        low = load4(p)
        high = load4(p + length - 4)
    else:
        low = p[0] | (<uint64_t>p[length >> 1] << 8)
        high = p[length - 1]
    mixed = (low ^ (high << 1) ^ <uint64_t>length) * <uint64_t>0x9E3779B97F4A7C15
    slot = &key_cache[mixed >> 55]
    if likely(slot.key != NULL and slot.low == low and slot.high == high and PyBytes_GET_SIZE(slot.key) == length):
        Py_INCREF(slot.key)
        return slot.key
    cdef PyObject* made = PyBytes_FromStringAndSize(<const char*>p, length)
    cdef PyObject* old
    if made != NULL:
        old = slot.key
        Py_INCREF(made)
        slot.key = made
        slot.low = low
        slot.high = high
        if old != NULL:
            Py_DECREF(old)
    return made


cdef inline Fault read_length(const uchar** place, const uchar* end, Py_ssize_t* length) noexcept nogil:
    # *place is at a digit. Leaves *place at the first byte of the string, which is wholly inside the data.
    cdef const uchar* p = place[0]
    cdef Py_ssize_t n = p[0] - c'0'
    p += 1
    if n == 0:
        if p < end and c'0' <= p[0] <= c'9':
            return BAD_LENGTH
    else:
        while p < end and c'0' <= p[0] <= c'9':
            n = n * 10 + (p[0] - c'0')
            p += 1
            if n > end - p:     # also keeps n from overflowing
                place[0] = p
                return BEYOND
    if p >= end:
        return TRUNCATED
    if p[0] != c':':
        place[0] = p
        return BAD_LENGTH
    p += 1
    if n > end - p:
        return BEYOND
    place[0] = p
    length[0] = n
    return OK


cdef Fault read_integer(const uchar** place, const uchar* end, PyObject** made) noexcept:
    # *place is after the `i`. Leaves *place after the `e`.
    cdef const uchar* p = place[0]
    cdef const uchar* first = p
    cdef const uchar* digits
    cdef bint negative = False
    cdef int64_t n = 0
    cdef Py_ssize_t count
    cdef char text[DIGITS + 2]
    if p < end and p[0] == c'-':
        negative = True
        p += 1
    digits = p
    while p < end and c'0' <= p[0] <= c'9':
        if p - digits < 18:
            n = n * 10 + (p[0] - c'0')
        p += 1
        if p - digits > DIGITS:
            return LONG_INTEGER
    if p >= end:
        return TRUNCATED
    count = p - digits
    if p[0] != c'e' or count == 0:
        place[0] = p
        return BAD_INTEGER
    if digits[0] == c'0' and (negative or count > 1):
        return BAD_INTEGER
    if count <= 18:
        made[0] = PyLong_FromLongLong(-n if negative else n)
    else:
        memcpy(text, first, p - first)
        text[p - first] = 0
        made[0] = PyLong_FromString(text, NULL, 10)
    place[0] = p + 1
    return OK if made[0] != NULL else RAISED


cdef bint grow(Reader* r) noexcept:
    cdef Py_ssize_t capacity = r.capacity * 2
    cdef PyObject** heap = <PyObject**>realloc(r.heap, capacity * sizeof(PyObject*))
    if heap == NULL:
        return False
    if r.heap == NULL:
        memcpy(heap, r.values, r.top * sizeof(PyObject*))
    r.heap = heap
    r.values = heap
    r.capacity = capacity
    return True


cdef PyObject* close_list(Reader* r, Frame* frame) noexcept:
    cdef Py_ssize_t n = r.top - frame.base, i
    cdef PyObject** items = r.values + frame.base
    cdef PyObject* made = PyList_New(n)
    if made == NULL:
        return NULL
    for i in range(n):
        PyList_SET_ITEM(made, i, items[i])
    r.top = frame.base
    return made


cdef PyObject* close_dict(Reader* r, Frame* frame) noexcept:
    cdef Py_ssize_t n = r.top - frame.base, i
    cdef PyObject** items = r.values + frame.base
    cdef PyObject* made = PyDict_New()
    if made == NULL:
        return NULL
    for i in range(0, n, 2):
        if unlikely(frame.unordered):
            if PyDict_SetDefault(made, items[i], items[i + 1]) == NULL:
                Py_DECREF(made)
                return NULL
        elif PyDict_SetItem(made, items[i], items[i + 1]) < 0:
            Py_DECREF(made)
            return NULL
    for i in range(n):
        Py_DECREF(items[i])
    r.top = frame.base
    return made


cdef Fault read_value(Reader* r) noexcept:
    # Reads one value; on OK it is r.values[0], and r.p is after it. Else r.p is where the fault lies.
    cdef Frame frames[DEPTH_CAP]
    cdef Frame* frame = NULL
    cdef int depth = 0
    cdef bint in_dict = False
    cdef const uchar* p = r.p
    cdef const uchar* end = r.end
    cdef const uchar* key
    cdef const uchar* token
    cdef PyObject* made
    cdef Py_ssize_t length = 0, shared
    cdef Py_ssize_t tokens = r.tokens
    cdef Fault fault
    cdef uchar c
    cdef int order
    while True:
        if p >= end:
            r.p = p
            return TRUNCATED
        if r.top + 2 > r.capacity and not grow(r):
            return NO_MEMORY
        c = p[0]
        if in_dict and c != c'e':
            if unlikely(c - c'0' > 9 or c < c'0'):
                r.p = p
                return KEY_NOT_STRING
            token = p
            fault = read_length(&p, end, &length)
            if unlikely(fault != OK):
                r.p = p
                return fault
            key = p
            if frame.key != NULL:
                # Most neighbours differ in the first byte already.
                if length and frame.key_length and frame.key[0] != key[0]:
                    order = <int>frame.key[0] - <int>key[0]
                else:
                    shared = min(length, frame.key_length)
                    order = memcmp(frame.key, key, shared)
                    if order == 0:
                        order = -1 if frame.key_length < length else 1
                if unlikely(order >= 0):
                    if r.strict:
                        r.p = token
                        return KEY_ORDER
                    frame.unordered = True
            frame.key = key
            frame.key_length = length
            p += length
            made = key_object(key, length)
            if made == NULL:
                return RAISED
            r.values[r.top] = made
            r.top += 1
            if depth == 1 and length == 4 and r.info_start < 0 and memcmp(key, b"info", 4) == 0:
                r.info_start = p - r.start
            if unlikely(p >= end):
                r.p = p
                return TRUNCATED
            c = p[0]
            if unlikely(c == c'e'):
                r.p = p
                return BAD_BYTE
            tokens -= 1
        tokens -= 1
        if unlikely(tokens < 0):
            r.p = p
            return TOO_MANY
        if c'0' <= c <= c'9':
            fault = read_length(&p, end, &length)
            if unlikely(fault != OK):
                r.p = p
                return fault
            made = PyBytes_FromStringAndSize(<const char*>p, length)
            if unlikely(made == NULL):
                return RAISED
            p += length
        elif c == c'i':
            p += 1
            fault = read_integer(&p, end, &made)
            if unlikely(fault != OK):
                r.p = p
                return fault
        elif c == c'l' or c == c'd':
            if unlikely(depth >= r.max_depth):
                r.p = p
                return TOO_DEEP
            in_dict = c == c'd'
            frame = &frames[depth]
            frame.base = r.top
            frame.key = NULL
            frame.key_length = 0
            frame.is_dict = in_dict
            frame.unordered = False
            depth += 1
            p += 1
            continue
        elif c == c'e' and depth:
            made = close_dict(r, frame) if in_dict else close_list(r, frame)
            if unlikely(made == NULL):
                return RAISED
            p += 1
            depth -= 1
            if depth:
                frame = &frames[depth - 1]
                in_dict = frame.is_dict
        else:
            r.p = p
            return BAD_BYTE
        r.values[r.top] = made
        r.top += 1
        if depth == 1 and r.info_end < 0 and r.info_start >= 0 and in_dict:
            r.info_end = p - r.start
        elif depth == 0:
            r.p = p
            r.tokens = tokens
            return OK


cdef Fault skip_value(const uchar** place, const uchar* end) noexcept nogil:
    # Past one value without building it. Dict keys count as values here; their order is not checked.
    cdef const uchar* p = place[0]
    cdef uchar kinds[DEPTH_CAP]      # 0 list, 1 dict before a key, 2 dict before a value
    cdef int depth = 0
    cdef Py_ssize_t length = 0
    cdef Fault fault
    cdef const uchar* digits
    while True:
        if p >= end:
            place[0] = p
            return TRUNCATED
        if c'0' <= p[0] <= c'9':
            fault = read_length(&p, end, &length)
            if fault != OK:
                place[0] = p
                return fault
            p += length
        elif p[0] == c'e' and depth and kinds[depth - 1] != 2:
            p += 1
            depth -= 1
        elif depth and kinds[depth - 1] == 1:
            place[0] = p
            return KEY_NOT_STRING
        elif p[0] == c'i':
            p += 1
            digits = p
            if p < end and p[0] == c'-':
                p += 1
            while p < end and c'0' <= p[0] <= c'9':
                p += 1
            if p >= end:
                place[0] = p
                return TRUNCATED
            if p[0] != c'e' or p == digits or (p - digits == 1 and digits[0] == c'-'):
                place[0] = p
                return BAD_INTEGER
            p += 1
        elif p[0] == c'l' or p[0] == c'd':
            if depth >= DEPTH_CAP:
                place[0] = p
                return TOO_DEEP
            kinds[depth] = 1 if p[0] == c'd' else 0
            depth += 1
            p += 1
            continue
        else:
            place[0] = p
            return BAD_BYTE
        if depth == 0:
            place[0] = p
            return OK
        if kinds[depth - 1]:
            kinds[depth - 1] = 3 - kinds[depth - 1]


cdef Fault find_info(const uchar** place, const uchar* end, const uchar** first) noexcept nogil:
    # *place is at the top-level value. On OK *first and *place are the bounds of the value of its key `info`.
    cdef const uchar* p = place[0]
    cdef const uchar* key
    cdef Py_ssize_t length = 0
    cdef Fault fault
    if p >= end:
        return TRUNCATED
    if p[0] != c'd':
        return NOT_DICT
    p += 1
    while True:
        place[0] = p
        if p >= end:
            return TRUNCATED
        if p[0] == c'e':
            return NO_INFO
        if not c'0' <= p[0] <= c'9':
            return KEY_NOT_STRING
        fault = read_length(&p, end, &length)
        if fault != OK:
            return fault
        key = p
        p += length
        first[0] = p
        place[0] = p
        fault = skip_value(place, end)
        if fault != OK:
            return fault
        if length == 4 and memcmp(key, b"info", 4) == 0:
            return OK
        p = place[0]
