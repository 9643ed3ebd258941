// Products by any 64-bit ARM: vector_products.h. And the quantisation of activations, for all that
// multiply so.
#include "kernels/neon_products.h"

#include "kernels/neon_peak.h"
#include "kernels/neon_vectors.h"
#include "kernels/vector_products.h"

namespace shoal::kernels {
namespace {

// The codes of what is left of x; `scale` times them is taken off it.
int32x4_t take_level(float32x4_t& x, float scale, float inverse) {
  const int32x4_t codes = vcvtnq_s32_f32(vmulq_n_f32(x, inverse));
  x = vfmsq_f32(x, vcvtq_f32_s32(codes), vdupq_n_f32(scale));
  return codes;
}

int8x8_t narrowed(int32x4_t first, int32x4_t last) {
  return vqmovn_s16(vcombine_s16(vqmovn_s32(first), vqmovn_s32(last)));
}

}  // namespace

Product neon_product(ElementType type) {
  return vector_product<Neon>(type);
}

void neon_quantise_apart(const float* in, int64_t count, int8_t* codes, BlockSums* blocks) {
  for (int64_t b = 0; b < count / kSubBlock; ++b) {
    float32x4_t x[8];
    // The largest magnitude by its bits, which orders NaN above all: it reaches the scale and so
    // the result, instead of vanishing.
    uint32x4_t top = vdupq_n_u32(0);
    for (int i = 0; i < 8; ++i) {
      x[i] = vld1q_f32(in + b * kSubBlock + 4 * i);
      top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(x[i])));
    }
    const float largest = vget_lane_f32(vreinterpret_f32_u32(vdup_n_u32(vmaxvq_u32(top))), 0);
    const bool tiny = largest < 1e-33f;  // neither inverse may overflow
    const float coarse = tiny ? 0 : largest / 127;
    const float fine = coarse / kFineSteps;
    BlockSums& block = blocks[b];
    for (int half = 0; half < 2; ++half) {
      int32x4_t sums = vdupq_n_s32(0);
      for (int i = 4 * half; i < 4 * half + 4; i += 2) {
        int32x4_t high[2], low[2];
        for (int k = 0; k < 2; ++k) {
          high[k] = take_level(x[i + k], coarse, tiny ? 0 : 127 / largest);
          low[k] = take_level(x[i + k], fine, tiny ? 0 : kFineSteps / coarse);
          sums = vaddq_s32(sums, vmlaq_n_s32(low[k], high[k], kFineSteps));
        }
        int8_t* out = codes + b * kCodeBytes + 8 * i;
        vst1_s8(out, narrowed(high[0], high[1]));
        vst1_s8(out + 8, narrowed(low[0], low[1]));
      }
      block.half_steps[half] = vaddvq_s32(sums);
    }
    block.scale = fine;
    block.weighted_sum = fine * static_cast<float>(block.half_steps[0] + block.half_steps[1]);
  }
}

uint64_t neon_read_streams(const uint8_t* bytes, int64_t quarter_bytes) {
  constexpr int kStreams = 4;
  uint64x2_t sum[kStreams];
  for (uint64x2_t& lanes : sum) lanes = vdupq_n_u64(0);
  for (int64_t offset = 0; offset < quarter_bytes; offset += 256) {
    for (int s = 0; s < kStreams; ++s) {
      const uint8_t* block = bytes + s * quarter_bytes + offset;
      for (int line = 0; line < 256; line += 64) {
        __builtin_prefetch(block + line + 1024);
        for (int i = line; i < line + 64; i += 16)
          sum[s] = vaddq_u64(sum[s], vreinterpretq_u64_u8(vld1q_u8(block + i)));
      }
    }
  }
  return vaddvq_u64(vaddq_u64(vaddq_u64(sum[0], sum[1]), vaddq_u64(sum[2], sum[3])));
}

uint64_t neon_peak(int64_t rounds) {
  return peak_of_products<int16x8_t>(
      rounds, [](int16x8_t sum, int8x16_t a, int8x16_t b) { return vmlal_high_s8(sum, a, b); });
}

}  // namespace shoal::kernels
