// exp for eight floats, by AVX2 and FMA. Static, so that only files compiled for AVX2 hold a copy.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace shoal::kernels {

// e^x with a relative error under 1.5e-7 (a test measures it); 0 below -87.3, where results would
// be subnormal, infinity from 88.73 on, NaN for NaN. x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in
// two parts (Cody & Waite, 1980); e^r by its Taylor series to r^7, whose remainder is under 6e-9
// there.
static inline __m256 exp8(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r =
      _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693145752f), x);  // 16 leading bits: n times it is exact
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.42860677e-6f), r);
  __m256 sum = _mm256_set1_ps(1.0f / 5040);
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 720));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 120));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 24));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 6));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(0.5f));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f));
  // 2^n in two factors, for n = 128.
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 factor1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 factor2 = _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23));
  sum = _mm256_mul_ps(_mm256_mul_ps(sum, factor1), factor2);
  const __m256 small = _mm256_cmp_ps(x, _mm256_set1_ps(-87.3f), _CMP_LT_OQ);
  const __m256 large = _mm256_cmp_ps(x, _mm256_set1_ps(88.73f), _CMP_GE_OQ);
  sum = _mm256_blendv_ps(sum, _mm256_setzero_ps(), small);
  sum = _mm256_blendv_ps(sum, _mm256_set1_ps(__builtin_inff()), large);
  return _mm256_blendv_ps(sum, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

// Lanes below `count` of eight.
static inline __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline __m256 load_first(const float* in, int64_t count) {
  return count >= 8 ? _mm256_loadu_ps(in) : _mm256_maskload_ps(in, first_lanes(count));
}
static inline void store_first(float* out, int64_t count, __m256 value) {
  if (count >= 8) {
    _mm256_storeu_ps(out, value);
  } else {
    _mm256_maskstore_ps(out, first_lanes(count), value);
  }
}

// Lanes added in a fixed order: halves, quarters, the last two.
static inline float add_lanes(__m256 x) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Rows of eight floats, `in_stride` apart, of which `count` are there, become columns.
static inline void transpose8(const float* in, int64_t in_stride, int64_t count, float* out,
                              int64_t out_stride) {
  __m256 r[8], pairs[8], fours[8];
  for (int i = 0; i < 8; ++i)
    r[i] = i < count ? _mm256_loadu_ps(in + i * in_stride) : _mm256_setzero_ps();
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride,
                     _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
  }
}

}  // namespace shoal::kernels
