// The vectors of 64-bit ARM as interleaved_codes.h wants them, and three ways to multiply weights
// with activations: by any such processor, by those that have products of four bytes ("dotprod"),
// and of matrices of bytes ("i8mm"). All give the same sums. Only for files of that architecture.
//
// An activation's two levels are always apart (kernel_table.h): there is no product of pairs.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "kernels/kernel_table.h"

namespace shoal::kernels {
namespace {

struct Neon {
  using I = int32x4_t;
  using F = float32x4_t;
  static constexpr int kLanes = 4, kParts = 4;
  // Of input at once: 16 sums in registers, of bytes' coarse and fine products or of floats' even
  // and odd columns.
  static constexpr int kByteRows = 8, kFloatRows = 8;
  static constexpr bool kUnsignedBytes = false;

  static I load(const void* p) { return vld1q_s32(static_cast<const int32_t*>(p)); }
  static F load_floats(const float* p) { return vld1q_f32(p); }
  static void store_floats(float* p, F x) { vst1q_f32(p, x); }
  static F halves(const uint8_t* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
  }
  static I signed_bytes(const uint8_t* p) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(four(p)))));
  }
  static I bytes(const uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(four(p))))));
  }
  static I table16(const void* p) { return load(p); }
  static I look_up(I table, I index) {
    return vreinterpretq_s32_s8(
        vqtbl1q_s8(vreinterpretq_s8_s32(table), vreinterpretq_u8_s32(index)));
  }

  static I set8(int x) { return vreinterpretq_s32_s8(vdupq_n_s8(static_cast<int8_t>(x))); }
  static I set32(int x) { return vdupq_n_s32(x); }
  static F set(float x) { return vdupq_n_f32(x); }
  static I bits_and(I a, I b) { return vandq_s32(a, b); }
  static I or_masked(I a, I b, I mask) { return vorrq_s32(a, vandq_s32(b, mask)); }
  // The compiler's own shifts: the intrinsics have none by 0.
  template <int kBits>
  static I left16(I x) {
    return vreinterpretq_s32_u16(vreinterpretq_u16_s32(x) << kBits);
  }
  template <int kBits>
  static I right16(I x) {
    return vreinterpretq_s32_u16(vreinterpretq_u16_s32(x) >> kBits);
  }
  template <int kBits>
  static I left32(I x) {
    return vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) << kBits);
  }
  template <int kBits>
  static I right32(I x) {
    return vreinterpretq_s32_u32(vreinterpretq_u32_s32(x) >> kBits);
  }
  static I add32(I a, I b) { return vaddq_s32(a, b); }
  static I mul32(I a, I b) { return vmulq_s32(a, b); }

  static F to_floats(I x) { return vcvtq_f32_s32(x); }
  static F as_floats(I x) { return vreinterpretq_f32_s32(x); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F fnma(F a, F b, F c) { return vfmsq_f32(c, a, b); }
  static F exponents(const uint8_t* p) {  // exponent_to_float of small_floats.h
    const I e = bytes(p);
    const I usual = left32<23>(vsubq_s32(e, set32(1)));
    const I small = vshlq_s32(set32(0x00200000), e);
    return as_floats(vbslq_s32(vcltq_s32(e, set32(2)), small, usual));
  }

  // Both levels' sums as sums of fine steps.
  static I steps(I coarse, I fine, int32_t first) {
    return vmlaq_n_s32(vaddq_s32(fine, vdupq_n_s32(first)), coarse, kFineSteps);
  }

  // Products of bytes: eight columns of four rows of weights, `first` and `last` four of them, with
  // eight activations at `codes`. So without any extension.
  struct Weights {
    int8x16_t rows01, rows23;
  };
  static Weights weights(I first, I last) {
    return {vreinterpretq_s8_s32(vzip1q_s32(first, last)),
            vreinterpretq_s8_s32(vzip2q_s32(first, last))};
  }
  struct ByteSums {
    I coarse[2] = {}, fine[2] = {};  // of rows 0 and 1, and of 2 and 3: two sums for each
  };
  static void add_products(ByteSums& sums, const Weights& w, const int8_t* codes) {
    const int8x16_t x = vld1q_s8(codes);
    const int8x8_t coarse = vget_low_s8(x), fine = vget_high_s8(x);
    const int8x16_t rows[2] = {w.rows01, w.rows23};
    for (int i = 0; i < 2; ++i) {
      sums.coarse[i] = add_rows(sums.coarse[i], rows[i], coarse);
      sums.fine[i] = add_rows(sums.fine[i], rows[i], fine);
    }
  }
  static I sum_of(const ByteSums& sums, int32_t first) {
    return steps(vpaddq_s32(sums.coarse[0], sums.coarse[1]), vpaddq_s32(sums.fine[0], sums.fine[1]),
                 first);
  }

 private:
  static uint32x2_t four(const uint8_t* p) {
    uint32_t all;
    std::memcpy(&all, p, sizeof all);
    return vdup_n_u32(all);
  }
  static I add_rows(I sums, int8x16_t rows, int8x8_t x) {
    const int16x8_t a = vmull_s8(vget_low_s8(rows), x), b = vmull_s8(vget_high_s8(rows), x);
    return vpadalq_s16(sums, vpaddq_s16(a, b));  // two products have room in int16: 2 * 127 * 128
  }
};

}  // namespace
}  // namespace shoal::kernels
