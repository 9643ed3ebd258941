#include "collectives/packing.h"

#include "base/cpu.h"
#include "base/result.h"
#include "collectives/payload_loops.h"

namespace shoal {

const PayloadLoops& best_loops() {
  static const PayloadLoops& best =
      machine_has(Isa::kAvx2) && avx2_loops() != nullptr ? *avx2_loops() : kPortableLoops;
  return best;
}

size_t packed_bytes(Payload payload, size_t count) {
  switch (payload) {
    case Payload::kF32:
      return count * sizeof(float);
    case Payload::kBf16:
      return count * sizeof(uint16_t);
    case Payload::kInt8:
      return count + (count + kPayloadBlock - 1) / kPayloadBlock * sizeof(uint16_t);
  }
  return 0;
}

void pack(Payload payload, std::span<const float> values, std::span<std::byte> packed) {
  SHOAL_CHECK(packed.size() == packed_bytes(payload, values.size()));
  best_loops().pack(payload, values.data(), values.size(), packed.data());
}

void unpack(Payload payload, std::span<const std::byte> packed, std::span<float> values) {
  SHOAL_CHECK(packed.size() == packed_bytes(payload, values.size()));
  best_loops().unpack(payload, packed.data(), values.size(), values.data());
}

}  // namespace shoal
