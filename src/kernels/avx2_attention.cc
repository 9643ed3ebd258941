// Attention over KV pages by AVX2, FMA and F16C.
#include <immintrin.h>

#include "kernels/attention_tiles.h"
#include "kernels/avx2_math.h"
#include "kernels/avx2_products.h"

namespace shoal::kernels {
namespace {

// Sixteen floats.
struct Vector {
  // 6 * 2 sums, and what a step needs beside them, are 15 of 16 registers.
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 1;

  __m256 low, high;

  static Vector broadcast(float x) {
    const __m256 all = _mm256_set1_ps(x);
    return {all, all};
  }
  static Vector load(const float* in) { return {_mm256_loadu_ps(in), _mm256_loadu_ps(in + 8)}; }
  static Vector load(const uint16_t* in) { return {halves(in), halves(in + 8)}; }
  static Vector load(const int8_t* in) { return {codes(in), codes(in + 8)}; }
  static Vector load_first(const float* in, int64_t count) {
    return {kernels::load_first(in, count), kernels::load_first(in + 8, count - 8)};
  }
  static void store(float* out, Vector x) {
    _mm256_storeu_ps(out, x.low);
    _mm256_storeu_ps(out + 8, x.high);
  }
  static void store_first(float* out, int64_t count, Vector x) {
    kernels::store_first(out, count, x.low);
    kernels::store_first(out + 8, count - 8, x.high);
  }
  static Vector add(Vector a, Vector b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static Vector sub(Vector a, Vector b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static Vector mul(Vector a, Vector b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static Vector div(Vector a, Vector b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static Vector max(Vector a, Vector b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  static Vector fma(Vector a, Vector b, Vector sum) {
    return {_mm256_fmadd_ps(a.low, b.low, sum.low), _mm256_fmadd_ps(a.high, b.high, sum.high)};
  }
  static Vector exp(Vector x) { return {exp8(x.low), exp8(x.high)}; }
  // -infinity in the lanes outside [begin, end).
  static Vector keep(Vector x, int begin, int end) {
    return {kept(x.low, begin, end), kept(x.high, begin - 8, end - 8)};
  }
  static float first(Vector x) { return _mm256_cvtss_f32(x.low); }
  static float sum(Vector x) { return add_lanes(_mm256_add_ps(x.low, x.high)); }
  static float largest(Vector x) {
    const __m256 eight = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  static void transpose8(const float* in, int64_t in_stride, int64_t count, float* out,
                         int64_t out_stride) {
    kernels::transpose8(in, in_stride, count, out, out_stride);
  }

 private:
  static __m256 halves(const uint16_t* in) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
  }
  static __m256 codes(const int8_t* in) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
  }
  static __m256 kept(__m256 x, int begin, int end) {
    const __m256i wanted = _mm256_andnot_si256(first_lanes(begin), first_lanes(end));
    return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), x, _mm256_castsi256_ps(wanted));
  }
};

}  // namespace

void avx2_attend(const AttendTask& task) {
  attend_spans<Vector>(task);
}
void avx2_attend_span(const AttendTask& task, int64_t span, float* parts) {
  gather<Vector>(task, span, task.next, parts);
}
void avx2_attend_join(const AttendTask& task, const float* parts, int64_t count) {
  join_spans<Vector>(task, parts, count);
}

}  // namespace shoal::kernels
