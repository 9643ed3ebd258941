// Numbers to payload bytes and back. Pure; any thread. The same bits on every instruction set.
#pragma once

#include <cstddef>
#include <span>

#include "collectives/payload.h"

namespace shoal {

// Blocks of kInt8. `packed_bytes` of a multiple of it is where the numbers after it begin.
inline constexpr size_t kPayloadBlock = 32;

size_t packed_bytes(Payload payload, size_t count);

// `packed` has packed_bytes(payload, values.size()) bytes. bf16 rounds to nearest, ties to even.
// int8 has a scale of largest magnitude / 127, itself bf16, and codes from -127 to 127; of a block
// that holds an infinity the infinities stay and the rest becomes NaN; of one that holds a NaN,
// all. The last block may be shorter: scale, then one byte a number.
void pack(Payload payload, std::span<const float> values, std::span<std::byte> packed);
void unpack(Payload payload, std::span<const std::byte> packed, std::span<float> values);

}  // namespace shoal
