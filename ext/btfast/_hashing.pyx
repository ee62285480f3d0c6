"""SHA-1 and SHA-256 over many buffers at once, one buffer a vector lane, with the GIL released.

The kernels and the driver that feeds their lanes are plain C in ext/kernels; this module checks what Python hands in
and holds the buffers while they are read. "openssl" is hashlib: the reference in tests, and used where the CPU can run
none but the portable kernel."""


cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport memcpy


cdef extern from "kernels.h" nogil:
    ctypedef struct Engine:
        unsigned int width
    void btfast_kernels_init()
    const Engine* btfast_engine(int algorithm, int kernel)
    int btfast_hash_jobs(int algorithm, HashJob* jobs, size_t n, int kernel)
    int btfast_update_jobs(int algorithm, UpdateJob* jobs, size_t n, int kernel)
    int btfast_state_start(int algorithm, HashState* state)
    int btfast_state_digest(int algorithm, const HashState* state, unsigned char* digest)
    ctypedef struct TreeJob:
        const unsigned char* data
        size_t length
        size_t whole
        size_t width
        unsigned char* hashes
        unsigned char root[32]
        unsigned char sha1[20]
    void btfast_trees_init()
    int btfast_tree_jobs(TreeJob* trees, size_t n, int both, int kernel)


btfast_kernels_init()
btfast_trees_init()

cdef enum:
    SPANS_AT_ONCE = 256
    LEAF = 16384  # bytes that a leaf of a merkle tree stands for (BEP 52)

cdef dict ALGORITHMS = {"sha1": SHA1, "sha256": SHA256}
# Best first. Eight lanes of AVX2 only equal the instructions made for the job at SHA-1 and are slower at SHA-256.
cdef dict KERNELS = {
    "avx512": KERNEL_AVX512,
    "shani": KERNEL_SHANI,
    "armv8": KERNEL_ARMV8,
    "avx2": KERNEL_AVX2,
    "openssl": -1,
    "portable": KERNEL_PORTABLE,
}

# Without instructions made for hashing, OpenSSL's assembly beats the portable kernel, which is what would take
# batches too small for AVX2 or AVX-512 lanes.
cdef bint HASHES_IN_HARDWARE = (btfast_engine(SHA1, KERNEL_SHANI) is not NULL
                                or btfast_engine(SHA1, KERNEL_ARMV8) is not NULL)
cdef Py_ssize_t OPENSSL_UP_TO = 0 if HASHES_IN_HARDWARE else (2 if lane_count(SHA1) > 1 else PY_SSIZE_T_MAX)


cdef int hash_jobs(int algorithm, HashJob* jobs, size_t n, int kernel) noexcept nogil:
    return btfast_hash_jobs(algorithm, jobs, n, kernel)


cdef int update_jobs(int algorithm, UpdateJob* jobs, size_t n, int kernel) noexcept nogil:
    return btfast_update_jobs(algorithm, jobs, n, kernel)


cdef int state_start(int algorithm, HashState* state) noexcept nogil:
    return btfast_state_start(algorithm, state)


cdef int state_digest(int algorithm, const HashState* state, unsigned char* digest) noexcept nogil:
    return btfast_state_digest(algorithm, state, digest)


cdef unsigned int lane_count(int algorithm) noexcept nogil:
    cdef const Engine* engine = btfast_engine(algorithm, KERNEL_AUTO)
    return engine.width if engine is not NULL else 0


cdef int algorithm_number(object name) except -1:
    number = ALGORITHMS.get(name)
    if number is None:
        raise ValueError(f"unknown algorithm {name!r}: use 'sha1' or 'sha256'")
    return number


cdef int kernel_number(int algorithm, object name) except -2:
    """The number of a kernel that this CPU runs; -1 is hashlib."""
    if name is None:
        return KERNEL_AUTO
    number = KERNELS.get(name)
    if number is None:
        raise ValueError(f"unknown kernel {name!r}: use one of {', '.join(KERNELS)}")
    if number >= 0 and btfast_engine(algorithm, number) is NULL:
        raise ValueError(f"kernel {name!r} cannot run on this CPU: use one of kernels()")
    return number


cdef Py_ssize_t digest_length(int algorithm) noexcept nogil:
    return 20 if algorithm == SHA1 else 32


@cython.final
cdef class _Buffers:
    """Holds the bytes of many objects in place until it is dropped."""

    cdef Py_buffer* views
    cdef Py_ssize_t count

    def __cinit__(self, tuple objects):
        self.views = <Py_buffer*>PyMem_Calloc(max(len(objects), 1), sizeof(Py_buffer))
        if self.views is NULL:
            raise MemoryError
        for item in objects:
            PyObject_GetBuffer(item, &self.views[self.count], PyBUF_SIMPLE)
            self.count += 1

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])
        PyMem_Free(self.views)


