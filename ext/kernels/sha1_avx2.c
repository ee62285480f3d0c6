#include "lanes_avx2.h"
#include "sha1_lanes.h"

void btfast_sha1_avx2(uint32_t *state, const uint8_t *const *data, size_t blocks)
{
    sha1_lanes(state, data, blocks);
}
