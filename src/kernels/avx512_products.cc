// Products of interleaved weights by AVX-512 with VNNI.
//
// Activations are int16 here, kFineSteps times the coarse code plus the fine one, and weights are
// widened to int16: vpdpwssd sums a sub-block's products of both levels exactly in one int32. Few
// rows of input read the packed weights where they lie. Many unpack a block of them once into a
// panel of int16 that stays in the nearest cache, with the integer scales of the K types multiplied
// in; those sums are the same integers and meet the same floats in the same order, so a row's bits
// do not depend on how many rows there are. They are those of AVX2, too.
//
// Per pair of columns and 16 rows of weights a panel costs one vpdpwssd, twice as many as int8
// codes of one level would: that is the price of the second level (kernel_table.h says why).
#include "kernels/avx512_products.h"

#include <immintrin.h>

#include <cstring>

#include "kernels/avx2_products.h"
#include "kernels/interleaved.h"
#include "kernels/product_walk.h"

namespace shoal::kernels {
namespace {

constexpr int kPairs = kSubBlock / 2;  // of columns, in a sub-block

inline __m512i load(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}
inline __m128i bytes16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline __m512 halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline __m512i pair_of(const int8_t* codes, int pair) {
  int32_t word;
  std::memcpy(&word, codes + 4 * pair, sizeof word);
  return _mm512_set1_epi32(word);
}
inline int32_t half_steps(const BlockSums& block, int half) {
  return kFineSteps * block.half_sums[0][half] + block.half_sums[1][half];
}

// --- codes ---

// The codes of a sub-block as int16, two columns to a lane of 32 bits. Pair 2 g is columns 4 g and
// 4 g + 2, pair 2 g + 1 those after them: what masks and shifts leave of a vector of bytes.
template <ElementType kType>
struct Codes {
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr bool kLookedUp = kForm.table != Table::kNone;
  static constexpr bool kSigned = kForm.low_bits == 8 || kLookedUp;
  static constexpr int kCenter = kForm.center;  // to be subtracted from what pairs() gives
  static constexpr bool kTwoScales =
      kForm.sub_scales != SubScales::kNone && kForm.sub_scales != SubScales::kPer32;

  const uint8_t *low, *high;
  __m512i table;
  Codes(const uint8_t* p, const PieceOffsets& at, int64_t b)
      : low(p + at.codes + 64 * kForm.low_bits * b),
        high(p + at.high_bits + 64 * kForm.high_bits * b) {
    if constexpr (kLookedUp) {
      table = _mm512_broadcast_i32x4(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(values_of(kForm.table))));
    }
  }

  // Pairs 2 group and 2 group + 1.
  void pairs(int group, __m512i& even, __m512i& odd) const {
    if constexpr (kForm.low_bits == 4 && kForm.high_bits == 0 && !kLookedUp) {
      const __m512i both = load(low + 64 * (group % 4)), mask = _mm512_set1_epi16(15);
      if (group < 4) {
        even = _mm512_and_si512(both, mask);
        odd = _mm512_and_si512(_mm512_srli_epi16(both, 8), mask);
      } else {
        even = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
        odd = _mm512_srli_epi16(both, 12);
      }
    } else if constexpr (kSigned) {
      const __m512i four = bytes(group);
      even = _mm512_srai_epi16(_mm512_slli_epi16(four, 8), 8);
      odd = _mm512_srai_epi16(four, 8);
    } else {
      const __m512i four = bytes(group);
      even = _mm512_and_si512(four, _mm512_set1_epi16(255));
      odd = _mm512_srli_epi16(four, 8);
    }
  }

