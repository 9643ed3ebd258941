// The sum that every all-reduce is made of. Pure; any thread.
#pragma once

#include <span>

#include "collectives/payload.h"

namespace shoal {

// out[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ..., each part out.size() numbers of the
// payload type, the sum in f32: the order is the ranks', so every rank that adds the same parts
// gets the same bits. With kF32 a part may be `out` itself. At least one part.
void sum_in_order(Payload payload, std::span<const std::byte* const> parts, std::span<float> out);

}  // namespace shoal
