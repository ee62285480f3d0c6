#include "lanes_avx2.h"
#include "sha256_lanes.h"

void btfast_sha256_avx2(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    sha256_lanes(state, data, blocks);
}
