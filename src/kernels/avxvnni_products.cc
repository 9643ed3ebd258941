// The products of AVX2 with AVX-VNNI, which multiplies pairs of int16 and adds them in one
// instruction: Intel since Alder Lake, AMD since Zen 5.
#include "kernels/avx2_products.h"
#include "kernels/avx2_vectors.h"
#include "kernels/vector_products.h"
#include "kernels/vnni_bytes.h"

namespace shoal::kernels {
namespace {

struct AvxVnni : Avx2 {
  static I dot(I sum, I a, I b) { return _mm256_dpwssd_avx_epi32(sum, a, b); }
  static I dot_bytes(I sum, I w, I x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
};

}  // namespace

Product avxvnni_product(ElementType type) {
  return vector_product<VnniBytes<AvxVnni>>(type);
}

}  // namespace shoal::kernels