def kernels(str algorithm not None):
    """Names of the kernels that can run here, best for a large batch first; any of them may be forced by name.

    Raises ValueError for an algorithm other than "sha1" and "sha256"."""
    cdef int number = algorithm_number(algorithm)
    return [name for name, kernel in KERNELS.items() if kernel < 0 or btfast_engine(number, kernel) is not NULL]


def hash_many(str algorithm not None, buffers, *, kernel=None):
    """Digests (20 or 32 bytes each) of any number of contiguous byte buffers, in their order.

    Fastest with 16 buffers of like length, or a multiple. The bytes must not change during the call. Raises ValueError
    for an unknown algorithm, or a kernel that is unknown or cannot run here; TypeError or BufferError for what holds no
    plain bytes."""
    cdef int number = algorithm_number(algorithm)
    cdef int chosen = kernel_number(number, kernel)
    cdef tuple objects = tuple(buffers)
    cdef Py_ssize_t i, n = len(objects), length = digest_length(number)
    cdef HashJob* jobs
    cdef _Buffers held
    if chosen == -1 or (kernel is None and n <= OPENSSL_UP_TO):
        import hashlib  # here: only where the CPU runs none of ours

        return [hashlib.new(algorithm, item, usedforsecurity=False).digest() for item in objects]
    held = _Buffers(objects)
    jobs = <HashJob*>PyMem_Calloc(max(n, 1), sizeof(HashJob))
    if jobs is NULL:
        raise MemoryError
    try:
        for i in range(n):
            jobs[i].data = <const unsigned char*>held.views[i].buf
            jobs[i].length = held.views[i].len
        with nogil:
            btfast_hash_jobs(number, jobs, n, chosen)
        return [PyBytes_FromStringAndSize(<char*>jobs[i].digest, length) for i in range(n)]
    finally:
        PyMem_Free(jobs)


def hash_spans(str algorithm not None, const unsigned char[::1] buffer not None, size_t length, *, kernel=None):
    """The digests, one after the other, of a buffer's consecutive spans of `length` bytes; the last may be shorter.

    An object a span costs more than hashing it where spans are as short as the pairs of a merkle tree. Raises
    ValueError for a length of 0, and as hash_many does."""
    cdef int number = algorithm_number(algorithm)
    cdef int chosen = kernel_number(number, kernel)
    cdef size_t total = buffer.shape[0], done = 0, size = digest_length(number), n, i
    cdef HashJob* jobs
    cdef const unsigned char* data
    cdef char* out
    if length == 0:
        raise ValueError("spans of 0 bytes: give a length of at least 1")
    cdef size_t count = total // length + (total % length != 0)
    if chosen == -1 or (kernel is None and count <= <size_t>OPENSSL_UP_TO):
        import hashlib  # here: only where the CPU runs none of ours

        return b"".join([hashlib.new(algorithm, buffer[done:min(done + length, total)], usedforsecurity=False).digest()
                         for done in range(0, total, length)])
    if count == 0:
        return b""
    data = &buffer[0]
    digests = PyBytes_FromStringAndSize(NULL, count * size)
    out = PyBytes_AS_STRING(digests)
    jobs = <HashJob*>PyMem_Calloc(min(count, <size_t>SPANS_AT_ONCE), sizeof(HashJob))
    if jobs is NULL:
        raise MemoryError
    with nogil:
        while done < count:
            n = min(count - done, <size_t>SPANS_AT_ONCE)
            for i in range(n):
                jobs[i].data = data + (done + i) * length
                jobs[i].length = min(length, total - (done + i) * length)
            btfast_hash_jobs(number, jobs, n, chosen)
            for i in range(n):
                memcpy(out + (done + i) * size, jobs[i].digest, size)
            done += n
    PyMem_Free(jobs)
    return digests