 private:
  __m512i bytes(int group) const {  // columns 4 group to 4 group + 3
    if constexpr (kForm.low_bits == 8) {
      return load(low + 64 * group);
    } else if constexpr (kForm.low_bits == 4) {
      const __m512i both = load(low + 64 * (group % 4));
      const __m512i code =
          _mm512_and_si512(group < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
      if constexpr (kLookedUp) return _mm512_shuffle_epi8(table, code);
      return with_high_bits(code, group);
    } else {
      const __m512i four = load(low + 64 * (group / 4));
      const __m512i code = _mm512_and_si512(
          _mm512_srli_epi16(four, static_cast<unsigned>(group % 4 * 2)), _mm512_set1_epi8(3));
      return with_high_bits(code, group);
    }
  }
  __m512i with_high_bits(__m512i code, int group) const {
    if constexpr (kForm.high_bits == 0) {
      return code;
    } else {
      constexpr int kBits = kForm.high_bits, kPer = 8 / kBits;
      constexpr char kMask = static_cast<char>(((1 << kBits) - 1) << kForm.low_bits);
      constexpr int kOrOfAnd = 0xf8;  // code | (bits & mask)
      const __m512i bits = load(high + 64 * (group / kPer));
      const int up = kForm.low_bits - group % kPer * kBits;
      const __m512i moved = up > 0 ? _mm512_slli_epi16(bits, static_cast<unsigned>(up))
                                   : _mm512_srli_epi16(bits, static_cast<unsigned>(-up));
      return _mm512_ternarylogic_epi32(code, moved, _mm512_set1_epi8(kMask), kOrOfAnd);
    }
  }
};

// --- scales ---

// Floats of 16 rows for each 32 columns: stored so or, of IQ4_XS, made of two.
template <ElementType kType>
inline __m512 float_scales(const uint8_t* p, const PieceOffsets& at, int64_t b) {
  constexpr const TypeForm& kForm = type_form(kType);
  if constexpr (kForm.exponent) {  // exponent_to_float of small_floats.h
    const __m512i e = _mm512_cvtepu8_epi32(bytes16(p + at.d + 16 * b));
    const __m512i usual = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    const __mmask16 is_small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_blend_epi32(is_small, usual, small));
  } else if constexpr (kForm.sub_scales == SubScales::kPer32) {
    const __m512i bytes = _mm512_cvtepi8_epi32(bytes16(p + at.scales + 16 * b));
    return _mm512_mul_ps(halves(p + at.d), _mm512_cvtepi32_ps(bytes));
  } else {
    return halves(p + at.d + 32 * b);
  }
}

// Integers of 16 rows, for the first and the last 16 of sub-block b's columns.
template <ElementType kType>
inline void integer_scales(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                           __m512i (&out)[2]) {
  constexpr SubScales kScales = type_form(kType).sub_scales;
  const uint8_t* scales = p + at.scales;
  if constexpr (kScales == SubScales::kPer32) {
    out[0] = out[1] = _mm512_cvtepi8_epi32(bytes16(scales + 16 * b));
  } else if constexpr (kScales == SubScales::kPer16) {
    out[0] = _mm512_cvtepi8_epi32(bytes16(scales + 32 * b));
    out[1] = _mm512_cvtepi8_epi32(bytes16(scales + 32 * b + 16));
  } else if constexpr (kScales == SubScales::kNibblesPer16) {
    for (int part = 0; part < 2; ++part) {
      const __m512i both = _mm512_cvtepu8_epi32(bytes16(scales + 32 * b + 16 * part));
      out[part] = _mm512_and_si512(both, _mm512_set1_epi32(15));
    }
  } else {
    const int64_t n = columns / kSubBlock;
    const __m512i low = _mm512_cvtepu8_epi32(bytes16(scales + 16 * b));
    const __m512i high = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes16(scales + 16 * (n + b / 2))),
                                          _mm_cvtsi32_si128(b % 2 * 4));
    for (int part = 0; part < 2; ++part) {
      const __m512i four =
          _mm512_and_si512(part == 0 ? low : _mm512_srli_epi32(low, 4), _mm512_set1_epi32(15));
      const __m512i two =
          _mm512_and_si512(_mm512_slli_epi32(high, part == 0 ? 4 : 2), _mm512_set1_epi32(0x30));
      out[part] = _mm512_sub_epi32(_mm512_or_si512(four, two), _mm512_set1_epi32(32));
    }
  }
}

