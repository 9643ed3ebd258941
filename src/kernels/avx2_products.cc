// Products of interleaved weights by AVX2, FMA and F16C.
//
// Weights are unsigned bytes for vpmaddubsw, activations signed ones: as many products are summed
// in int16 as it has room for, which each type's largest code decides (Codes::kRun). vpmaddwd then
// adds the pairs and multiplies what coarse codes gave by kFineSteps, so that one int32 holds both
// levels. Every bound is a static_assert beside what it protects.
//
// A row's sum runs over the pieces and sub-blocks in order, in float, with the same instructions
// whatever the number of rows: 16 lanes are 16 rows of the matrix and never meet.
#include "kernels/avx2_products.h"

#include <immintrin.h>

#include <cstring>

#include "kernels/interleaved.h"
#include "kernels/product_walk.h"

namespace shoal::kernels {
namespace {

constexpr int kFloatRows = 4;  // rows of input per pass over a piece: what 16 registers allow
constexpr int kCodeRows = 2;   // the same for rows of codes, which have two levels

inline __m256i load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m256i four_columns(const int8_t* codes) {
  int32_t word;
  std::memcpy(&word, codes, sizeof word);
  return _mm256_set1_epi32(word);
}
inline __m256 halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline __m128i bytes16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
// Lane i of the result: signed byte `half * 8 + i` of 16, as two equal int16.
inline __m256i pairs_of_bytes(__m128i bytes, int half) {
  const __m256i spread = _mm256_add_epi8(
      _mm256_setr_epi8(-128, 0, -128, 0, -128, 1, -128, 1, -128, 2, -128, 2, -128, 3, -128, 3,  //
                       -128, 4, -128, 4, -128, 5, -128, 5, -128, 6, -128, 6, -128, 7, -128, 7),
      _mm256_set1_epi16(static_cast<int16_t>(half * 8 << 8)));
  return _mm256_srai_epi16(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread), 8);
}
// Bytes `half * 8` and on of 16 as eight floats.
inline __m256 floats_of_bytes(__m128i bytes, int half) {
  const __m128i eight = half == 0 ? bytes : _mm_unpackhi_epi64(bytes, bytes);
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
}

// --- codes ---

// How vpmaddubsw sees the codes of a type: as unsigned bytes that stand for byte - kCenter, or,
// where that would leave no room for a sum, as magnitudes whose signs go to the activations.
template <ElementType kType>
struct Codes {
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr bool kLookedUp = kForm.table != Table::kNone;
  static constexpr int kTableLowest = [] {
    int lowest = 0;
    for (int i = 0; kLookedUp && i < 16; ++i) {
      if (values_of(kForm.table)[i] < lowest) lowest = values_of(kForm.table)[i];
    }
    return lowest;
  }();
  static constexpr bool kSigned = kForm.low_bits == 8 || kTableLowest < -32;
  static constexpr int kCenter = kLookedUp && !kSigned ? -kTableLowest : kForm.center;
  static constexpr int kLargest = [] {
    if (kSigned) return 128;
    int largest = (1 << (kForm.low_bits + kForm.high_bits)) - 1;
    for (int i = 0; kLookedUp && i < 16; ++i) {
      const int code = values_of(kForm.table)[i] + kCenter;
      if (i == 0 || code > largest) largest = code;
    }
    return largest;
  }();
  // Vectors whose products with activations int16 can sum: all of a sub-block, half of one, fewer.
  static constexpr int kRoom = 32767 / (2 * kLargest * 127);
  // Whether the two halves of a sub-block have scales of their own, and so sums.
  static constexpr bool kTwoScales =
      kForm.sub_scales != SubScales::kNone && kForm.sub_scales != SubScales::kPer32;
  static constexpr int kRun = kRoom >= 8 && !kTwoScales ? 8 : kRoom >= 4 ? 4 : kRoom >= 2 ? 2 : 1;
  static_assert(kRoom >= 1 && 2 * kRun * kLargest * 127 <= 32767);

