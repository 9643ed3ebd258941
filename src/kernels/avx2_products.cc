// Products of interleaved weights by AVX2, FMA and F16C.
//
// Decode is bound by memory, so what matters is how bytes arrive: the row groups of a call are cut
// into four contiguous quarters that advance together piece by piece, and each piece's work fetches
// the lines of the next piece of its own quarter, about three pieces' time ahead.
//
// Weights are unsigned bytes for vpmaddubsw, activations signed ones. The largest sums, so that
// nothing saturates: 4-bit codes, eight products of pairs: 8 * 2 * 15 * 127 = 30480; Q6_K, two:
// 2 * 2 * 63 * 127 = 32004; Q8_0, one: 2 * 128 * 127 = 32512. vpmaddwd then adds the pairs and
// multiplies what coarse codes gave by kFineSteps, so that one int32 holds both levels: at most
// 2 * 30480 * 63 * 252 for Q4_K, under 2^30. Q6_K has signed scales of 7 bits and no room for that.
//
// A row's sum runs over the pieces and sub-blocks in order, in float, with the same instructions
// whatever the number of rows: 16 lanes are 16 rows of the matrix and never meet.
#include "kernels/avx2_products.h"

#include <immintrin.h>

#include <cstring>

#include "kernels/interleaved.h"

namespace shoal::kernels {
namespace {

constexpr int kStreams = 4;
constexpr int kFloatRows = 4;  // rows of input per pass over a piece: what 16 registers allow
constexpr int kCodeRows = 2;   // the same for rows of codes, which have two levels

// Pointers to M rows of input, already at the piece's first column.
template <int M>
struct Rows {
  const float* x[M];
  const int8_t* codes[M];
  const BlockSums* blocks[M];
};

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
// Lane i of the result: byte `half * 8 + i` of 16, as two equal int16.
inline __m256i scale_pairs(const uint8_t* p, int half) {
  const __m256i spread = _mm256_add_epi8(
      _mm256_setr_epi8(0, -128, 0, -128, 1, -128, 1, -128, 2, -128, 2, -128, 3, -128, 3, -128,  //
                       4, -128, 4, -128, 5, -128, 5, -128, 6, -128, 6, -128, 7, -128, 7, -128),
      _mm256_set1_epi16(static_cast<int16_t>(half * 8)));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes16(p)), spread);
}
// The same for signed bytes.
inline __m256i signed_scale_pairs(const uint8_t* p, int half) {
  const __m256i spread = _mm256_add_epi8(
      _mm256_setr_epi8(-128, 0, -128, 0, -128, 1, -128, 1, -128, 2, -128, 2, -128, 3, -128, 3,  //
                       -128, 4, -128, 4, -128, 5, -128, 5, -128, 6, -128, 6, -128, 7, -128, 7),
      _mm256_set1_epi16(static_cast<int16_t>(half * 8 << 8)));
  const __m256i high = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes16(p)), spread);
  return _mm256_srai_epi16(high, 8);
}

// Fetches the lines of [at, end) and moves on.
inline void fetch_until(const uint8_t*& at, const uint8_t* end) {
  for (; at < end; at += 64) _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
}

// Products of M rows with the 4-bit codes of 16 rows and 32 columns: int16 pairs, to be added and
// scaled by vpmaddwd, for each level of the codes and each half of the 16 rows.
template <int M>
struct NibbleProducts {
  __m256i sums[M][2][2];  // [row][level][half]

  NibbleProducts(const uint8_t* weights, const Rows<M>& in, int64_t b) {
    const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m256i low[2], high[2];
      for (int half = 0; half < 2; ++half) {
        const __m256i both = load(weights + 64 * i + 32 * half);
        low[half] = _mm256_and_si256(both, mask);
        high[half] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
      }
      for (int m = 0; m < M; ++m) {
        for (int level = 0; level < 2; ++level) {
          const int8_t* codes = in.codes[m] + kCodeBytes * b + 32 * level + 4 * i;
          const __m256i x0 = four_columns(codes), x1 = four_columns(codes + 16);
          for (int half = 0; half < 2; ++half) {
            __m256i& sum = sums[m][level][half];
            const __m256i first = _mm256_maddubs_epi16(low[half], x0);
            sum = i == 0 ? first : _mm256_add_epi16(sum, first);
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(high[half], x1));
          }
        }
      }
    }
  }
  // Both levels as one sum of fine steps, times `scale`.
  __m256i times(int m, int half, __m256i fine_scale, __m256i coarse_scale) const {
    return _mm256_add_epi32(_mm256_madd_epi16(sums[m][0][half], coarse_scale),
                            _mm256_madd_epi16(sums[m][1][half], fine_scale));
  }
};