def hash_trees(buffers, shapes, *, bint sha1=False, kernel=None):
    """Merkle roots (32 bytes each) of pieces of v2 torrents (BEP 52), of all of them side by side.

    Each of `shapes` is (bytes, width): how many bytes of the buffer are its file's, what follows being a hybrid's pad,
    and how many leaves of 16 KiB its tree has, a power of two. With `sha1` the 20 bytes of SHA-1 over the whole buffer
    stand before each root; the buffers are read once for both. The bytes must not change during the call. Raises
    ValueError for shapes that do not fit, or as update_many does for the kernel; TypeError, BufferError as hash_many."""
    cdef tuple objects = tuple(buffers)
    cdef list wanted = list(shapes)
    cdef Py_ssize_t i, n = len(objects)
    cdef size_t length, width, count, room = 0
    cdef int chosen = kernel_number(SHA256, kernel)
    cdef TreeJob* trees
    cdef unsigned char* hashes = NULL
    cdef _Buffers held
    if len(wanted) != n:
        raise ValueError(f"{n} buffers but {len(wanted)} shapes: give one shape a buffer")
    if chosen == -1:
        raise ValueError("kernel 'openssl' hashes whole messages only: use another of kernels()")
    held = _Buffers(objects)
    trees = <TreeJob*>PyMem_Calloc(max(n, 1), sizeof(TreeJob))
    if trees is NULL:
        raise MemoryError
    try:
        for i in range(n):
            length, width = wanted[i]
            if not 0 < length <= <size_t>held.views[i].len:
                raise ValueError(f"{length} bytes of a buffer of {held.views[i].len}")
            count = (length - 1) // LEAF + 1
            if width < count or width & (width - 1):
                raise ValueError(f"a tree of {width} leaves for {count}: give a power of two that holds them")
            trees[i].data = <const unsigned char*>held.views[i].buf
            trees[i].length = length
            trees[i].whole = held.views[i].len
            trees[i].width = width
            room += count + 1
        hashes = <unsigned char*>PyMem_Calloc(max(room, <size_t>1), 32)
        if hashes is NULL:
            raise MemoryError
        room = 0
        for i in range(n):
            trees[i].hashes = hashes + 32 * room
            room += (trees[i].length - 1) // LEAF + 2
        with nogil:
            btfast_tree_jobs(trees, n, sha1, chosen)
        return [(PyBytes_FromStringAndSize(<char*>trees[i].sha1, 20) if sha1 else b"")
                + PyBytes_FromStringAndSize(<char*>trees[i].root, 32) for i in range(n)]
    finally:
        PyMem_Free(trees)
        PyMem_Free(hashes)


@cython.final
cdef class Hasher:
    """One digest made of successive buffers; update_many() advances many of them at once.

    Raises ValueError for an algorithm other than "sha1" and "sha256", RuntimeError when it is used while another thread
    updates it."""

    cdef HashState state
    cdef int number
    cdef bint busy
    cdef readonly str algorithm

    def __cinit__(self, str algorithm not None):
        self.number = algorithm_number(algorithm)
        self.algorithm = algorithm
        btfast_state_start(self.number, &self.state)

    cdef int check_idle(self) except -1:
        if self.busy:
            raise RuntimeError("the Hasher is being updated by another thread: wait for it")
        return 0

    @property
    def length(self):
        """Bytes taken so far."""
        return self.state.length

    def update(self, buffer):
        """Takes the next bytes of the message (a contiguous byte buffer)."""
        update_many((self,), (buffer,))

    def digest(self):
        """The digest (20 or 32 bytes) of all bytes so far; more may follow."""
        cdef unsigned char out[32]
        self.check_idle()
        btfast_state_digest(self.number, &self.state, out)
        return PyBytes_FromStringAndSize(<char*>out, digest_length(self.number))

    def copy(self):
        """A Hasher of its own that goes on from the same bytes."""
        cdef Hasher other = Hasher(self.algorithm)
        self.check_idle()
        other.state = self.state
        return other


def update_many(hashers, buffers, *, kernel=None):
    """Advances each hasher by the buffer at the same place, as many side by side as the CPU has lanes.

    Raises ValueError when the two differ in number, a hasher appears twice, algorithms are mixed, or the kernel is
    unknown, cannot run here, or is "openssl", which cannot take up a running state; TypeError or BufferError for
    anything but a Hasher and plain bytes; RuntimeError when another thread is updating one of the hashers. Nothing is
    advanced when it raises."""
    cdef tuple owners = tuple(hashers), objects = tuple(buffers)
    cdef Py_ssize_t i, n = len(owners)
    cdef int number = SHA1, chosen
    cdef Hasher hasher
    cdef UpdateJob* jobs
    cdef _Buffers held
    if len(objects) != n:
        raise ValueError(f"{n} hashers but {len(objects)} buffers: give one buffer a hasher")
    for i in range(n):
        hasher = <Hasher?>owners[i]
        if i == 0:
            number = hasher.number
        if hasher.number != number:
            raise ValueError("hashers of different algorithms: make one call for each algorithm")
    if n > 1 and len(set(owners)) != n:
        raise ValueError("a hasher appears twice: its buffers have no order in one call")
    chosen = kernel_number(number, kernel)
    if chosen == -1:
        raise ValueError("kernel 'openssl' cannot take up a running state: use another of kernels()")
    held = _Buffers(objects)
    jobs = <UpdateJob*>PyMem_Calloc(max(n, 1), sizeof(UpdateJob))
    if jobs is NULL:
        raise MemoryError
    # From here to `nogil` no other thread can run, so that no hasher turns busy after it was looked at.
    for i in range(n):
        hasher = <Hasher>owners[i]
        if hasher.busy:
            PyMem_Free(jobs)
            hasher.check_idle()
        jobs[i].state = &hasher.state
        jobs[i].data = <const unsigned char*>held.views[i].buf
        jobs[i].length = held.views[i].len
    for i in range(n):
        (<Hasher>owners[i]).busy = True
    with nogil:
        btfast_update_jobs(number, jobs, n, chosen)
    for i in range(n):
        (<Hasher>owners[i]).busy = False
    PyMem_Free(jobs)