  // Of sub-block b.
  const uint8_t *low, *high;
  __m256i table;
  Codes(const uint8_t* p, const PieceOffsets& at, int64_t b)
      : low(p + at.codes + 64 * kForm.low_bits * b),
        high(p + at.high_bits + 64 * kForm.high_bits * b) {
    if constexpr (kLookedUp) {
      const __m128i values =
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(values_of(kForm.table)));
      table = _mm256_broadcastsi128_si256(
          _mm_add_epi8(values, _mm_set1_epi8(static_cast<char>(kSigned ? 0 : kCenter))));
    }
  }

  // Columns 4 i to 4 i + 3 of rows 8 half to 8 half + 7.
  __m256i at(int i, int half) const {
    if constexpr (kForm.low_bits == 8) {
      return load(low + 64 * i + 32 * half);
    } else if constexpr (kForm.low_bits == 4) {
      const __m256i both = load(low + 64 * (i % 4) + 32 * half);
      const __m256i code =
          _mm256_and_si256(i < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
      if constexpr (kLookedUp) return _mm256_shuffle_epi8(table, code);
      return with_high_bits(code, i, half);
    } else {
      const __m256i four = load(low + 64 * (i / 4) + 32 * half);
      const __m256i code =
          _mm256_and_si256(_mm256_srli_epi16(four, i % 4 * 2), _mm256_set1_epi8(3));
      return with_high_bits(code, i, half);
    }
  }

  // Codes times four columns of activations: sums of two products.
  static __m256i times(__m256i codes, __m256i x) {
    if constexpr (kSigned) {  // -128 becomes 128, unsigned
      return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
    } else {
      return _mm256_maddubs_epi16(codes, x);
    }
  }

 private:
  static __m256i with_high_bits(const uint8_t* high, __m256i code, int i, int half) {
    constexpr int kBits = kForm.high_bits, kPer = 8 / kBits;
    constexpr char kMask = static_cast<char>(((1 << kBits) - 1) << kForm.low_bits);
    const __m256i bits = load(high + 64 * (i / kPer) + 32 * half);
    const int up = kForm.low_bits - i % kPer * kBits;
    const __m256i moved = up > 0 ? _mm256_slli_epi16(bits, up) : _mm256_srli_epi16(bits, -up);
    return _mm256_or_si256(code, _mm256_and_si256(moved, _mm256_set1_epi8(kMask)));
  }
  __m256i with_high_bits(__m256i code, int i, int half) const {
    if constexpr (kForm.high_bits == 0) {
      return code;
    } else {
      return with_high_bits(high, code, i, half);
    }
  }
};

// Adds the products of M rows with sub-block b, times scale(level, part, half), whose lanes are
// pairs of int16: part 0 are the first 16 columns, 1 the last, 0 too where a run has both. The
// scale of the coarse level has the factor kFineSteps.
template <ElementType kType, int M, int kSumParts, class Scale>
inline void add_products(const Codes<kType>& codes, const Rows<M>& in, int64_t b,
                         const Scale& scale, __m256i (&dot)[M][kSumParts][2]) {
  constexpr int kRun = Codes<kType>::kRun;
  const auto run = [&](int first) __attribute__((always_inline)) {
    __m256i sums[M][2][2];  // [row][level][half]
#pragma GCC unroll 8
    for (int k = 0; k < kRun; ++k) {
      const int i = kRun == 8 ? k / 2 + k % 2 * 4 : first + k;  // both nibbles of a byte in turn
      const int part = kRun == 8 ? 0 : i / 4;
      const __m256i w[2] = {codes.at(i, 0), codes.at(i, 1)};
      for (int m = 0; m < M; ++m) {
        for (int level = 0; level < 2; ++level) {
          const __m256i x = four_columns(in.codes[m] + kCodeBytes * b + 32 * level + 4 * i);
          for (int half = 0; half < 2; ++half) {
            __m256i& sum = sums[m][level][half];
            const __m256i product = Codes<kType>::times(w[half], x);
            sum = k == 0 ? product : _mm256_add_epi16(sum, product);
            if (k < kRun - 1) continue;
            __m256i& to = dot[m][kSumParts == 1 ? 0 : part][half];
            to = _mm256_add_epi32(to, _mm256_madd_epi16(sum, scale(level, part, half)));
          }
        }
      }
    }
  };
  if constexpr (Codes<kType>::kForm.low_bits == 8) {
#pragma GCC unroll 2
    for (int first = 0; first < 8; first += kRun) run(first);
  } else {
#pragma GCC unroll 8
    for (int first = 0; first < 8; first += kRun) run(first);
  }
}

// --- formats (product_walk.h) ---

// Types whose scales are floats for each 32 columns, stored so or, of IQ4_XS, made of two.
template <ElementType kElement>
struct FloatScales {
  static constexpr ElementType kType = kElement;
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr int kSums = 16, kRowBlock = kCodeRows;
  static constexpr bool kPaired = false;
  using Weights = Codes<kType>;
  static_assert(int64_t{32} * Weights::kLargest * 127 * (kFineSteps + 1) +
                    int64_t{32} * Weights::kCenter * 127 * (kFineSteps + 1) <
                int64_t{1} << 31);