// Of types with integer scales: for the first and the last 16 columns, equal where they share one.
template <ElementType kType>
inline void minima_of(const uint8_t* p, const PieceOffsets& at, int64_t b, __m512i (&out)[2]) {
  if constexpr (type_form(kType).sub_scales == SubScales::kNibblesPer16) {
    for (int part = 0; part < 2; ++part) {
      const __m512i both = _mm512_cvtepu8_epi32(bytes16(p + at.scales + 32 * b + 16 * part));
      out[part] = _mm512_srli_epi32(both, 4);
    }
  } else {
    out[0] = out[1] = _mm512_cvtepi8_epi32(bytes16(p + at.minima + 16 * b));
  }
}

// Whether a type's integer scales leave a sub-block's sum room in int32, or only each half's.
template <ElementType kType>
constexpr bool kSumsPerHalf = type_form(kType).sub_scales == SubScales::kPer16;
// Whether scales are floats for each 32 columns.
template <ElementType kType>
constexpr bool kFloatScaled =
    type_form(kType).sub_scales == SubScales::kNone || kType == ElementType::kIQ4_XS;

// --- few rows of input: packed weights as they lie ---

template <ElementType kElement>
struct Packed {
  static constexpr ElementType kType = kElement;
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr int kSums = kFloatScaled<kType> ? 16 : 32, kRowBlock = 8;
  static constexpr bool kPaired = false;
  using Weights = Codes<kType>;

  // dot[m][half]: of the first and the last 16 columns of sub-block b, exactly.
  template <int M>
  static void dots(const Weights& weights, const Rows<M>& in, int64_t b, __m512i (&dot)[M][2]) {
    for (int m = 0; m < M; ++m) {
      for (int half = 0; half < 2; ++half) {
        dot[m][half] =
            Weights::kCenter == 0
                ? _mm512_setzero_si512()
                : _mm512_set1_epi32(-Weights::kCenter * half_steps(in.blocks[m][b], half));
      }
    }
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      const int group = k / 2 + k % 2 * 4;  // both nibbles of a byte in turn
      __m512i even, odd;
      weights.pairs(group, even, odd);
      for (int m = 0; m < M; ++m) {
        const int8_t* x = in.codes[m] + kCodeBytes * b;
        __m512i& to = dot[m][group / 4];
        to = _mm512_dpwssd_epi32(to, even, pair_of(x, 2 * group));
        to = _mm512_dpwssd_epi32(to, odd, pair_of(x, 2 * group + 1));
      }
    }
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    constexpr int kAt = kFloatScaled<kType> ? 0 : 16;  // what integers scale is added up apart
    __m512i dot[M][2];
    dots<M>(Weights(p, at, b), in, b, dot);
    __m512 d, minimum;
    __m512i scale[2];
    if constexpr (kFloatScaled<kType>) {
      d = float_scales<kType>(p, at, b);
      if constexpr (kForm.minimum) minimum = halves(p + at.m + 32 * b);
    } else {
      integer_scales<kType>(p, at, columns, b, scale);
    }
    for (int m = 0; m < M; ++m) {
      const BlockSums& block = in.blocks[m][b];
      const __m512 x = _mm512_set1_ps(block.scale);
      __m512 acc = _mm512_load_ps(state[m] + kAt);
      if constexpr (kFloatScaled<kType>) {
        // The activations' scale first: d may be close to the smallest of floats.
        const __m512i sum = _mm512_add_epi32(dot[m][0], dot[m][1]);
        acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), x), d, acc);
        if constexpr (kForm.minimum)
          acc = _mm512_fmadd_ps(minimum, _mm512_set1_ps(block.weighted_sum), acc);
      } else if constexpr (kSumsPerHalf<kType>) {
        for (int half = 0; half < 2; ++half) {
          const __m512i steps = _mm512_mullo_epi32(dot[m][half], scale[half]);
          acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(steps), x, acc);
        }
      } else if constexpr (Weights::kTwoScales) {
        const __m512i steps = _mm512_add_epi32(_mm512_mullo_epi32(dot[m][0], scale[0]),
                                               _mm512_mullo_epi32(dot[m][1], scale[1]));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(steps), x, acc);
      } else {
        const __m512i steps = _mm512_mullo_epi32(_mm512_add_epi32(dot[m][0], dot[m][1]), scale[0]);
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(steps), x, acc);
      }
      _mm512_store_ps(state[m] + kAt, acc);
    }
  }

  template <int M>
  static void finish(const uint8_t* p, const PieceOffsets& at, int64_t columns, const Rows<M>& in,
                     float (*state)[kSums]) {
    if constexpr (!kFloatScaled<kType>) {
      const __m512 d = halves(p + at.d);
      for (int m = 0; m < M; ++m) {
        const __m512 scaled = _mm512_load_ps(state[m] + 16);
        _mm512_store_ps(state[m], _mm512_fmadd_ps(d, scaled, _mm512_load_ps(state[m])));
        _mm512_store_ps(state[m] + 16, _mm512_setzero_ps());
      }
      if constexpr (kForm.minimum) subtract_minima(p, at, columns / kSubBlock, in, state);
    }
  }

 private:
  template <int M>
  static void subtract_minima(const uint8_t* p, const PieceOffsets& at, int64_t n,
                              const Rows<M>& in, float (*state)[kSums]) {
    __m512 offset[M];
    for (int m = 0; m < M; ++m) offset[m] = _mm512_setzero_ps();
    for (int64_t b = 0; b < n; ++b) {
      __m512i minima[2];
      minima_of<kType>(p, at, b, minima);
      const __m512 minimum = _mm512_cvtepi32_ps(minima[0]);
      for (int m = 0; m < M; ++m) {
        const BlockSums& block = in.blocks[m][b];
        if constexpr (Weights::kTwoScales) {
          const __m512i steps = _mm512_add_epi32(
              _mm512_mullo_epi32(minima[0], _mm512_set1_epi32(half_steps(block, 0))),
              _mm512_mullo_epi32(minima[1], _mm512_set1_epi32(half_steps(block, 1))));
          offset[m] =
              _mm512_fmadd_ps(_mm512_cvtepi32_ps(steps), _mm512_set1_ps(block.scale), offset[m]);
        } else {
          offset[m] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(block.weighted_sum), offset[m]);
        }
      }
    }
    const __m512 dmin = halves(p + at.m);
    for (int m = 0; m < M; ++m)
      _mm512_store_ps(state[m], _mm512_fnmadd_ps(dmin, offset[m], _mm512_load_ps(state[m])));
  }
};

