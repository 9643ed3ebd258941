// Products by AVX-512 with VNNI, whose vpdpwssd multiplies pairs of int16 and adds them to int32,
// and whose vpdpbusd four pairs of bytes. What is done with it: vector_products.h.
#include "kernels/avx512_products.h"

#include <immintrin.h>

#include "kernels/avx512_vectors.h"
#include "kernels/vector_products.h"
#include "kernels/vnni_bytes.h"

namespace shoal::kernels {

Product avx512_product(ElementType type) {
  return vector_product<VnniBytes<Avx512>>(type);
}

uint64_t avx512_read_streams(const uint8_t* bytes, int64_t quarter_bytes) {
  constexpr int kStreams = 4;
  __m512i sum[kStreams];
  for (__m512i& lanes : sum) lanes = _mm512_setzero_si512();
  for (int64_t offset = 0; offset < quarter_bytes; offset += 256) {
    for (int s = 0; s < kStreams; ++s) {
      const uint8_t* block = bytes + s * quarter_bytes + offset;
      for (int line = 0; line < 4; ++line) {
        _mm_prefetch(reinterpret_cast<const char*>(block + 64 * line + 1024), _MM_HINT_T0);
        sum[s] = _mm512_add_epi64(sum[s], Avx512::load(block + 64 * line));
      }
    }
  }
  const __m512i all =
      _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3]));
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(all));
}

}  // namespace shoal::kernels
