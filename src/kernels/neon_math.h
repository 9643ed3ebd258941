// exp for four floats by NEON, and eight floats as the kernels of AVX2 hold them, so that sums are
// added in the same order. Static, so that each file has its own copy.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace shoal::kernels {

// e^x as exp8 of avx2_math.h computes it, with the same bits.
static inline float32x4_t exp4(float32x4_t x) {
  const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
  float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693145752f));
  r = vfmsq_f32(r, n, vdupq_n_f32(1.42860677e-6f));
  float32x4_t sum = vdupq_n_f32(1.0f / 5040);
  constexpr float kTerms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  for (const float term : kTerms) sum = vfmaq_f32(vdupq_n_f32(term), sum, r);
  // 2^n in two factors, for n = 128.
  const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
  const auto power_of_two = [&](int32x4_t exponent) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, bias), 23));
  };
  sum = vmulq_f32(vmulq_f32(sum, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
  sum = vbslq_f32(vcltq_f32(x, vdupq_n_f32(-87.3f)), vdupq_n_f32(0), sum);
  sum = vbslq_f32(vcgeq_f32(x, vdupq_n_f32(88.73f)), vdupq_n_f32(__builtin_inff()), sum);
  return vbslq_f32(vceqq_f32(x, x), sum, x);
}

struct Eight {
  float32x4_t low, high;
};

static inline Eight set_eight(float x) {
  return {vdupq_n_f32(x), vdupq_n_f32(x)};
}
// Zeros beyond `count`.
static inline Eight load_first(const float* in, int64_t count) {
  if (count >= 8) return {vld1q_f32(in), vld1q_f32(in + 4)};
  float all[8] = {};
  if (count > 0) std::memcpy(all, in, static_cast<size_t>(count) * sizeof(float));
  return {vld1q_f32(all), vld1q_f32(all + 4)};
}
static inline void store_first(float* out, int64_t count, Eight x) {
  float all[8];
  vst1q_f32(all, x.low);
  vst1q_f32(all + 4, x.high);
  if (count > 0) std::memcpy(out, all, static_cast<size_t>(count < 8 ? count : 8) * sizeof(float));
}

// Lanes added in a fixed order: halves, quarters, the last two.
static inline float add_lanes(float32x4_t x) {
  const float32x2_t two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
static inline float add_lanes(Eight x) {
  return add_lanes(vaddq_f32(x.low, x.high));
}

}  // namespace shoal::kernels
