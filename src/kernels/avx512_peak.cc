// The strongest product of AVX-512 with VNNI, for the probe.
#include <immintrin.h>

#include "kernels/avx512_products.h"

namespace shoal::kernels {
namespace {

// vpdpbusd answers after 4 to 5 cycles and two can start in each.
constexpr int kChains = 12;

}  // namespace

const int64_t kAvx512PeakMultiplyAdds = kChains * 64;

uint64_t avx512_peak(int64_t rounds) {
  __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(-5);
  __m512i sums[kChains];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m512i& sum : sums) {
      asm volatile("" : "+v"(a));  // the compiler must not see that the products are alike
      sum = _mm512_dpbusd_epi32(sum, a, b);
    }
  }
  uint64_t total = 0;
  for (const __m512i& sum : sums)
    total += static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(sum)));
  return total;
}

}  // namespace shoal::kernels
