#include "collectives/reduce.h"

#include <array>

#include "base/result.h"
#include "collectives/packed_numbers.h"

namespace shoal {
namespace {

// The commonest sum.
template <Payload P>
void sum_two(const std::byte* first, const std::byte* second, std::span<float> out) {
  for_blocks<P>(out.size(), [&](size_t offset, size_t begin, auto count) {
    const PackedBlock<P> a(first + offset);
    const PackedBlock<P> b(second + offset);
    // Not straight to `out`, which may be a part: the compiler would make no vectors then.
    std::array<float, kPayloadBlock> sum;
    for (size_t i = 0; i < count; ++i) sum[i] = with_one_nan(a[i] + b[i]);
    for (size_t i = 0; i < count; ++i) out[begin + i] = sum[i];
  });
}

template <Payload P>
void sum_all(std::span<const std::byte* const> parts, std::span<float> out) {
  if (parts.size() == 2) return sum_two<P>(parts[0], parts[1], out);
  for_blocks<P>(out.size(), [&](size_t offset, size_t begin, auto count) {
    std::array<float, kPayloadBlock> sum;
    const PackedBlock<P> first(parts[0] + offset);
    for (size_t i = 0; i < count; ++i) sum[i] = first[i];
    for (const std::byte* part : parts.subspan(1)) {
      const PackedBlock<P> next(part + offset);
      for (size_t i = 0; i < count; ++i) sum[i] += next[i];
    }
    for (size_t i = 0; i < count; ++i) out[begin + i] = with_one_nan(sum[i]);
  });
}

}  // namespace

void sum_in_order(Payload payload, std::span<const std::byte* const> parts, std::span<float> out) {
  SHOAL_CHECK(!parts.empty());
  switch (payload) {
    case Payload::kF32:
      return sum_all<Payload::kF32>(parts, out);
    case Payload::kBf16:
      return sum_all<Payload::kBf16>(parts, out);
    case Payload::kInt8:
      return sum_all<Payload::kInt8>(parts, out);
  }
}

}  // namespace shoal
