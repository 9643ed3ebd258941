// The products of AVX2 with AVX-VNNI, which multiplies pairs of int16 and adds them in one
// instruction: Intel since Alder Lake, AMD since Zen 5.
#include "kernels/avx2_products.h"
#include "kernels/avx2_vectors.h"
#include "kernels/vector_products.h"

namespace shoal::kernels {
namespace {

struct AvxVnni : Avx2 {
  static I dot(I sum, I a, I b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
};

}  // namespace

Product avxvnni_product(ElementType type) {
  return vector_product<AvxVnni>(type);
}

}  // namespace shoal::kernels