  static __m256 scales(const uint8_t* p, const PieceOffsets& at, int64_t b, int half) {
    if constexpr (kForm.exponent) {  // exponent_to_float of small_floats.h
      const __m256i e = _mm256_cvtepu8_epi32(
          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + at.d + 16 * b + 8 * half)));
      const __m256i usual = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
      const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
      return _mm256_castsi256_ps(
          _mm256_blendv_epi8(usual, small, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
    } else if constexpr (kForm.sub_scales == SubScales::kPer32) {
      return _mm256_mul_ps(halves(p + at.d + 16 * half),
                           floats_of_bytes(bytes16(p + at.scales + 16 * b), half));
    } else {
      return halves(p + at.d + 32 * b + 16 * half);
    }
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets& at, int64_t, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    const __m256i steps[2] = {_mm256_set1_epi16(kFineSteps), _mm256_set1_epi16(1)};
    __m256i dot[M][1][2];
    for (int m = 0; m < M; ++m) {  // codes stand for code - center
      const int begin = -Weights::kCenter * in.blocks[m][b].sum;
      dot[m][0][0] = dot[m][0][1] = _mm256_set1_epi32(begin);
    }
    add_products<kType>(
        Weights(p, at, b), in, b, [&](int level, int, int) { return steps[level]; }, dot);
    for (int half = 0; half < 2; ++half) {
      const __m256 d = scales(p, at, b, half);
      for (int m = 0; m < M; ++m) {
        const BlockSums& block = in.blocks[m][b];
        float* sum = state[m] + 8 * half;
        // The activations' scale first: d may be close to the smallest of floats.
        const __m256 value =
            _mm256_mul_ps(_mm256_cvtepi32_ps(dot[m][0][half]), _mm256_set1_ps(block.scale));
        __m256 acc = _mm256_fmadd_ps(value, d, _mm256_load_ps(sum));
        if constexpr (kForm.minimum) {
          acc = _mm256_fmadd_ps(halves(p + at.m + 32 * b + 16 * half),
                                _mm256_set1_ps(block.weighted_sum), acc);
        }
        _mm256_store_ps(sum, acc);
      }
    }
  }
  template <int M>
  static void finish(const uint8_t*, const PieceOffsets&, int64_t, const Rows<M>&,
                     float (*)[kSums]) {}
};

// Types whose scales are integers for each 32 or 16 columns, times floats for each 256.
template <ElementType kElement>
struct IntegerScales {
  static constexpr ElementType kType = kElement;
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr int kSums = 32, kRowBlock = kCodeRows;
  static constexpr bool kPaired = false;
  using Weights = Codes<kType>;

