// The sum that every all-reduce is made of. Pure; any thread.
#pragma once

#include <span>

namespace shoal {

// out[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ...: the order is the ranks', so every
// rank that adds the same parts gets the same bits. Each part has out.size() floats; one of them
// may be `out` itself.
void sum_in_order(std::span<const float* const> parts, std::span<float> out);

}  // namespace shoal
