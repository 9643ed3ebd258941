// Norms, gates and conversions by AVX2, FMA and F16C, and the table of that instruction set.
#include <immintrin.h>

#include <cmath>
#include <cstring>

#include "kernels/avx2_math.h"
#include "kernels/avx2_products.h"
#include "kernels/kernel_table.h"

namespace shoal::kernels {
namespace {

void rms_norm(const float* in, const float* weight, int64_t width, float epsilon, float* out) {
  __m256 sums[4];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t i = 0; i < width; i += 8) {
    const __m256 x = load_first(in + i, width - i);
    __m256& sum = sums[i / 8 % 4];
    sum = _mm256_fmadd_ps(x, x, sum);
  }
  const float total =
      add_lanes(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
  const float mean = total / static_cast<float>(width);
  const __m256 scale = _mm256_set1_ps(1 / __builtin_sqrtf(mean + epsilon));
  for (int64_t i = 0; i < width; i += 8) {
    const __m256 x = _mm256_mul_ps(load_first(in + i, width - i), scale);
    store_first(out + i, width - i, _mm256_mul_ps(x, load_first(weight + i, width - i)));
  }
}

// x / (1 + e^-y): silu with y = x, and since (1 + tanh u) / 2 = 1 / (1 + e^-2u), the tanh form of
// gelu with y = 2u.
__m256 times_logistic(__m256 x, __m256 y) {
  const __m256 power = exp8(_mm256_sub_ps(_mm256_setzero_ps(), y));
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1), power));
}

__m256 twice_gelu_argument(__m256 x) {
  const __m256 square = _mm256_mul_ps(x, x);
  const __m256 inner = _mm256_fmadd_ps(square, _mm256_set1_ps(0.044715f), _mm256_set1_ps(1));
  return _mm256_mul_ps(_mm256_mul_ps(x, inner), _mm256_set1_ps(1.5957691216f));  // 2 sqrt(2 / pi)
}

void gate(GateKind kind, const float* gate, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += 8) {
    __m256 x = load_first(gate + i, count - i);
    __m256 above = load_first(up + i, count - i);
    __m256 y = x;
    if (kind == GateKind::kGeluTanh) y = twice_gelu_argument(x);
    if (kind == GateKind::kCappedSilu) {
      const __m256 cap = _mm256_set1_ps(kGateCap);
      x = _mm256_min_ps(cap, x);  // the second operand is taken when either is no number
      y = _mm256_mul_ps(x, _mm256_set1_ps(kGateSlope));
      above = _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), cap), _mm256_min_ps(cap, above));
      above = _mm256_add_ps(above, _mm256_set1_ps(1));
    }
    const __m256 value = _mm256_mul_ps(times_logistic(x, y), above);
    store_first(out + i, count - i, value);
  }
}

void store_f16(const float* in, int64_t count, uint16_t* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), halves);
  }
  for (; i < count; ++i) {
    out[i] = static_cast<uint16_t>(_cvtss_sh(in[i], _MM_FROUND_TO_NEAREST_INT));
  }
}

void store_q8(const float* in, int64_t count, int8_t* codes, uint16_t* scales) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (int64_t first = 0; first < count; first += kKvBlock) {
    __m256 x[4];
    __m256i top = _mm256_setzero_si256();  // the largest magnitudes by their bits: NaN above all
    for (int i = 0; i < 4; ++i) {
      const int64_t left = count - first - 8 * i;
      x[i] = left > 0 ? load_first(in + first + 8 * i, left) : _mm256_setzero_ps();
      top = _mm256_max_epi32(top, _mm256_castps_si256(_mm256_and_ps(x[i], magnitude)));
    }
    __m128i top4 = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    top4 = _mm_max_epi32(top4, _mm_shuffle_epi32(top4, 0x4e));
    top4 = _mm_max_epi32(top4, _mm_shuffle_epi32(top4, 0xb1));
    const float wanted = _mm_cvtss_f32(_mm_castsi128_ps(top4)) / 127;
    const uint16_t scale = static_cast<uint16_t>(_cvtss_sh(wanted, _MM_FROUND_TO_POS_INF));
    const float step = _cvtsh_ss(scale);
    const __m256 inverse = _mm256_set1_ps(step > 0 ? 1 / step : 0);
    __m256i q[4];
    for (int i = 0; i < 4; ++i) {
      const __m256 code = _mm256_mul_ps(x[i], inverse);
      const __m256 fits =
          _mm256_cmp_ps(_mm256_and_ps(code, magnitude), _mm256_set1_ps(127.5f), _CMP_LT_OQ);
      q[i] = _mm256_cvtps_epi32(_mm256_and_ps(code, fits));
    }
    const __m256i words =
        _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    alignas(32) int8_t bytes[kKvBlock];
    _mm256_store_si256(
        reinterpret_cast<__m256i*>(bytes),
        _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    const int64_t left = count - first;
    std::memcpy(codes + first, bytes, static_cast<size_t>(left < kKvBlock ? left : kKvBlock));
    scales[first / kKvBlock] = scale;
  }
}

// 32 products of bytes by vpmaddubsw, eight of which add up in 16 bits before vpmaddwd widens them:
// what integer products can reach (from registers twice to three times as much as FMA, and more
// than with vpmaddwd behind every vpmaddubsw).
constexpr int64_t kPeakChains = 4, kPeakDepth = 8;

uint64_t peak(int64_t rounds) {
  __m256i a = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
  const __m256i b = _mm256_set1_epi8(-5);
  __m256i sums[kPeakChains];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m256i& sum : sums) {
      __m256i words = _mm256_setzero_si256();
      for (int i = 0; i < kPeakDepth; ++i) {
        asm volatile("" : "+x"(a));  // the compiler must not see that the products are alike
        words = _mm256_add_epi16(words, _mm256_maddubs_epi16(a, b));
      }
      asm volatile("" : "+x"(ones));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(words, ones));
    }
  }
  uint64_t total = 0;
  for (const __m256i& sum : sums) total += static_cast<uint64_t>(_mm256_extract_epi64(sum, 0));
  return total;
}

// Float weights are multiplied by float activations.
bool takes_codes(ElementType type) {
  return type != ElementType::kF32 && type != ElementType::kF16 && type != ElementType::kBF16;
}

}  // namespace

const KernelTable* avx2_kernels() {
  static const KernelTable table = {
      .isa = Isa::kAvx2,
      .row_unit = kGroupRows,
      .takes_codes = takes_codes,
      .unit_bytes = interleaved_unit_bytes,
      .pack = interleaved_pack,
      .unpack_row = interleaved_unpack_row,
      .product = machine_has_avx_vnni() ? avxvnni_product : avx2_product,
      .quantise = avx2_quantise,
      .quantise_apart = avx2_quantise_apart,
      .apart_rows = machine_has_avx_vnni() ? kApartRows : 0,
      .rms_norm = rms_norm,
      .gate = gate,
      .store_f16 = store_f16,
      .store_q8 = store_q8,
      .attend = avx2_attend,
      .attend_span = avx2_attend_span,
      .attend_join = avx2_attend_join,
      .read_streams = avx2_read_streams,
      .peak = peak,
      .peak_multiply_adds = kPeakChains * kPeakDepth * 32,
      .peak_numbers = "int8",
  };
  return &table;
}

}  // namespace shoal::kernels
