// Attention over KV pages by NEON.
#include <arm_neon.h>

#include "kernels/attention_tiles.h"
#include "kernels/neon_math.h"
#include "kernels/neon_products.h"

namespace shoal::kernels {
namespace {

// Sixteen floats. Lanes are added and compared in the order of the AVX2 kernels.
struct Vector {
  static constexpr int kTileRows =
      6;  // 6 * 4 sums, and what a step needs beside them, are 29 of 32
  static constexpr int kTileVectors = 1;  // registers

  float32x4_t part[4];

  template <typename Step>
  static inline __attribute__((always_inline)) Vector each(const Step& step) {
    return {{step(0), step(1), step(2), step(3)}};
  }
  static Vector broadcast(float x) {
    return each([&](int) { return vdupq_n_f32(x); });
  }
  static Vector load(const float* in) {
    return each([&](int i) { return vld1q_f32(in + 4 * i); });
  }
  static Vector load(const uint16_t* in) {
    return each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in + 4 * i))); });
  }
  static Vector load(const int8_t* in) {
    const int8x16_t codes = vld1q_s8(in);
    const int16x8_t words[2] = {vmovl_s8(vget_low_s8(codes)), vmovl_s8(vget_high_s8(codes))};
    return each([&](int i) {
      const int16x8_t eight = words[i / 2];
      return vcvtq_f32_s32(vmovl_s16(i % 2 == 0 ? vget_low_s16(eight) : vget_high_s16(eight)));
    });
  }
  static Vector load_first(const float* in, int64_t count) {
    const Eight low = kernels::load_first(in, count), high = kernels::load_first(in + 8, count - 8);
    return {{low.low, low.high, high.low, high.high}};
  }
  static void store(float* out, Vector x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(out + 4 * i, x.part[i]);
  }
  static void store_first(float* out, int64_t count, Vector x) {
    kernels::store_first(out, count, {x.part[0], x.part[1]});
    kernels::store_first(out + 8, count - 8, {x.part[2], x.part[3]});
  }
  static Vector add(Vector a, Vector b) {
    return each([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
  }
  static Vector sub(Vector a, Vector b) {
    return each([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
  }
  static Vector mul(Vector a, Vector b) {
    return each([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
  }
  static Vector div(Vector a, Vector b) {
    return each([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
  }
  static Vector max(Vector a, Vector b) {
    return each([&](int i) { return larger(a.part[i], b.part[i]); });
  }
  static Vector fma(Vector a, Vector b, Vector sum) {
    return each([&](int i) { return vfmaq_f32(sum.part[i], a.part[i], b.part[i]); });
  }
  static Vector exp(Vector x) {
    return each([&](int i) { return exp4(x.part[i]); });
  }
  // -infinity in the lanes outside [begin, end).
  static Vector keep(Vector x, int begin, int end) {
    constexpr int32_t kLanes[4] = {0, 1, 2, 3};
    return each([&](int i) {
      const int32x4_t lane = vaddq_s32(vld1q_s32(kLanes), vdupq_n_s32(4 * i));
      const uint32x4_t wanted =
          vandq_u32(vcgeq_s32(lane, vdupq_n_s32(begin)), vcltq_s32(lane, vdupq_n_s32(end)));
      return vbslq_f32(wanted, x.part[i], vdupq_n_f32(-__builtin_inff()));
    });
  }
  static float first(Vector x) { return vgetq_lane_f32(x.part[0], 0); }
  static float sum(Vector x) {
    return add_lanes(Eight{vaddq_f32(x.part[0], x.part[2]), vaddq_f32(x.part[1], x.part[3])});
  }
  static float largest(Vector x) {
    float32x4_t four = larger(larger(x.part[0], x.part[2]), larger(x.part[1], x.part[3]));
    four = larger(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(larger(four, vextq_f32(four, four, 1)), 0);
  }
  static void transpose8(const float* in, int64_t in_stride, int64_t count, float* out,
                         int64_t out_stride) {
    for (int t = 0; t < 8; ++t) {
      for (int i = 0; i < 8; ++i) out[t * out_stride + i] = i < count ? in[i * in_stride + t] : 0;
    }
  }

 private:
  // The second where either is no number, as on x86.
  static float32x4_t larger(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
  }
};

}  // namespace

void neon_attend(const AttendTask& task) {
  attend_spans<Vector>(task);
}
void neon_attend_span(const AttendTask& task, int64_t span, float* parts) {
  gather<Vector>(task, span, task.next, parts);
}
void neon_attend_join(const AttendTask& task, const float* parts, int64_t count) {
  join_spans<Vector>(task, parts, count);
}

}  // namespace shoal::kernels
