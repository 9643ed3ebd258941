#include "sampling/log_sum_exp.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace shoal {

namespace {

// exp(x) for x <= 0 to about 2 ulp, without branches or calls so that the compiler can vectorise
// the loop below: the head of a vocabulary of 49,152 takes 0.5 ms with std::exp, which is an eighth
// of a small model's whole token. x = n ln2 + r with |r| <= ln2/2, exp(r) by its Taylor series to
// r^13 (remainder below 2^-56).
inline double exp_of_negative(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;  // Cody and Waite's split of ln 2
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  constexpr double kRound = 0x1.8p52;  // adding it leaves the nearest integer in the low bits
  x = x < -700.0 ? -700.0 : x;         // far below what can change a sum that holds exp(0)
  const double shifted = x * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double y = 1.0 / 6227020800.0;
  y = y * r + 1.0 / 479001600.0;
  y = y * r + 1.0 / 39916800.0;
  y = y * r + 1.0 / 3628800.0;
  y = y * r + 1.0 / 362880.0;
  y = y * r + 1.0 / 40320.0;
  y = y * r + 1.0 / 5040.0;
  y = y * r + 1.0 / 720.0;
  y = y * r + 1.0 / 120.0;
  y = y * r + 1.0 / 24.0;
  y = y * r + 1.0 / 6.0;
  y = y * r + 0.5;
  y = y * r + 1.0;
  y = y * r + 1.0;
  const uint64_t exponent = std::bit_cast<uint64_t>(shifted)
                            << 52;  // n, at the place of the exponent
  return std::bit_cast<double>(std::bit_cast<uint64_t>(y) + exponent);
}

constexpr size_t kLanes =
    8;  // independent sums: fixed, so that the bits do not follow the vector width

}  // namespace

PartialSumExp sum_exp(std::span<const float> values) {
  PartialSumExp result{-std::numeric_limits<float>::infinity(), 0};
  std::array<float, kLanes> highest;
  highest.fill(result.maximum);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      highest[lane] = value > highest[lane] ? value : highest[lane];
    }
  }
  for (; i < values.size(); ++i) highest[0] = values[i] > highest[0] ? values[i] : highest[0];
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
  double bad = 0;  // stays 0 unless a value is not a number, which the clamp in exp_of_negative
                   // would pass on oddly
  i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += exp_of_negative(static_cast<double>(values[i + lane]) - maximum);
    }
  }
  for (; i < values.size(); ++i) {
    sums[0] += exp_of_negative(static_cast<double>(values[i]) - maximum);
  }
  for (const float value : values) bad += value != value ? 1.0 : 0.0;
  result.sum =
      ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  if (bad > 0) result.sum = std::numeric_limits<double>::quiet_NaN();
  return result;
}

double log_sum_exp(std::span<const PartialSumExp> parts) {
  float maximum = -std::numeric_limits<float>::infinity();
  for (const PartialSumExp& part : parts) maximum = part.maximum > maximum ? part.maximum : maximum;
  if (std::isinf(maximum)) {
    for (const PartialSumExp& part : parts) {
      if (part.sum != 0) return std::numeric_limits<double>::quiet_NaN();
    }
    return maximum;
  }
  double sum = 0;
  for (const PartialSumExp& part : parts) {
    if (part.sum != 0) {
      sum += part.sum * std::exp(static_cast<double>(part.maximum) - static_cast<double>(maximum));
    }
  }
  return static_cast<double>(maximum) + std::log(sum);
}

double log_sum_exp(std::span<const float> logits) {
  const PartialSumExp part = sum_exp(logits);
  return log_sum_exp(std::span(&part, 1));
}

void exp_differences(std::span<const float> values, float maximum, double scale,
                     std::span<double> out) {
  const double top = maximum;
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = (static_cast<double>(values[i]) - top) * scale;
    out[i] = exp_of_negative(x == x ? x : -700.0);
  }
}

}  // namespace shoal
