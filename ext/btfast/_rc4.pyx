# RC4 as MSE uses it: one object a direction, in place, without the GIL. The work is in ext/kernels/rc4.h.

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from btfast.reading cimport iovec


@cython.final
@cython.no_gc
cdef class Rc4:
    """One direction of a stream: what is encrypted or decrypted must be given once and in order.

    `key`: 1 to 256 bytes. `drop`: bytes of the key stream that are thrown away first (MSE: 1024). ValueError for another key.
    """

    def __cinit__(self, const uint8_t[::1] key not None, *, size_t drop=0):
        if not 1 <= key.shape[0] <= 256:
            raise ValueError(f"key of {key.shape[0]} bytes")
        if drop > 1 << 20:
            raise ValueError(f"drop of {drop} bytes")
        rc4_set_key(&self.state, &key[0], <size_t>key.shape[0])
        rc4_skip(&self.state, drop)

    def apply(self, uint8_t[::1] data not None):
        """Encrypts or decrypts in place."""
        cdef size_t n = <size_t>data.shape[0]
        cdef uint8_t* p
        if n:
            p = &data[0]
            with nogil:
                rc4_apply(&self.state, p, n)

    cdef void apply_read(self, iovec* v, int n, size_t got, bint skip_first) noexcept:
        """Decrypts the `got` bytes that a readv laid out over `v`; `skip_first`: nobody will look at the first part."""
        cdef int i
        cdef size_t part
        with nogil:
            for i in range(n):
                part = v[i].iov_len if v[i].iov_len < got else got
                if i == 0 and skip_first:
                    rc4_skip(&self.state, part)
                else:
                    rc4_apply(&self.state, <uint8_t*>v[i].iov_base, part)
                got -= part
                if got == 0:
                    break

    def crypt(self, const uint8_t[::1] data not None):
        """The bytes encrypted or decrypted."""
        cdef size_t n = <size_t>data.shape[0]
        cdef uint8_t* p
        found = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n)
        if n:
            p = <uint8_t*>PyBytes_AS_STRING(found)
            memcpy(p, &data[0], n)
            with nogil:
                rc4_apply(&self.state, p, n)
        return found