template <int M>
inline void load_sums(const float (*sums)[16], __m256 (&acc)[M][2]) {
  for (int m = 0; m < M; ++m) {
    for (int half = 0; half < 2; ++half) acc[m][half] = _mm256_loadu_ps(sums[m] + 8 * half);
  }
}
template <int M>
inline void store_sums(const __m256 (&acc)[M][2], float (*sums)[16]) {
  for (int m = 0; m < M; ++m) {
    for (int half = 0; half < 2; ++half) _mm256_storeu_ps(sums[m] + 8 * half, acc[m][half]);
  }
}

// --- formats: one piece of 16 rows times M rows of input; sums[m][lane] go on ---

template <bool kWithMinimum>
struct Legacy4 {  // Q4_0, Q4_1
  static constexpr ElementType kType = kWithMinimum ? ElementType::kQ4_1 : ElementType::kQ4_0;
  static constexpr int kSums = 16, kRowBlock = kCodeRows;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = kWithMinimum ? 320 : 288;

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const uint8_t* ahead = p + at.total;
    const __m256i fine = _mm256_set1_epi16(1), coarse = _mm256_set1_epi16(kFineSteps);
    __m256 acc[M][2];
    load_sums(sums, acc);
    for (int64_t b = 0; b < columns / kSubBlock; ++b) {
      fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
      const NibbleProducts<M> products(p + at.codes + 256 * b, in, b);
      for (int half = 0; half < 2; ++half) {
        const __m256 d = halves(p + at.scales + 32 * b + 16 * half);
        for (int m = 0; m < M; ++m) {
          const BlockSums& block = in.blocks[m][b];
          __m256i dot = products.times(m, half, fine, coarse);
          if constexpr (!kWithMinimum) {  // codes stand for q - 8
            dot = _mm256_sub_epi32(dot, _mm256_slli_epi32(_mm256_set1_epi32(block.sum), 3));
          }
          const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(block.scale));
          acc[m][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, acc[m][half]);
          if constexpr (kWithMinimum) {
            acc[m][half] = _mm256_fmadd_ps(halves(p + at.minima + 32 * b + 16 * half),
                                           _mm256_set1_ps(block.weighted_sum), acc[m][half]);
          }
        }
      }
    }
    store_sums(acc, sums);
  }
};

struct Eight {  // Q8_0
  static constexpr ElementType kType = ElementType::kQ8_0;
  static constexpr int kSums = 16, kRowBlock = kCodeRows;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = 544;

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const uint8_t* ahead = p + at.total;
    const __m256i steps[2] = {_mm256_set1_epi16(kFineSteps), _mm256_set1_epi16(1)};
    __m256 acc[M][2];
    load_sums(sums, acc);
    for (int64_t b = 0; b < columns / kSubBlock; ++b) {
      fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
      __m256i dot[M][2];
      for (int m = 0; m < M; ++m) dot[m][0] = dot[m][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
      for (int i = 0; i < 8; ++i) {
        __m256i w[2], magnitude[2];
        for (int half = 0; half < 2; ++half) {
          w[half] = load(p + at.codes + 512 * b + 64 * i + 32 * half);
          magnitude[half] = _mm256_abs_epi8(w[half]);  // -128 becomes 128, unsigned
        }
        for (int m = 0; m < M; ++m) {
          for (int level = 0; level < 2; ++level) {
            const __m256i x = four_columns(in.codes[m] + kCodeBytes * b + 32 * level + 4 * i);
            for (int half = 0; half < 2; ++half) {
              const __m256i pairs =
                  _mm256_maddubs_epi16(magnitude[half], _mm256_sign_epi8(x, w[half]));
              dot[m][half] = _mm256_add_epi32(dot[m][half], _mm256_madd_epi16(pairs, steps[level]));
            }
          }
        }
      }
      for (int half = 0; half < 2; ++half) {
        const __m256 d = halves(p + at.scales + 32 * b + 16 * half);
        for (int m = 0; m < M; ++m) {
          const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(in.blocks[m][b].scale));
          acc[m][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m][half]), scale, acc[m][half]);
        }
      }
    }
    store_sums(acc, sums);
  }
};

