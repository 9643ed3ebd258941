// exp for sixteen floats, by AVX-512. Static, so that only files compiled for AVX-512 hold a copy.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace shoal::kernels {

// e^x as exp8 of avx2_math.h computes it, with the same bits.
static inline __m512 exp16(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
  __m512 sum = _mm512_set1_ps(1.0f / 5040);
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 720));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 120));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 24));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 6));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(0.5f));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f));
  sum = _mm512_scalef_ps(sum, n);
  const __mmask16 not_small = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ);
  const __mmask16 large = _mm512_cmp_ps_mask(x, _mm512_set1_ps(88.73f), _CMP_GE_OQ);
  sum = _mm512_maskz_mov_ps(not_small, sum);  // NaN is not small, and has stayed NaN
  return _mm512_mask_mov_ps(sum, large, _mm512_set1_ps(__builtin_inff()));
}

// Lanes below `count` of sixteen.
static inline __mmask16 first_sixteen(int64_t count) {
  return count >= 16  ? static_cast<__mmask16>(0xffff)
         : count <= 0 ? static_cast<__mmask16>(0)
                      : static_cast<__mmask16>((1u << count) - 1);
}

}  // namespace shoal::kernels