// Floats: even and odd columns have their own sums, which halves the chains of dependent additions.
template <ElementType kElement>
struct Floats {
  static constexpr ElementType kType = kElement;
  static constexpr int kSums = 32, kRowBlock = 8;
  static constexpr bool kPaired = true;

  static __m512 column_at(const uint8_t* p, int64_t c) {
    if constexpr (kType == ElementType::kF32) {
      return _mm512_loadu_ps(p + 64 * c);
    } else if constexpr (kType == ElementType::kF16) {
      return halves(p + 32 * c);
    } else {  // pairs lie together
      const __m512i pair = load(p + 64 * (c / 2));
      return _mm512_castsi512_ps(c % 2 == 0 ? _mm512_slli_epi32(pair, 16)
                                            : _mm512_and_si512(pair, _mm512_set1_epi32(-65536)));
    }
  }

  template <int M>
  static void sub_block(const uint8_t* p, const PieceOffsets&, int64_t columns, int64_t b,
                        const Rows<M>& in, float (*state)[kSums]) {
    __m512 even[M], odd[M];
    for (int m = 0; m < M; ++m) {
      even[m] = _mm512_load_ps(state[m]);
      odd[m] = _mm512_load_ps(state[m] + 16);
    }
    int64_t c = b * kSubBlock;
    const int64_t end = c + kSubBlock < columns ? c + kSubBlock : columns;
    for (; c + 1 < end; c += 2) {
      const __m512 w[2] = {column_at(p, c), column_at(p, c + 1)};
      for (int m = 0; m < M; ++m) {
        even[m] = _mm512_fmadd_ps(w[0], _mm512_set1_ps(in.x[m][c]), even[m]);
        odd[m] = _mm512_fmadd_ps(w[1], _mm512_set1_ps(in.x[m][c + 1]), odd[m]);
      }
    }
    if (c < end) {
      const __m512 w = column_at(p, c);
      for (int m = 0; m < M; ++m) even[m] = _mm512_fmadd_ps(w, _mm512_set1_ps(in.x[m][c]), even[m]);
    }
    for (int m = 0; m < M; ++m) {
      _mm512_store_ps(state[m], even[m]);
      _mm512_store_ps(state[m] + 16, odd[m]);
    }
  }
  template <int M>
  static void finish(const uint8_t*, const PieceOffsets&, int64_t, const Rows<M>&,
                     float (*)[kSums]) {}
};

