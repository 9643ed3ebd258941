#include "collectives/route.h"

namespace shoal {

bool direct_is_cheaper(size_t payload_bytes, size_t ranks, LinkCost cost) {
  const auto p = static_cast<double>(ranks);
  const double alone_s = static_cast<double>(payload_bytes) / cost.bytes_per_s;
  // What the direct way sends more, against one more trip.
  return (p - 1) * alone_s * (1 - 2 / p) <= cost.one_way_s;
}

}  // namespace shoal
