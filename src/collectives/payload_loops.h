// The loops over payloads, compiled once for every machine and once for wider vectors, with the
// same results. Private to this module; pure.
#pragma once

#include <cstddef>

#include "collectives/payload.h"

namespace shoal {

// `packed` is as packing.h says, `parts` and `out` as reduce.h.
struct PayloadLoops {
  void (*pack)(Payload payload, const float* values, size_t count, std::byte* packed);
  void (*unpack)(Payload payload, const std::byte* packed, size_t count, float* values);
  void (*sum)(Payload payload, const std::byte* const* parts, size_t part_count, float* out,
              size_t count);
};

extern const PayloadLoops kPortableLoops;
const PayloadLoops* avx2_loops();  // null where they are not compiled
const PayloadLoops& best_loops();  // for this machine

}  // namespace shoal