  static constexpr bool kTwoScales = Weights::kTwoScales;
  static constexpr int kLargestScale = kForm.sub_scales == SubScales::kNibblesPer16   ? 15
                                       : kForm.sub_scales == SubScales::kSixBitsPer16 ? 32
                                       : kForm.sub_scales == SubScales::kPer16        ? 128
                                                                                      : 63;
  // Both levels in one int32: of a sub-block, or of each half where that has no room. What codes
  // and centers add up to may pass the ends on its way and comes back.
  static constexpr int64_t kLargestValue = Weights::kLargest - Weights::kCenter > Weights::kCenter
                                               ? Weights::kLargest - Weights::kCenter
                                               : Weights::kCenter;
  static constexpr int64_t kLargestStep = 127 * kFineSteps + kFineSteps / 2;
  static constexpr bool kOneSum = 32 * kLargestValue * kLargestScale * kLargestStep < int64_t{1}
                                                                                          << 31;
  static constexpr int kSumParts = kOneSum ? 1 : 2;
  static_assert(32 / kSumParts * kLargestValue * kLargestScale * kLargestStep < int64_t{1} << 31);
  static_assert(kOneSum || kTwoScales);
  static_assert(kLargestScale * kFineSteps <= 32767);

  // 16 rows' scales of the first and the last 16 columns.
  static void scale_bytes(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                          __m128i (&out)[2]) {
    const uint8_t* scales = p + at.scales;
    if constexpr (kForm.sub_scales == SubScales::kPer32) {
      out[0] = out[1] = bytes16(scales + 16 * b);
    } else if constexpr (kForm.sub_scales == SubScales::kPer16) {
      out[0] = bytes16(scales + 32 * b);
      out[1] = bytes16(scales + 32 * b + 16);
    } else if constexpr (kForm.sub_scales == SubScales::kNibblesPer16) {
      for (int part = 0; part < 2; ++part) {
        out[part] = _mm_and_si128(bytes16(scales + 32 * b + 16 * part), _mm_set1_epi8(15));
      }
    } else {
      const int64_t n = columns / kSubBlock;
      const __m128i low = bytes16(scales + 16 * b);
      const __m128i high =
          _mm_srl_epi16(bytes16(scales + 16 * (n + b / 2)), _mm_cvtsi32_si128(b % 2 * 4));
      for (int part = 0; part < 2; ++part) {
        const __m128i four =
            _mm_and_si128(part == 0 ? low : _mm_srli_epi16(low, 4), _mm_set1_epi8(15));
        const __m128i two =
            _mm_and_si128(_mm_slli_epi16(high, part == 0 ? 4 : 2), _mm_set1_epi8(0x30));
        out[part] = _mm_sub_epi8(_mm_or_si128(four, two), _mm_set1_epi8(32));
      }
    }
  }

  // Sums of the 16 activations of each half, as pairs of int16.
  static __m256i half_sums(const BlockSums& block, int level) {
    int32_t both;
    std::memcpy(&both, block.half_sums[level], sizeof both);
    return _mm256_set1_epi32(both);
  }
  // Each lane's two numbers, of the first and the last 16 columns, times the sums of activations in
  // fine steps. `numbers` are bytes up to 15.
  static __m256i times_half_sums(const __m128i (&numbers)[2], int half, const BlockSums& block) {
    const __m256i fine = _mm256_blend_epi16(pairs_of_bytes(numbers[0], half),
                                            pairs_of_bytes(numbers[1], half), 0xaa);
    const __m256i coarse = _mm256_mullo_epi16(fine, _mm256_set1_epi16(kFineSteps));
    return _mm256_add_epi32(_mm256_madd_epi16(coarse, half_sums(block, 0)),
                            _mm256_madd_epi16(fine, half_sums(block, 1)));
  }

