#include "collectives/reduce.h"

#include <algorithm>
#include <array>

namespace shoal {

void sum_in_order(std::span<const float* const> parts, std::span<float> out) {
  // A block that stays in the first-level cache, so that a part which is `out` is read before it is
  // overwritten.
  std::array<float, 1024> sum;
  for (size_t begin = 0; begin < out.size(); begin += sum.size()) {
    const size_t count = std::min(sum.size(), out.size() - begin);
    std::copy_n(parts[0] + begin, count, sum.begin());
    for (const float* part : parts.subspan(1)) {
      for (size_t i = 0; i < count; ++i) sum[i] += part[begin + i];
    }
    std::copy_n(sum.begin(), count, out.begin() + static_cast<std::ptrdiff_t>(begin));
  }
}

}  // namespace shoal
