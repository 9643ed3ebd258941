#include "sampling/top.h"

#include <algorithm>
#include <limits>

namespace shoal {

void select_top(std::span<const float> values, int32_t first_token, size_t count,
                std::vector<ScoredToken>& best) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  best.clear();
  count = std::min(count, values.size());
  if (count == 0) return;
  // Values that beat the worst of the best so far are collected; when twice as many as wanted have
  // come together, the better half stays. Tokens come in rising order, so a later value equal to
  // the threshold loses the tie and need not be kept.
  const size_t capacity = std::min(values.size(), 2 * count + 64);
  best.reserve(capacity);
  bool full = false;
  float threshold = kLowest;
  constexpr size_t kBlock = 16;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const size_t end = std::min(begin + kBlock, values.size());
    if (full) {
      bool any = false;
      for (size_t i = begin; i < end; ++i) any |= values[i] > threshold;
      if (!any) continue;
    }
    for (size_t i = begin; i < end; ++i) {
      const float value = values[i] == values[i] ? values[i] : kLowest;
      if (full && !(value > threshold)) continue;
      best.push_back({first_token + static_cast<int32_t>(i), value});
      if (best.size() == capacity && best.size() > count) {
        std::nth_element(best.begin(), best.begin() + static_cast<ptrdiff_t>(count - 1), best.end(),
                         better);
        best.resize(count);
        threshold = best.back().logit;
        full = true;
      }
    }
  }
  const auto middle = best.begin() + static_cast<ptrdiff_t>(count);
  std::partial_sort(best.begin(), middle, best.end(), better);
  best.resize(count);
}

}  // namespace shoal
