#include "kernels/rope_table.h"

#include <cmath>

namespace shoal::kernels {

void RopeTable::turn_to(std::span<const int32_t> positions, std::span<const float> factors,
                        int64_t first_row) {
  if (frequencies_.empty()) {
    for (int64_t i = 0; i < pairs(); ++i) {
      double frequency = std::pow(static_cast<double>(spec_.base),
                                  -2.0 * static_cast<double>(i) / spec_.dimensions);
      if (!factors.empty()) frequency /= static_cast<double>(factors[static_cast<size_t>(i)]);
      if (!spec_.frequency_scales.empty())
        frequency *= spec_.frequency_scales[static_cast<size_t>(i)];
      frequencies_.push_back(frequency * static_cast<double>(spec_.position_scale));
    }
  }
  const auto first = static_cast<size_t>(first_row);
  if (positions_.size() < first + positions.size()) {
    positions_.resize(first + positions.size(), -1);
    cosines_.resize(positions_.size() * frequencies_.size());
    sines_.resize(cosines_.size());
  }
  for (size_t i = 0; i < positions.size(); ++i) {
    if (positions_[first + i] == positions[i]) continue;
    positions_[first + i] = positions[i];
    size_t at = (first + i) * frequencies_.size();
    for (const double frequency : frequencies_) {
      const double angle = positions[i] * frequency;
      cosines_[at] = static_cast<float>(std::cos(angle)) * spec_.amplitude;
      sines_[at] = static_cast<float>(std::sin(angle)) * spec_.amplitude;
      ++at;
    }
  }
}

}  // namespace shoal::kernels
