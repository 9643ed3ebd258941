// The products of 64-bit ARM that multiplies four pairs of bytes and adds them to an int32 in one
// instruction: most such processors since 2018.
#include "kernels/neon_peak.h"
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
  return peak_of_products<int32x4_t>(
      rounds, [](int32x4_t sum, int8x16_t a, int8x16_t b) { return vdotq_s32(sum, a, b); });
}

}  // namespace shoal::kernels