  template <int M>
  static void subtract_minima(const uint8_t* p, const PieceOffsets& at, int64_t n,
                              const Rows<M>& in, int half, float (*state)[kSums]) {
    __m256 offset[M];
    for (int m = 0; m < M; ++m) offset[m] = _mm256_setzero_ps();
    for (int64_t b = 0; b < n; ++b) {
      if constexpr (kTwoScales) {
        __m128i minima[2];
        for (int part = 0; part < 2; ++part) {
          const __m128i both = bytes16(p + at.scales + 32 * b + 16 * part);
          minima[part] = _mm_and_si128(_mm_srli_epi16(both, 4), _mm_set1_epi8(15));
        }
        for (int m = 0; m < M; ++m) {
          const BlockSums& block = in.blocks[m][b];
          const __m256i sum = times_half_sums(minima, half, block);
          offset[m] =
              _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(block.scale), offset[m]);
        }
      } else {
        const __m256 minimum = floats_of_bytes(bytes16(p + at.minima + 16 * b), half);
        for (int m = 0; m < M; ++m) {
          offset[m] =
              _mm256_fmadd_ps(minimum, _mm256_set1_ps(in.blocks[m][b].weighted_sum), offset[m]);
        }
      }
    }
    const __m256 dmin = halves(p + at.m + 16 * half);
    for (int m = 0; m < M; ++m) {
      float* sum = state[m] + 8 * half;
      _mm256_store_ps(sum, _mm256_fnmadd_ps(dmin, offset[m], _mm256_load_ps(sum)));
    }
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    __m128i bytes[2];
    scale_bytes(p, at, columns, b, bytes);
    __m256i factors[2][2][2];  // [level][part][half]
    for (int part = 0; part < (kTwoScales ? 2 : 1); ++part) {
      for (int half = 0; half < 2; ++half) {
        const __m256i fine = pairs_of_bytes(bytes[part], half);
        factors[1][part][half] = fine;
        factors[0][part][half] = _mm256_mullo_epi16(fine, _mm256_set1_epi16(kFineSteps));
      }
    }
    __m256i dot[M][kSumParts][2];
    begin_sums(factors[1], in, b, dot);
    add_products<kType>(
        Weights(p, at, b), in, b,
        [&](int level, int part, int half) { return factors[level][kTwoScales ? part : 0][half]; },
        dot);
    for (int m = 0; m < M; ++m) {
      const __m256 scale = _mm256_set1_ps(in.blocks[m][b].scale);
      for (int half = 0; half < 2; ++half) {
        float* scaled = state[m] + 16 + 8 * half;
        __m256 acc = _mm256_load_ps(scaled);
        for (int part = 0; part < kSumParts; ++part)
          acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m][part][half]), scale, acc);
        _mm256_store_ps(scaled, acc);
      }
    }
  }

  template <int M>
  static void finish(const uint8_t* p, const PieceOffsets& at, int64_t columns, const Rows<M>& in,
                     float (*state)[kSums]) {
    for (int half = 0; half < 2; ++half) {
      const __m256 d = halves(p + at.d + 16 * half);
      for (int m = 0; m < M; ++m) {
        float* sum = state[m] + 8 * half;
        _mm256_store_ps(sum, _mm256_fmadd_ps(d, _mm256_load_ps(sum + 16), _mm256_load_ps(sum)));
        _mm256_store_ps(sum + 16, _mm256_setzero_ps());
      }
      if constexpr (kForm.minimum) subtract_minima(p, at, columns / kSubBlock, in, half, state);
    }
  }

 private:
  // Codes stand for code - center: sums begin at -center times the scaled sums of the activations.
  template <int M>
  static void begin_sums(const __m256i (&scales)[2][2], const Rows<M>& in, int64_t b,
                         __m256i (&dot)[M][kSumParts][2]) {
    for (int half = 0; half < 2; ++half) {
      for (int m = 0; m < M; ++m) {
        for (int part = 0; part < kSumParts; ++part) dot[m][part][half] = _mm256_setzero_si256();
      }
      if constexpr (Weights::kCenter != 0) {
        for (int part = 0; part < 2; ++part) {
          const __m256i scale = _mm256_srai_epi32(scales[kTwoScales ? part : 0][half], 16);
          for (int m = 0; m < M; ++m) {
            const BlockSums& block = in.blocks[m][b];
            const int steps = kFineSteps * block.half_sums[0][part] + block.half_sums[1][part];
            __m256i& to = dot[m][kOneSum ? 0 : part][half];
            to = _mm256_add_epi32(
                to, _mm256_mullo_epi32(scale, _mm256_set1_epi32(-Weights::kCenter * steps)));
          }
        }
      }
    }
  }
};

// Floats: even and odd columns have their own sums, which halves the chains of dependent additions.
template <ElementType kElement>
struct Floats {
  static constexpr ElementType kType = kElement;
  static constexpr int kSums = 32, kRowBlock = kFloatRows;
  static constexpr bool kPaired = true;