// --- many rows of input: panels ---

constexpr int kPanelUnits = 2;    // of 16 rows of the matrix, multiplied together: 16 KB of panel
constexpr int kPanelRows = 6;     // rows of input at once: 12 int32 and 12 float sums in registers
constexpr int kBlockUnits = 16;   // of a block of outputs, whose sums wait in scratch memory
constexpr int kBlockRows = 256;   // rows of input of such a block
constexpr int64_t kFewRows = 12;  // under so many, unpacking costs more than it saves

// One piece of 16 rows, unpacked.
struct alignas(64) Panel {
  int16_t pairs[kPieceColumns / 2][16][2];
  float d[kPieceColumns / kSubBlock][16];  // floats for each 32 columns, or d[0] of the piece
  float m[kPieceColumns / kSubBlock][16];  // likewise m, or the integer minima of the sub-blocks
  float dmin[16];
};
struct Scratch {
  Panel panels[kPanelUnits];
  alignas(64) float sums[kBlockRows][kBlockUnits * kGroupRows];
};
static_assert(sizeof(Scratch) <= kProductScratchBytes);
// The minima of Q2_K are integers for each 16 columns: two to a float, exactly.
constexpr int kMinimumBase = 16;

template <ElementType kType>
void unpack(const uint8_t* p, int64_t columns, Panel& panel) {
  using Weights = Codes<kType>;
  constexpr const TypeForm& kForm = type_form(kType);
  const PieceOffsets at = piece_offsets(kType, columns);
  for (int64_t b = 0; b < columns / kSubBlock; ++b) {
    const Weights weights(p, at, b);
    __m512i factor[2];  // as pairs of int16
    if constexpr (!kFloatScaled<kType>) {
      integer_scales<kType>(p, at, columns, b, factor);
      for (__m512i& pair : factor)
        pair = _mm512_mask_blend_epi16(0xaaaaaaaa, pair, _mm512_slli_epi32(pair, 16));
    }
#pragma GCC unroll 8
    for (int group = 0; group < 8; ++group) {
      __m512i pair[2];
      weights.pairs(group, pair[0], pair[1]);
      for (int i = 0; i < 2; ++i) {
        if constexpr (Weights::kCenter != 0)
          pair[i] = _mm512_sub_epi16(pair[i], _mm512_set1_epi16(Weights::kCenter));
        if constexpr (!kFloatScaled<kType>)
          pair[i] = _mm512_mullo_epi16(pair[i], factor[group / 4]);
        _mm512_store_si512(panel.pairs[kPairs * b + 2 * group + i], pair[i]);
      }
    }
    if constexpr (kFloatScaled<kType>) {
      _mm512_store_ps(panel.d[b], float_scales<kType>(p, at, b));
      if constexpr (kForm.minimum) _mm512_store_ps(panel.m[b], halves(p + at.m + 32 * b));
    } else if constexpr (kForm.minimum) {
      __m512i minima[2];
      minima_of<kType>(p, at, b, minima);
      const __m512i both =
          Weights::kTwoScales
              ? _mm512_add_epi32(minima[0],
                                 _mm512_mullo_epi32(minima[1], _mm512_set1_epi32(kMinimumBase)))
              : minima[0];
      _mm512_store_ps(panel.m[b], _mm512_cvtepi32_ps(both));
    }
  }
  if constexpr (!kFloatScaled<kType>) {
    _mm512_store_ps(panel.d[0], halves(p + at.d));
    if constexpr (kForm.minimum) _mm512_store_ps(panel.dmin, halves(p + at.m));
  }
}

