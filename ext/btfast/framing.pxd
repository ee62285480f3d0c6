# Sizes, numbers (32 bits, the high byte first) and the header of a block as the peer protocol frames them. Inlined into
# whoever cimports them; no module of its own. https://www.bittorrent.org/beps/bep_0003.html

from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #ifndef BTFAST_BIGENDIAN
    #define BTFAST_BIGENDIAN
    #include <stdint.h>
    static inline void btfast_put32(uint8_t *p, uint32_t v) {
        p[0] = (uint8_t)(v >> 24); p[1] = (uint8_t)(v >> 16); p[2] = (uint8_t)(v >> 8); p[3] = (uint8_t)v;
    }
    static inline uint32_t btfast_read32(const uint8_t *p) {
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    #endif
    """
    void put32 "btfast_put32"(uint8_t* p, uint32_t v) noexcept nogil
    uint32_t read32 "btfast_read32"(const uint8_t* p) noexcept nogil

cdef enum:
    BLOCK = 16384
    HANDSHAKE = 68
    PIECE_HEADER = 13  # length prefix, id, index, begin


cdef inline void piece_header(uint8_t* p, uint32_t index, uint32_t begin, uint32_t length) noexcept:
    put32(p, 9 + length)
    p[4] = 7
    put32(p + 5, index)
    put32(p + 9, begin)