  struct Pair {
    __m256 even, odd;
  };
  // Columns c and c + 1 of 8 rows; BF16 keeps pairs together.
  static Pair columns_at(const uint8_t* p, int64_t c, int half) {
    if constexpr (kType == ElementType::kF32) {
      const auto* floats = reinterpret_cast<const float*>(p + 64 * c + 32 * half);
      return {_mm256_loadu_ps(floats), _mm256_loadu_ps(floats + 16)};
    } else if constexpr (kType == ElementType::kF16) {
      return {halves(p + 32 * c + 16 * half), halves(p + 32 * c + 32 + 16 * half)};
    } else {
      const __m256i pair = load(p + 32 * c + 32 * half);
      return {_mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)),
              _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(-65536)))};
    }
  }
  static __m256 column_at(const uint8_t* p, int64_t c, int half) {
    if constexpr (kType == ElementType::kF32) {
      return _mm256_loadu_ps(reinterpret_cast<const float*>(p + 64 * c + 32 * half));
    } else if constexpr (kType == ElementType::kF16) {
      return halves(p + 32 * c + 16 * half);
    } else {
      return columns_at(p, c, half).even;
    }
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets&, int64_t columns, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    const int64_t begin = b * kSubBlock;
    const int64_t end = begin + kSubBlock < columns ? begin + kSubBlock : columns;
    for (int half = 0; half < 2; ++half) {
      __m256 even[M], odd[M];
      for (int m = 0; m < M; ++m) {
        even[m] = _mm256_load_ps(state[m] + 8 * half);
        odd[m] = _mm256_load_ps(state[m] + 16 + 8 * half);
      }
      int64_t c = begin;
      for (; c + 1 < end; c += 2) {
        const Pair w = columns_at(p, c, half);
        for (int m = 0; m < M; ++m) {
          even[m] = _mm256_fmadd_ps(w.even, _mm256_set1_ps(in.x[m][c]), even[m]);
          odd[m] = _mm256_fmadd_ps(w.odd, _mm256_set1_ps(in.x[m][c + 1]), odd[m]);
        }
      }
      if (c < end) {
        const __m256 w = column_at(p, c, half);
        for (int m = 0; m < M; ++m) {
          even[m] = _mm256_fmadd_ps(w, _mm256_set1_ps(in.x[m][c]), even[m]);
        }
      }
      for (int m = 0; m < M; ++m) {
        _mm256_store_ps(state[m] + 8 * half, even[m]);
        _mm256_store_ps(state[m] + 16 + 8 * half, odd[m]);
      }
    }
  }
  template <int M>
  static void finish(const uint8_t*, const PieceOffsets&, int64_t, const Rows<M>&,
                     float (*)[kSums]) {}
};

}  // namespace

Product avx2_product(ElementType type) {
  switch (type) {
    case ElementType::kF32:
      return walk_product<Floats<ElementType::kF32>>;
    case ElementType::kF16:
      return walk_product<Floats<ElementType::kF16>>;
    case ElementType::kBF16:
      return walk_product<Floats<ElementType::kBF16>>;
    case ElementType::kQ8_0:
      return walk_product<FloatScales<ElementType::kQ8_0>>;
    case ElementType::kQ4_0:
      return walk_product<FloatScales<ElementType::kQ4_0>>;
    case ElementType::kQ4_1:
      return walk_product<FloatScales<ElementType::kQ4_1>>;
    case ElementType::kQ5_0:
      return walk_product<FloatScales<ElementType::kQ5_0>>;
    case ElementType::kQ5_1:
      return walk_product<FloatScales<ElementType::kQ5_1>>;
    case ElementType::kIQ4_NL:
      return walk_product<FloatScales<ElementType::kIQ4_NL>>;
    case ElementType::kIQ4_XS:
      return walk_product<FloatScales<ElementType::kIQ4_XS>>;
    case ElementType::kMXFP4:
      return walk_product<FloatScales<ElementType::kMXFP4>>;
    case ElementType::kQ2_K:
      return walk_product<IntegerScales<ElementType::kQ2_K>>;
    case ElementType::kQ3_K:
      return walk_product<IntegerScales<ElementType::kQ3_K>>;
    case ElementType::kQ4_K:
      return walk_product<IntegerScales<ElementType::kQ4_K>>;
    case ElementType::kQ5_K:
      return walk_product<IntegerScales<ElementType::kQ5_K>>;
    case ElementType::kQ6_K:
      return walk_product<IntegerScales<ElementType::kQ6_K>>;
  }
  return nullptr;
}

