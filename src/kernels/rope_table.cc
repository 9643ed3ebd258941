#include "kernels/rope_table.h"

#include <algorithm>
#include <cmath>

namespace shoal::kernels {

void RopeTable::turn_to(std::span<const int32_t> positions, std::span<const float> factors) {
  if (frequencies_.empty()) {
    for (int64_t i = 0; i < pairs(); ++i) {
      double frequency = std::pow(static_cast<double>(spec_.base),
                                  -2.0 * static_cast<double>(i) / spec_.dimensions);
      if (!factors.empty()) frequency /= static_cast<double>(factors[static_cast<size_t>(i)]);
      if (!spec_.frequency_scales.empty())
        frequency *= spec_.frequency_scales[static_cast<size_t>(i)];
      frequencies_.push_back(frequency * static_cast<double>(spec_.position_scale));
    }
  } else if (std::ranges::equal(positions, positions_)) {
    return;
  }
  positions_.assign(positions.begin(), positions.end());
  cosines_.resize(positions.size() * frequencies_.size());
  sines_.resize(cosines_.size());
  size_t at = 0;
  for (const int32_t position : positions) {
    for (const double frequency : frequencies_) {
      const double angle = position * frequency;
      cosines_[at] = static_cast<float>(std::cos(angle)) * spec_.amplitude;
      sines_[at] = static_cast<float>(std::sin(angle)) * spec_.amplitude;
      ++at;
    }
  }
}

}  // namespace shoal::kernels
