#include "collectives/reduce.h"

#include "base/result.h"
#include "collectives/payload_loops.h"

namespace shoal {

void sum_in_order(Payload payload, std::span<const std::byte* const> parts, std::span<float> out) {
  SHOAL_CHECK(!parts.empty());
  best_loops().sum(payload, parts.data(), parts.size(), out.data(), out.size());
}

}  // namespace shoal
