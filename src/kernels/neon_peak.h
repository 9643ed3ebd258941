// The loop that shows how fast 64-bit ARM multiplies bytes, for each of its products
// (KernelTable::peak). Only for files of that architecture.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "kernels/neon_products.h"

namespace shoal::kernels {
namespace {

inline uint64_t sum_of_lanes(int32x4_t sum) {
  return static_cast<uint64_t>(vaddvq_s32(sum));
}
inline uint64_t sum_of_lanes(int16x8_t sum) {
  return static_cast<uint64_t>(vaddvq_s16(sum));
}

// Every round is `multiply(sum, a, b)` for each of kNeonPeakChains sums that do not wait for one
// another.
template <typename Sum, typename Multiply>
uint64_t peak_of_products(int64_t rounds, Multiply multiply) {
  int8x16_t a = vdupq_n_s8(3);
  const int8x16_t b = vdupq_n_s8(-5);
  Sum sums[kNeonPeakChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    for (Sum& sum : sums) {
      asm volatile("" : "+w"(a));  // the compiler must not see that the products are alike
      sum = multiply(sum, a, b);
    }
  }
  uint64_t total = 0;
  for (const Sum& sum : sums) total += sum_of_lanes(sum);
  return total;
}

}  // namespace
}  // namespace shoal::kernels
