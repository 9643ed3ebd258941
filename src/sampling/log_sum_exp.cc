#include "sampling/log_sum_exp.h"

#include <array>
#include <cmath>
#include <limits>

namespace shoal {

namespace {

constexpr size_t kLanes =
    8;  // independent maxima and sums, so that no addition waits for the one before

}  // namespace

// std::exp takes 3 ns: 0.15 ms for a vocabulary of 49,152. A polynomial that the compiler
// vectorises for SSE2 took longer.
PartialSumExp sum_exp(std::span<const float> values) {
  PartialSumExp result{-std::numeric_limits<float>::infinity(), 0};
  std::array<float, kLanes> highest;
  highest.fill(result.maximum);
  for (size_t i = 0; i < values.size(); ++i) {
    float& lane = highest[i % kLanes];
    lane = values[i] > lane ? values[i] : lane;
  }
  for (const float value : highest) {
    result.maximum = value > result.maximum ? value : result.maximum;
  }
  if (std::isinf(result.maximum)) {
    // All -inf: nothing to add. A +inf or only values that are not numbers: no distribution.
    for (const float value : values) {
      if (!(value < 0)) result.sum = std::numeric_limits<double>::quiet_NaN();
    }
    return result;
  }
  const double maximum = result.maximum;
  std::array<double, kLanes> sums{};
  for (size_t i = 0; i < values.size(); ++i) {
    sums[i % kLanes] += std::exp(static_cast<double>(values[i]) - maximum);
  }
  for (const double sum : sums) result.sum += sum;
  return result;
}

double log_sum_exp(std::span<const PartialSumExp> parts) {
  float maximum = -std::numeric_limits<float>::infinity();
  for (const PartialSumExp& part : parts) maximum = part.maximum > maximum ? part.maximum : maximum;
  double sum = 0;
  for (const PartialSumExp& part : parts) {
    if (part.sum == 0) continue;
    // A maximum that is infinite comes with a sum that is no number.
    sum +=
        std::isinf(part.maximum)
            ? part.sum
            : part.sum * std::exp(static_cast<double>(part.maximum) - static_cast<double>(maximum));
  }
  return std::isinf(maximum) && sum == 0 ? maximum : static_cast<double>(maximum) + std::log(sum);
}

double log_sum_exp(std::span<const float> logits) {
  const PartialSumExp part = sum_exp(logits);
  return log_sum_exp(std::span(&part, 1));
}

}  // namespace shoal