struct K4 {  // Q4_K
  static constexpr ElementType kType = ElementType::kQ4_K;
  static constexpr int kSums = 16, kRowBlock = kCodeRows;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = 296;

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const uint8_t* ahead = p + at.total;
    __m256 scaled[M][2];
    for (int m = 0; m < M; ++m) scaled[m][0] = scaled[m][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < n; ++b) {
      fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
      const NibbleProducts<M> products(p + at.codes + 256 * b, in, b);
      for (int half = 0; half < 2; ++half) {
        const __m256i fine = scale_pairs(p + at.scales + 16 * b, half);
        const __m256i coarse = _mm256_mullo_epi16(fine, _mm256_set1_epi16(kFineSteps));
        for (int m = 0; m < M; ++m) {
          const __m256 dot = _mm256_cvtepi32_ps(products.times(m, half, fine, coarse));
          scaled[m][half] =
              _mm256_fmadd_ps(dot, _mm256_set1_ps(in.blocks[m][b].scale), scaled[m][half]);
        }
      }
    }
    for (int half = 0; half < 2; ++half) {
      __m256 offset[M];
      for (int m = 0; m < M; ++m) offset[m] = _mm256_setzero_ps();
      for (int64_t b = 0; b < n; ++b) {
        const __m128i minimum =
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + at.minima + 16 * b + 8 * half));
        const __m256 wide = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(minimum));
        for (int m = 0; m < M; ++m) {
          offset[m] =
              _mm256_fmadd_ps(wide, _mm256_set1_ps(in.blocks[m][b].weighted_sum), offset[m]);
        }
      }
      const __m256 d = halves(p + 16 * half), dmin = halves(p + 32 + 16 * half);
      for (int m = 0; m < M; ++m) {
        __m256 acc = _mm256_loadu_ps(sums[m] + 8 * half);
        acc = _mm256_fmadd_ps(d, scaled[m][half], acc);
        acc = _mm256_fnmadd_ps(dmin, offset[m], acc);
        _mm256_storeu_ps(sums[m] + 8 * half, acc);
      }
    }
  }
};

struct K6 {  // Q6_K
  static constexpr ElementType kType = ElementType::kQ6_K;
  static constexpr int kSums = 16, kRowBlock = kCodeRows;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = 420;