namespace {

// One level of 32 activations: codes and the sums of both halves; x becomes what is left of it.
void quantise_level(__m256* x, float scale, float inverse, int8_t* codes, int16_t* half_sums) {
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], _mm256_set1_ps(inverse)));
    x[i] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(q[i]), _mm256_set1_ps(scale), x[i]);
  }
  const __m256i words01 = _mm256_packs_epi32(q[0], q[1]), words23 = _mm256_packs_epi32(q[2], q[3]);
  const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words01, words23),
                                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), packed);

  const __m256i sums01 = _mm256_madd_epi16(words01, _mm256_set1_epi16(1));
  const __m256i sums23 = _mm256_madd_epi16(words23, _mm256_set1_epi16(1));
  __m128i first =
      _mm_add_epi32(_mm256_castsi256_si128(sums01), _mm256_extracti128_si256(sums01, 1));
  __m128i last = _mm_add_epi32(_mm256_castsi256_si128(sums23), _mm256_extracti128_si256(sums23, 1));
  __m128i both = _mm_hadd_epi32(first, last);
  both = _mm_hadd_epi32(both, both);
  half_sums[0] = static_cast<int16_t>(_mm_extract_epi32(both, 0));
  half_sums[1] = static_cast<int16_t>(_mm_extract_epi32(both, 1));
}

}  // namespace

void avx2_quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks) {
  const __m256i magnitude_bits = _mm256_set1_epi32(0x7fffffff);
  for (int64_t b = 0; b < count / kSubBlock; ++b) {
    __m256 x[4];
    for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(in + b * kSubBlock + 8 * i);
    // The largest magnitude by its bits, which orders NaN above all: it reaches the scale and so
    // the result, instead of vanishing.
    __m256i top = _mm256_and_si256(_mm256_castps_si256(x[0]), magnitude_bits);
    for (int i = 1; i < 4; ++i) {
      top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude_bits));
    }
    __m128i top4 = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    top4 = _mm_max_epi32(top4, _mm_shuffle_epi32(top4, 0x4e));
    top4 = _mm_max_epi32(top4, _mm_shuffle_epi32(top4, 0xb1));
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(top4));
    const bool tiny = largest < 1e-33f;  // neither inverse may overflow
    const float coarse = tiny ? 0 : largest / 127;
    const float fine = coarse / kFineSteps;
    BlockSums& block = blocks[b];
    int8_t* out = codes + b * kCodeBytes;
    quantise_level(x, coarse, tiny ? 0 : 127 / largest, out, block.half_sums[0]);
    quantise_level(x, fine, tiny ? 0 : kFineSteps / coarse, out + 32, block.half_sums[1]);
    block.sum = kFineSteps * (block.half_sums[0][0] + block.half_sums[0][1]) +
                block.half_sums[1][0] + block.half_sums[1][1];
    block.scale = fine;
    block.weighted_sum = fine * static_cast<float>(block.sum);
  }
}

uint64_t avx2_read_streams(const uint8_t* bytes, int64_t quarter_bytes) {
  constexpr int kStreams = 4;
  __m256i sum[kStreams];
  for (__m256i& lanes : sum) lanes = _mm256_setzero_si256();
  for (int64_t offset = 0; offset < quarter_bytes; offset += 256) {
    for (int s = 0; s < kStreams; ++s) {
      const uint8_t* block = bytes + s * quarter_bytes + offset;
      for (int line = 0; line < 4; ++line) {
        const uint8_t* at = block + 64 * line;
        _mm_prefetch(reinterpret_cast<const char*>(at + 1024), _MM_HINT_T0);
        sum[s] = _mm256_add_epi64(sum[s], _mm256_add_epi64(load(at), load(at + 32)));
      }
    }
  }
  const __m256i all =
      _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), all);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

}  // namespace shoal::kernels
