// The products of 64-bit ARM that multiplies four pairs of bytes and adds them to an int32 in one
// instruction: most such processors since 2018.
#include "kernels/neon_products.h"
#include "kernels/neon_vectors.h"
#include "kernels/vector_products.h"

namespace shoal::kernels {
namespace {

struct NeonDot : Neon {
  struct Weights {
    int8x16_t first, last;  // four columns of four rows
  };
  static Weights weights(I first, I last) {
    return {vreinterpretq_s8_s32(first), vreinterpretq_s8_s32(last)};
  }
  struct ByteSums {
    I coarse = {}, fine = {};
  };
  static void add_products(ByteSums& sums, const Weights& w, const int8_t* codes) {
    const int8x16_t x = vld1q_s8(codes);
    sums.coarse = vdotq_laneq_s32(vdotq_laneq_s32(sums.coarse, w.first, x, 0), w.last, x, 1);
    sums.fine = vdotq_laneq_s32(vdotq_laneq_s32(sums.fine, w.first, x, 2), w.last, x, 3);
  }
  static I sum_of(const ByteSums& sums, int32_t first) {
    return steps(sums.coarse, sums.fine, first);
  }
};

}  // namespace

Product neon_dot_product(ElementType type) {
  return vector_product<NeonDot>(type);
}

uint64_t neon_dot_peak(int64_t rounds) {
  int8x16_t a = vdupq_n_s8(3);
  const int8x16_t b = vdupq_n_s8(-5);
  int32x4_t sums[kNeonPeakChains];
  for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  for (int64_t round = 0; round < rounds; ++round) {
    for (int32x4_t& sum : sums) {
      asm volatile("" : "+w"(a));  // the compiler must not see that the products are alike
      sum = vdotq_s32(sum, a, b);
    }
  }
  uint64_t total = 0;
  for (const int32x4_t& sum : sums) total += static_cast<uint64_t>(vaddvq_s32(sum));
  return total;
}

}  // namespace shoal::kernels