  // Codes of 4 columns of 8 rows: nibbles (the low ones, or the high ones of the second 16 columns)
  // joined by two of the high bits.
  template <int kIndex>
  static __m256i codes_at(__m256i nibbles, __m256i bits, bool second) {
    const __m256i low = second ? _mm256_srli_epi16(nibbles, 4) : nibbles;
    const __m256i high = kIndex == 0   ? _mm256_slli_epi16(bits, 4)
                         : kIndex == 1 ? _mm256_slli_epi16(bits, 2)
                         : kIndex == 2 ? bits
                                       : _mm256_srli_epi16(bits, 2);
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(0x0f)),
                           _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
  }

  // Adds the products with columns 16 * second + 4 * kIndex to + 7.
  template <int M, int kIndex>
  static void add_eight(const uint8_t* nibbles, const uint8_t* bits, bool second,
                        const __m256i* scale, const Rows<M>& in, int64_t b,
                        __m256i (&dot)[M][2][2]) {
    __m256i q0[2], q1[2];
    for (int half = 0; half < 2; ++half) {
      const __m256i high = load(bits + 32 * half);
      q0[half] = codes_at<kIndex>(load(nibbles + 64 * kIndex + 32 * half), high, second);
      q1[half] = codes_at<kIndex + 1>(load(nibbles + 64 * (kIndex + 1) + 32 * half), high, second);
    }
    for (int m = 0; m < M; ++m) {
      for (int level = 0; level < 2; ++level) {
        const int8_t* x = in.codes[m] + kCodeBytes * b + 32 * level + 16 * second + 4 * kIndex;
        const __m256i x0 = four_columns(x), x1 = four_columns(x + 4);
        for (int half = 0; half < 2; ++half) {
          const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(q0[half], x0),
                                                 _mm256_maddubs_epi16(q1[half], x1));
          dot[m][level][half] =
              _mm256_add_epi32(dot[m][level][half], _mm256_madd_epi16(pairs, scale[half]));
        }
      }
    }
  }

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const uint8_t* ahead = p + at.total;
    __m256 scaled[M][2];
    for (int m = 0; m < M; ++m) scaled[m][0] = scaled[m][1] = _mm256_setzero_ps();
    for (int64_t b = 0; b < columns / kSubBlock; ++b) {
      fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
      const uint8_t* nibbles = p + at.codes + 256 * b;
      const uint8_t* bits = p + at.high_bits + 128 * b;
      __m256i first[2], second[2], dot[M][2][2];
      for (int half = 0; half < 2; ++half) {
        first[half] = signed_scale_pairs(p + at.scales + 32 * b, half);
        second[half] = signed_scale_pairs(p + at.scales + 32 * b + 16, half);
        // Codes stand for q - 32: the sums begin at -32 times those of the activations.
        const __m256i both = _mm256_blend_epi16(first[half], second[half], 0xaa);
        for (int m = 0; m < M; ++m) {
          for (int level = 0; level < 2; ++level) {
            int32_t half_sums;
            std::memcpy(&half_sums, in.blocks[m][b].half_sums[level], sizeof half_sums);
            const __m256i bias = _mm256_madd_epi16(both, _mm256_set1_epi32(half_sums));
            dot[m][level][half] =
                _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(bias, 5));
          }
        }
      }
      add_eight<M, 0>(nibbles, bits, false, first, in, b, dot);
      add_eight<M, 2>(nibbles, bits, false, first, in, b, dot);
      add_eight<M, 0>(nibbles, bits + 64, true, second, in, b, dot);
      add_eight<M, 2>(nibbles, bits + 64, true, second, in, b, dot);
      for (int m = 0; m < M; ++m) {
        for (int half = 0; half < 2; ++half) {
          const __m256 steps = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m][0][half]),
                                               _mm256_set1_ps(static_cast<float>(kFineSteps)),
                                               _mm256_cvtepi32_ps(dot[m][1][half]));
          scaled[m][half] =
              _mm256_fmadd_ps(steps, _mm256_set1_ps(in.blocks[m][b].scale), scaled[m][half]);
        }
      }
    }
    for (int half = 0; half < 2; ++half) {
      const __m256 d = halves(p + 16 * half);
      for (int m = 0; m < M; ++m) {
        const __m256 acc = _mm256_loadu_ps(sums[m] + 8 * half);
        _mm256_storeu_ps(sums[m] + 8 * half, _mm256_fmadd_ps(d, scaled[m][half], acc));
      }
    }
  }
};

// Floats: even and odd columns have their own sums, which halves the chains of dependent additions.
template <ElementType kElement>
struct Floats {
  static constexpr ElementType kType = kElement;
  static constexpr int kSums = 32, kRowBlock = kFloatRows;
  static constexpr int64_t kStep = 64;  // 2 or 4 KB: two halves of four quarters stay in L1

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
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const int64_t bytes = piece_offsets(kType, columns).total;
    const uint8_t* ahead = p + bytes;
    for (int half = 0; half < 2; ++half) {
      __m256 even[M], odd[M];
      for (int m = 0; m < M; ++m) {
        even[m] = _mm256_loadu_ps(sums[m] + 8 * half);
        odd[m] = _mm256_loadu_ps(sums[m] + 16 + 8 * half);
      }
      int64_t c = 0;
      for (; c + 1 < columns; c += 2) {
        if (half == 0)
          fetch_until(ahead, p + bytes + (c + 2) * (kType == ElementType::kF32 ? 64 : 32));
        const Pair w = columns_at(p, c, half);
        for (int m = 0; m < M; ++m) {
          even[m] = _mm256_fmadd_ps(w.even, _mm256_set1_ps(in.x[m][c]), even[m]);
          odd[m] = _mm256_fmadd_ps(w.odd, _mm256_set1_ps(in.x[m][c + 1]), odd[m]);
        }
      }
      if (c < columns) {
        const __m256 w = column_at(p, c, half);
        for (int m = 0; m < M; ++m) {
          even[m] = _mm256_fmadd_ps(w, _mm256_set1_ps(in.x[m][c]), even[m]);
        }
      }
      for (int m = 0; m < M; ++m) {
        _mm256_storeu_ps(sums[m] + 8 * half, even[m]);
        _mm256_storeu_ps(sums[m] + 16 + 8 * half, odd[m]);
      }
    }
  }
};