// What the products with a panel depend on.
template <ElementType kType>
struct PanelForm {
  static constexpr bool kFloats = kFloatScaled<kType>;
  static constexpr bool kMinimum = type_form(kType).minimum;
  static constexpr bool kMinimaPerHalf = kMinimum && Codes<kType>::kTwoScales;
  static constexpr bool kPerHalf = kSumsPerHalf<kType>;
};

template <class Form, int M>
void add_panel_minima(const Panel& panel, int64_t n, const Rows<M>& in, __m512 (&acc)[M]) {
  __m512 offset[M];
  for (int m = 0; m < M; ++m) offset[m] = _mm512_setzero_ps();
  for (int64_t b = 0; b < n; ++b) {
    const __m512 minimum = _mm512_load_ps(panel.m[b]);
    for (int m = 0; m < M; ++m) {
      const BlockSums& block = in.blocks[m][b];
      if constexpr (Form::kMinimaPerHalf) {
        const __m512i both = _mm512_cvtps_epi32(minimum);
        const __m512i low = _mm512_and_si512(both, _mm512_set1_epi32(kMinimumBase - 1));
        const __m512i high = _mm512_srli_epi32(both, 4);
        const __m512i steps =
            _mm512_add_epi32(_mm512_mullo_epi32(low, _mm512_set1_epi32(half_steps(block, 0))),
                             _mm512_mullo_epi32(high, _mm512_set1_epi32(half_steps(block, 1))));
        offset[m] =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(steps), _mm512_set1_ps(block.scale), offset[m]);
      } else {
        offset[m] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(block.weighted_sum), offset[m]);
      }
    }
  }
  const __m512 dmin = _mm512_load_ps(panel.dmin);
  for (int m = 0; m < M; ++m) acc[m] = _mm512_fnmadd_ps(dmin, offset[m], acc[m]);
}

// Panels of U units times M rows of input; sums[m * stride + 16 u + lane] go on.
template <class Form, int U, int M>
void times_panels(const Panel* panels, int64_t columns, const Rows<M>& in, float* sums,
                  int64_t stride) {
  const int64_t n = columns / kSubBlock;
  __m512 acc[M][U];
  for (int m = 0; m < M; ++m) {
    for (int u = 0; u < U; ++u) {
      acc[m][u] = Form::kFloats ? _mm512_loadu_ps(sums + m * stride + 16 * u) : _mm512_setzero_ps();
    }
  }
  constexpr int kParts = Form::kPerHalf ? 2 : 1;  // of a sub-block, with a sum each
  for (int64_t b = 0; b < n; ++b) {
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      __m512i dot[M][U];
      for (int m = 0; m < M; ++m) {
        for (int u = 0; u < U; ++u) dot[m][u] = _mm512_setzero_si512();
      }
#pragma GCC unroll 16
      for (int i = 0; i < kPairs / kParts; ++i) {
        const int pair = part * kPairs / kParts + i;
        __m512i w[U];
        for (int u = 0; u < U; ++u) w[u] = _mm512_load_si512(panels[u].pairs[kPairs * b + pair]);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          const __m512i x = pair_of(in.codes[m] + kCodeBytes * b, pair);
          for (int u = 0; u < U; ++u) dot[m][u] = _mm512_dpwssd_epi32(dot[m][u], w[u], x);
        }
      }
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const BlockSums& block = in.blocks[m][b];
        const __m512 scale = _mm512_set1_ps(block.scale);
        for (int u = 0; u < U; ++u) {
          const __m512 steps = _mm512_cvtepi32_ps(dot[m][u]);
          if constexpr (Form::kFloats) {
            acc[m][u] = _mm512_fmadd_ps(_mm512_mul_ps(steps, scale), _mm512_load_ps(panels[u].d[b]),
                                        acc[m][u]);
            if constexpr (Form::kMinimum) {
              acc[m][u] = _mm512_fmadd_ps(_mm512_load_ps(panels[u].m[b]),
                                          _mm512_set1_ps(block.weighted_sum), acc[m][u]);
            }
          } else {
            acc[m][u] = _mm512_fmadd_ps(steps, scale, acc[m][u]);
          }
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int u = 0; u < U; ++u) {
    __m512 sum[M];
    for (int m = 0; m < M; ++m) {
      sum[m] = acc[m][u];
      if constexpr (!Form::kFloats) {
        sum[m] = _mm512_fmadd_ps(_mm512_load_ps(panels[u].d[0]), sum[m],
                                 _mm512_loadu_ps(sums + m * stride + 16 * u));
      }
    }
    if constexpr (!Form::kFloats && Form::kMinimum)
      add_panel_minima<Form, M>(panels[u], n, in, sum);
    for (int m = 0; m < M; ++m) _mm512_storeu_ps(sums + m * stride + 16 * u, sum[m]);
  }
}

