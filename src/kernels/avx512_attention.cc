// Attention over KV pages by AVX-512.
#include "kernels/avx512_attention.h"

#include <immintrin.h>

#include "kernels/attention_tiles.h"
#include "kernels/avx2_math.h"
#include "kernels/avx512_math.h"

namespace shoal::kernels {
namespace {

// Sixteen floats. Lanes are added and compared in the order of the AVX2 kernels.
struct Vector {
  // 8 * 2 chains of sums keep two units busy at a latency of four.
  static constexpr int kTileRows = 8;
  static constexpr int kTileVectors = 2;

  __m512 lanes;

  static Vector broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vector load(const float* in) { return {_mm512_loadu_ps(in)}; }
  static Vector load(const uint16_t* in) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)))};
  }
  static Vector load(const int8_t* in) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))};
  }
  static Vector load_first(const float* in, int64_t count) {
    return {_mm512_maskz_loadu_ps(first_sixteen(count), in)};
  }
  static void store(float* out, Vector x) { _mm512_storeu_ps(out, x.lanes); }
  static void store_first(float* out, int64_t count, Vector x) {
    _mm512_mask_storeu_ps(out, first_sixteen(count), x.lanes);
  }
  static Vector add(Vector a, Vector b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
  static Vector sub(Vector a, Vector b) { return {_mm512_sub_ps(a.lanes, b.lanes)}; }
  static Vector mul(Vector a, Vector b) { return {_mm512_mul_ps(a.lanes, b.lanes)}; }
  static Vector div(Vector a, Vector b) { return {_mm512_div_ps(a.lanes, b.lanes)}; }
  static Vector max(Vector a, Vector b) { return {_mm512_max_ps(a.lanes, b.lanes)}; }
  static Vector fma(Vector a, Vector b, Vector sum) {
    return {_mm512_fmadd_ps(a.lanes, b.lanes, sum.lanes)};
  }
  static Vector exp(Vector x) { return {exp16(x.lanes)}; }
  // -infinity in the lanes outside [begin, end).
  static Vector keep(Vector x, int begin, int end) {
    const auto wanted = static_cast<__mmask16>(first_sixteen(end) & ~first_sixteen(begin));
    return {_mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), wanted, x.lanes)};
  }
  static float first(Vector x) { return _mm512_cvtss_f32(x.lanes); }
  static float sum(Vector x) { return add_lanes(_mm256_add_ps(low(x), high(x))); }
  static float largest(Vector x) {
    const __m256 eight = _mm256_max_ps(low(x), high(x));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  static void transpose8(const float* in, int64_t in_stride, int64_t count, float* out,
                         int64_t out_stride) {
    kernels::transpose8(in, in_stride, count, out, out_stride);
  }

 private:
  static __m256 low(Vector x) { return _mm512_castps512_ps256(x.lanes); }
  static __m256 high(Vector x) { return _mm512_extractf32x8_ps(x.lanes, 1); }
};

}  // namespace

void avx512_attend(const AttendTask& task) {
  attend_spans<Vector>(task);
}
void avx512_attend_span(const AttendTask& task, int64_t span, float* parts) {
  gather<Vector>(task, span, task.next, parts);
}
void avx512_attend_join(const AttendTask& task, const float* parts, int64_t count) {
  join_spans<Vector>(task, parts, count);
}

}  // namespace shoal::kernels