// --- the walk over groups, rows and pieces ---

void store_group(const MatrixView& matrix, int64_t group, const float* sums, int sum_count,
                 float* out) {
  float values[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) {
    values[r] = sum_count == 32 ? sums[r] + sums[16 + r] : sums[r];
  }
  const int64_t left = matrix.rows - group * kGroupRows;
  const int64_t count = left < kGroupRows ? left : kGroupRows;
  std::memcpy(out + group * kGroupRows, values, static_cast<size_t>(count) * sizeof(float));
}

// M rows of input times up to four groups.
template <class Format, int M>
void times_groups(const MatrixView& matrix, const InputRows& input, int64_t first_row,
                  const int64_t* groups, int group_count, float* out, int64_t out_stride) {
  alignas(32) float sums[kStreams][M][Format::kSums];
  std::memset(sums, 0, sizeof sums);
  const uint8_t* p[kStreams];
  for (int s = 0; s < group_count; ++s) p[s] = matrix.bytes + groups[s] * matrix.unit_bytes;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    for (int64_t done = 0; done < piece.count; done += Format::kStep) {
      const int64_t left = piece.count - done;
      const int64_t columns = left < Format::kStep ? left : Format::kStep;
      const int64_t first_column = piece.first + done;
      Rows<M> rows;
      for (int m = 0; m < M; ++m) {
        const int64_t row = first_row + m,
                      block = row * input.block_stride + first_column / kSubBlock;
        rows.x[m] = input.values + row * input.value_stride + first_column;
        rows.codes[m] = input.codes + block * kCodeBytes;
        rows.blocks[m] = input.blocks + block;
      }
      const int64_t bytes = piece_offsets(Format::kType, columns).total;
      for (int s = 0; s < group_count; ++s) {
        Format::template piece<M>(p[s], columns, rows, sums[s]);
        p[s] += bytes;
      }
    }
  }
  for (int s = 0; s < group_count; ++s) {
    for (int m = 0; m < M; ++m) {
      store_group(matrix, groups[s], sums[s][m], Format::kSums, out + (first_row + m) * out_stride);
    }
  }
}

template <class Format>
void product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
             int64_t unit_begin, int64_t unit_end, float* out, int64_t out_stride) {
  const int64_t quarter = (unit_end - unit_begin + kStreams - 1) / kStreams;
  for (int64_t step = 0; step < quarter; ++step) {
    int64_t groups[kStreams];
    int count = 0;
    for (int64_t s = 0; s < kStreams; ++s) {
      const int64_t group = unit_begin + s * quarter + step;
      if (group < unit_end) groups[count++] = group;
    }
    constexpr int kBlock = Format::kRowBlock;
    int64_t row = 0;
    for (; row + kBlock <= input_rows; row += kBlock) {
      times_groups<Format, kBlock>(matrix, input, row, groups, count, out, out_stride);
    }
    for (; row < input_rows; ++row) {
      times_groups<Format, 1>(matrix, input, row, groups, count, out, out_stride);
    }
  }
}

}  // namespace

Product avx2_product(ElementType type) {
  switch (type) {
    case ElementType::kF32:
      return product<Floats<ElementType::kF32>>;
    case ElementType::kF16:
      return product<Floats<ElementType::kF16>>;
    case ElementType::kBF16:
      return product<Floats<ElementType::kBF16>>;
    case ElementType::kQ8_0:
      return product<Eight>;
    case ElementType::kQ4_0:
      return product<Legacy4<false>>;
    case ElementType::kQ4_1:
      return product<Legacy4<true>>;
    case ElementType::kQ4_K:
      return product<K4>;
    case ElementType::kQ6_K:
      return product<K6>;
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