// The rows of input of a block from `row` on, M at once.
template <class Form, int U, int M>
void panel_rows(const Panel* panels, const ColumnPiece& piece, const InputRows& input,
                int64_t first, int64_t row, int64_t end, float* sums, int64_t stride) {
  for (; row + M <= end; row += M) {
    Rows<M> rows;
    for (int m = 0; m < M; ++m) {
      const int64_t block = (row + m) * input.block_stride + piece.first / kSubBlock;
      rows.codes[m] = input.codes + block * kCodeBytes;
      rows.blocks[m] = input.blocks + block;
    }
    times_panels<Form, U, M>(panels, piece.count, rows, sums + (row - first) * stride, stride);
  }
  if constexpr (M > 1) {
    panel_rows<Form, U, M == kPanelRows ? 4 : M / 2>(panels, piece, input, first, row, end, sums,
                                                     stride);
  }
}

// Units [unit, unit_end), at most kBlockUnits, times rows [row, row_end), at most kBlockRows.
template <ElementType kType>
void times_block(const MatrixView& matrix, const InputRows& input, int64_t row, int64_t row_end,
                 int64_t unit, int64_t unit_end, Scratch& scratch, float* out, int64_t out_stride) {
  constexpr int64_t kStride = kBlockUnits * kGroupRows;
  using Form = PanelForm<kType>;
  std::memset(scratch.sums, 0, static_cast<size_t>((row_end - row) * kStride) * sizeof(float));
  int64_t offset = 0;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    for (int64_t first = unit; first < unit_end; first += kPanelUnits) {
      const int64_t left = unit_end - first;
      const uint8_t* bytes = matrix.bytes + first * matrix.unit_bytes + offset;
      float* sums = scratch.sums[0] + (first - unit) * kGroupRows;
      for (int64_t u = 0; u < kPanelUnits && u < left; ++u)
        unpack<kType>(bytes + u * matrix.unit_bytes, piece.count, scratch.panels[u]);
      if (left >= kPanelUnits) {
        panel_rows<Form, kPanelUnits, kPanelRows>(scratch.panels, piece, input, row, row, row_end,
                                                  sums, kStride);
      } else {
        panel_rows<Form, 1, kPanelRows>(scratch.panels, piece, input, row, row, row_end, sums,
                                        kStride);
      }
    }
    offset += piece_offsets(kType, piece.count).total;
  }
  const int64_t begin = unit * kGroupRows;
  const int64_t end = unit_end * kGroupRows < matrix.rows ? unit_end * kGroupRows : matrix.rows;
  for (int64_t r = row; r < row_end; ++r) {
    std::memcpy(out + r * out_stride + begin, scratch.sums[r - row],
                static_cast<size_t>(end - begin) * sizeof(float));
  }
}

