// Norms, gates and conversions by NEON, and the table of 64-bit ARM. What is summed has the lanes
// of avx2_rows.cc, and so its bits.
#include <arm_neon.h>

#include <cstring>

#include "kernels/kernel_table.h"
#include "kernels/neon_math.h"
#include "kernels/neon_products.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

void rms_norm(const float* in, const float* weight, int64_t width, float epsilon, float* out) {
  Eight sums[4];
  for (Eight& sum : sums) sum = set_eight(0);
  for (int64_t i = 0; i < width; i += 8) {
    const Eight x = load_first(in + i, width - i);
    Eight& sum = sums[i / 8 % 4];
    sum = {vfmaq_f32(sum.low, x.low, x.low), vfmaq_f32(sum.high, x.high, x.high)};
  }
  const auto add = [](Eight a, Eight b) {
    return Eight{vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
  };
  const float total = add_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
  const float mean = total / static_cast<float>(width);
  const float scale = 1 / __builtin_sqrtf(mean + epsilon);
  for (int64_t i = 0; i < width; i += 8) {
    const Eight x = load_first(in + i, width - i), w = load_first(weight + i, width - i);
    store_first(out + i, width - i,
                {vmulq_f32(vmulq_n_f32(x.low, scale), w.low),
                 vmulq_f32(vmulq_n_f32(x.high, scale), w.high)});
  }
}

// x / (1 + e^-y): silu with y = x, and since (1 + tanh u) / 2 = 1 / (1 + e^-2u), the tanh form of
// gelu with y = 2u.
float32x4_t times_logistic(float32x4_t x, float32x4_t y) {
  const float32x4_t power = exp4(vsubq_f32(vdupq_n_f32(0), y));
  return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1), power));
}

float32x4_t twice_gelu_argument(float32x4_t x) {
  const float32x4_t inner = vfmaq_f32(vdupq_n_f32(1), vmulq_f32(x, x), vdupq_n_f32(0.044715f));
  return vmulq_n_f32(vmulq_f32(x, inner), 1.5957691216f);  // 2 sqrt(2 / pi)
}

float32x4_t gated(GateKind kind, float32x4_t x, float32x4_t above) {
  float32x4_t y = x;
  if (kind == GateKind::kGeluTanh) y = twice_gelu_argument(x);
  if (kind == GateKind::kCappedSilu) {
    const float32x4_t cap = vdupq_n_f32(kGateCap);  // minimum and maximum pass on NaN
    x = vminq_f32(cap, x);
    y = vmulq_n_f32(x, kGateSlope);
    above = vmaxq_f32(vnegq_f32(cap), vminq_f32(cap, above));
    above = vaddq_f32(above, vdupq_n_f32(1));
  }
  return vmulq_f32(times_logistic(x, y), above);
}

void gate(GateKind kind, const float* gate, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 8) {
    const Eight x = load_first(gate + i, count - i), above = load_first(up + i, count - i);
    store_first(out + i, count - i,
                {gated(kind, x.low, above.low), gated(kind, x.high, above.high)});
  }
}

void store_f16(const float* in, int64_t count, uint16_t* out) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
  for (; i < count; ++i) out[i] = float_to_half(in[i]);
}

int32x4_t fitting_codes(float32x4_t x, float inverse) {
  const float32x4_t code = vmulq_n_f32(x, inverse);
  const uint32x4_t fits = vcltq_f32(vabsq_f32(code), vdupq_n_f32(127.5f));
  return vcvtnq_s32_f32(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(code), fits)));
}

void store_q8(const float* in, int64_t count, int8_t* codes, uint16_t* scales) {
  for (int64_t first = 0; first < count; first += kKvBlock) {
    const int64_t left = count - first;
    Eight x[4];
    uint32x4_t top = vdupq_n_u32(0);  // the largest magnitudes by their bits: NaN above all
    for (int i = 0; i < 4; ++i) {
      x[i] = load_first(in + first + 8 * i, left - 8 * i);
      top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(x[i].low)));
      top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(x[i].high)));
    }
    const float largest = vget_lane_f32(vreinterpret_f32_u32(vdup_n_u32(vmaxvq_u32(top))), 0);
    const float wanted = largest / 127;
    uint16_t scale = float_to_half(wanted);
    if (half_to_float(scale) < wanted) ++scale;
    const float step = half_to_float(scale);
    const float inverse = step > 0 ? 1 / step : 0;
    int8_t bytes[kKvBlock];
    for (int i = 0; i < 4; ++i) {
      const int16x8_t words = vcombine_s16(vqmovn_s32(fitting_codes(x[i].low, inverse)),
                                           vqmovn_s32(fitting_codes(x[i].high, inverse)));
      vst1_s8(bytes + 8 * i, vqmovn_s16(words));
    }
    std::memcpy(codes + first, bytes, static_cast<size_t>(left < kKvBlock ? left : kKvBlock));
    scales[first / kKvBlock] = scale;
  }
}

// Float weights are multiplied by float activations.
bool takes_codes(ElementType type) {
  return type != ElementType::kF32 && type != ElementType::kF16 && type != ElementType::kBF16;
}

KernelTable best_table() {
  KernelTable table = {
      .isa = Isa::kNeon,
      .row_unit = kGroupRows,
      .takes_codes = takes_codes,
      .unit_bytes = interleaved_unit_bytes,
      .pack = interleaved_pack,
      .unpack_row = interleaved_unpack_row,
      .product = neon_product,
      .quantise = nullptr,
      .quantise_apart = neon_quantise_apart,
      .apart_rows = INT64_MAX,
      .rms_norm = rms_norm,
      .gate = gate,
      .store_f16 = store_f16,
      .store_q8 = store_q8,
      .attend = neon_attend,
      .attend_span = neon_attend_span,
      .attend_join = neon_attend_join,
      .read_streams = neon_read_streams,
      .peak = neon_peak,
      .peak_multiply_adds = kNeonPeakChains * 8,
      .peak_numbers = "int8",
  };
  if (machine_has_dot_products()) {
    table.product = neon_dot_product;
    table.peak = neon_dot_peak;
    table.peak_multiply_adds = kNeonPeakChains * 16;
  }
  if (machine_has_matrix_products()) {
    table.product = neon_matrix_product;
    table.peak = neon_matrix_peak;
    table.peak_multiply_adds = kNeonPeakChains * 32;
  }
  return table;
}

}  // namespace

const KernelTable* neon_kernels() {
  static const KernelTable table = best_table();
  return &table;
}

}  // namespace shoal::kernels
