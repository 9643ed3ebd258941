// The products of 64-bit ARM that multiplies two rows of eight bytes with two of the same in one
// instruction: Neoverse V1 and N2, Cortex-A510 and later, Apple's M2 and later.
#include "kernels/neon_peak.h"
#include "kernels/neon_products.h"
#include "kernels/neon_vectors.h"
#include "kernels/vector_products.h"

namespace shoal::kernels {
namespace {

// Two rows of weights times the coarse and the fine codes of eight activations: even one row of
// input fills the matrices.
struct NeonMatrix : Neon {
  struct ByteSums {
    I rows01 = {}, rows23 = {};  // coarse and fine of one row, then of the other
  };
  static void add_products(ByteSums& sums, const Weights& w, const int8_t* codes) {
    const int8x16_t x = vld1q_s8(codes);
    sums.rows01 = vmmlaq_s32(sums.rows01, w.rows01, x);
    sums.rows23 = vmmlaq_s32(sums.rows23, w.rows23, x);
  }
  static I sum_of(const ByteSums& sums, int32_t first) {
    return steps(vuzp1q_s32(sums.rows01, sums.rows23), vuzp2q_s32(sums.rows01, sums.rows23), first);
  }
};

}  // namespace

Product neon_matrix_product(ElementType type) {
  return vector_product<NeonMatrix>(type);
}

uint64_t neon_matrix_peak(int64_t rounds) {
  return peak_of_products<int32x4_t>(
      rounds, [](int32x4_t sum, int8x16_t a, int8x16_t b) { return vmmlaq_s32(sum, a, b); });
}

}  // namespace shoal::kernels