template <ElementType kType>
void product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
             int64_t unit_begin, int64_t unit_end, void* scratch, float* out, int64_t out_stride) {
  if (input_rows < kFewRows) {
    walk_product<Packed<kType>>(matrix, input, input_rows, unit_begin, unit_end, scratch, out,
                                out_stride);
    return;
  }
  for (int64_t row = 0; row < input_rows; row += kBlockRows) {
    const int64_t row_end = row + kBlockRows < input_rows ? row + kBlockRows : input_rows;
    for (int64_t unit = unit_begin; unit < unit_end; unit += kBlockUnits) {
      const int64_t last = unit + kBlockUnits < unit_end ? unit + kBlockUnits : unit_end;
      times_block<kType>(matrix, input, row, row_end, unit, last, *static_cast<Scratch*>(scratch),
                         out, out_stride);
    }
  }
}

}  // namespace

Product avx512_product(ElementType type) {
  switch (type) {
    case ElementType::kF32:
      return walk_product<Floats<ElementType::kF32>>;
    case ElementType::kF16:
      return walk_product<Floats<ElementType::kF16>>;
    case ElementType::kBF16:
      return walk_product<Floats<ElementType::kBF16>>;
    case ElementType::kQ8_0:
      return product<ElementType::kQ8_0>;
    case ElementType::kQ4_0:
      return product<ElementType::kQ4_0>;
    case ElementType::kQ4_1:
      return product<ElementType::kQ4_1>;
    case ElementType::kQ5_0:
      return product<ElementType::kQ5_0>;
    case ElementType::kQ5_1:
      return product<ElementType::kQ5_1>;
    case ElementType::kIQ4_NL:
      return product<ElementType::kIQ4_NL>;
    case ElementType::kIQ4_XS:
      return product<ElementType::kIQ4_XS>;
    case ElementType::kMXFP4:
      return product<ElementType::kMXFP4>;
    case ElementType::kQ2_K:
      return product<ElementType::kQ2_K>;
    case ElementType::kQ3_K:
      return product<ElementType::kQ3_K>;
    case ElementType::kQ4_K:
      return product<ElementType::kQ4_K>;
    case ElementType::kQ5_K:
      return product<ElementType::kQ5_K>;
    case ElementType::kQ6_K:
      return product<ElementType::kQ6_K>;
  }
  return nullptr;
}

// The codes of both levels become one int16 each, in the order of Codes::pairs.
void avx512_quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks) {
  alignas(64) static constexpr int16_t kOrder[32] = {0,  2,  1,  3,  4,  6,  5,  7,  8,  10, 9,
                                                     11, 12, 14, 13, 15, 16, 18, 17, 19, 20, 22,
                                                     21, 23, 24, 26, 25, 27, 28, 30, 29, 31};
  const __m512i order = _mm512_load_si512(kOrder);
  avx2_quantise(in, count, codes, blocks);
  for (int64_t b = 0; b < count / kSubBlock; ++b) {
    auto* levels = reinterpret_cast<__m256i*>(codes + b * kCodeBytes);
    const __m512i coarse = _mm512_cvtepi8_epi16(_mm256_loadu_si256(levels));
    const __m512i fine = _mm512_cvtepi8_epi16(_mm256_loadu_si256(levels + 1));
    const __m512i steps =
        _mm512_add_epi16(_mm512_mullo_epi16(coarse, _mm512_set1_epi16(kFineSteps)), fine);
    _mm512_storeu_si512(levels, _mm512_permutexvar_epi16(order, steps));
  }
}

uint64_t avx512_read_streams(const uint8_t* bytes, int64_t quarter_bytes) {
  constexpr int kStreams = 4;
  __m512i sum[kStreams];
  for (__m512i& lanes : sum) lanes = _mm512_setzero_si512();
  for (int64_t offset = 0; offset < quarter_bytes; offset += 256) {
    for (int s = 0; s < kStreams; ++s) {
      const uint8_t* block = bytes + s * quarter_bytes + offset;
      for (int line = 0; line < 4; ++line) {
        _mm_prefetch(reinterpret_cast<const char*>(block + 64 * line + 1024), _MM_HINT_T0);
        sum[s] = _mm512_add_epi64(sum[s], load(block + 64 * line));
      }
    }
  }
  const __m512i all =
      _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3]));
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(all));
}

}  // namespace shoal::kernels
