// Products of interleaved weights by AVX2, FMA and F16C.
//
// Decode is bound by memory, so what matters is how bytes arrive: the row groups of a call are cut
// into four contiguous quarters that advance together piece by piece, and each piece's work fetches
// the lines of the next piece of its own quarter, about three pieces' time ahead.
//
// Weights are unsigned bytes for vpmaddubsw, activations signed ones. The largest sums, so that
// nothing saturates: 4-bit codes, eight products of pairs: 8 * 2 * 15 * 127 = 30480; Q6_K, two:
// 2 * 2 * 63 * 127 = 32004; Q8_0, one: 2 * 128 * 127 = 32512.
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
constexpr int kRowBlock =
    4;  // rows of floats or of codes per pass over a piece: what 16 registers allow

// How many rows of codes stand for one row of input.
constexpr int levels_of(ElementType type) {
  const bool floats =
      type == ElementType::kF32 || type == ElementType::kF16 || type == ElementType::kBF16;
  return floats ? 1 : kCodeLevels;
}

// Pointers to M rows of floats or of codes, already at the piece's first column.
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

// The four vectors of 4-bit codes of 8 rows and 32 columns, apart.
struct Nibbles {
  __m256i low[4], high[4];
  explicit Nibbles(const uint8_t* codes) {
    const __m256i mask = _mm256_set1_epi8(15);
    for (int i = 0; i < 4; ++i) {
      const __m256i both = load(codes + 64 * i);
      low[i] = _mm256_and_si256(both, mask);
      high[i] = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    }
  }
  // Products with 32 columns of one row: int16 pairs, to be added and scaled by vpmaddwd.
  __m256i times(const int8_t* codes) const {
    __m256i sum = _mm256_maddubs_epi16(low[0], four_columns(codes));
    for (int i = 1; i < 4; ++i) {
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(low[i], four_columns(codes + 4 * i)));
    }
    for (int i = 0; i < 4; ++i) {
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(high[i], four_columns(codes + 16 + 4 * i)));
    }
    return sum;
  }
};

// --- formats: one piece of 16 rows times M rows of input; sums[m][lane] go on ---

template <bool kWithMinimum>
struct Legacy4 {  // Q4_0, Q4_1
  static constexpr ElementType kType = kWithMinimum ? ElementType::kQ4_1 : ElementType::kQ4_0;
  static constexpr int kSums = 16;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = kWithMinimum ? 320 : 288;

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const uint8_t* ahead = p + at.total;
    for (int half = 0; half < 2; ++half) {
      __m256 acc[M];
      for (int m = 0; m < M; ++m) acc[m] = _mm256_loadu_ps(sums[m] + 8 * half);
      for (int64_t b = 0; b < n; ++b) {
        if (half == 0) fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
        const Nibbles weights(p + at.codes + 256 * b + 32 * half);
        const __m256 d = halves(p + at.scales + 32 * b + 16 * half);
        for (int m = 0; m < M; ++m) {
          const BlockSums& block = in.blocks[m][b];
          __m256i dot =
              _mm256_madd_epi16(weights.times(in.codes[m] + 32 * b), _mm256_set1_epi16(1));
          if constexpr (!kWithMinimum) {  // codes stand for q - 8
            dot = _mm256_sub_epi32(dot, _mm256_slli_epi32(_mm256_set1_epi32(block.sum), 3));
          }
          const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(block.scale));
          acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, acc[m]);
          if constexpr (kWithMinimum) {
            acc[m] = _mm256_fmadd_ps(halves(p + at.minima + 32 * b + 16 * half),
                                     _mm256_set1_ps(block.weighted_sum), acc[m]);
          }
        }
      }
      for (int m = 0; m < M; ++m) _mm256_storeu_ps(sums[m] + 8 * half, acc[m]);
    }
  }
};

struct Eight {  // Q8_0
  static constexpr ElementType kType = ElementType::kQ8_0;
  static constexpr int kSums = 16;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = 544;

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const uint8_t* ahead = p + at.total;
    for (int half = 0; half < 2; ++half) {
      __m256 acc[M];
      for (int m = 0; m < M; ++m) acc[m] = _mm256_loadu_ps(sums[m] + 8 * half);
      for (int64_t b = 0; b < n; ++b) {
        if (half == 0) fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
        __m256i dot[M];
        for (int m = 0; m < M; ++m) dot[m] = _mm256_setzero_si256();
        for (int i = 0; i < 8; ++i) {
          const __m256i w = load(p + at.codes + 512 * b + 64 * i + 32 * half);
          const __m256i magnitude = _mm256_abs_epi8(w);  // -128 becomes 128, unsigned
          for (int m = 0; m < M; ++m) {
            const __m256i x = _mm256_sign_epi8(four_columns(in.codes[m] + 32 * b + 4 * i), w);
            dot[m] = _mm256_add_epi32(dot[m], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, x),
                                                                _mm256_set1_epi16(1)));
          }
        }
        const __m256 d = halves(p + at.scales + 32 * b + 16 * half);
        for (int m = 0; m < M; ++m) {
          const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(in.blocks[m][b].scale));
          acc[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[m]), scale, acc[m]);
        }
      }
      for (int m = 0; m < M; ++m) _mm256_storeu_ps(sums[m] + 8 * half, acc[m]);
    }
  }
};

struct K4 {  // Q4_K
  static constexpr ElementType kType = ElementType::kQ4_K;
  static constexpr int kSums = 16;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = 296;

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const uint8_t* ahead = p + at.total;
    for (int half = 0; half < 2; ++half) {
      __m256 scaled[M], offset[M];
      for (int m = 0; m < M; ++m) scaled[m] = offset[m] = _mm256_setzero_ps();
      for (int64_t b = 0; b < n; ++b) {
        if (half == 0) fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
        const Nibbles weights(p + at.codes + 256 * b + 32 * half);
        const __m256i scale = scale_pairs(p + at.scales + 16 * b, half);
        for (int m = 0; m < M; ++m) {
          const __m256i dot = _mm256_madd_epi16(weights.times(in.codes[m] + 32 * b), scale);
          scaled[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot),
                                      _mm256_set1_ps(in.blocks[m][b].scale), scaled[m]);
        }
      }
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
        acc = _mm256_fmadd_ps(d, scaled[m], acc);
        acc = _mm256_fnmadd_ps(dmin, offset[m], acc);
        _mm256_storeu_ps(sums[m] + 8 * half, acc);
      }
    }
  }
};

struct K6 {  // Q6_K
  static constexpr ElementType kType = ElementType::kQ6_K;
  static constexpr int kSums = 16;
  static constexpr int64_t kStep = kPieceColumns;
  static constexpr int64_t kSubBlockBytes = 420;

  // Codes of 16 columns: nibbles joined by their two high bits.
  struct Codes {
    __m256i q[4];
    Codes(const __m256i* nibbles, const uint8_t* high) {
      const __m256i bits = load(high);
      const __m256i mask = _mm256_set1_epi8(0x30);
      q[0] = _mm256_or_si256(nibbles[0], _mm256_and_si256(_mm256_slli_epi16(bits, 4), mask));
      q[1] = _mm256_or_si256(nibbles[1], _mm256_and_si256(_mm256_slli_epi16(bits, 2), mask));
      q[2] = _mm256_or_si256(nibbles[2], _mm256_and_si256(bits, mask));
      q[3] = _mm256_or_si256(nibbles[3], _mm256_and_si256(_mm256_srli_epi16(bits, 2), mask));
    }
    __m256i times(const int8_t* codes, __m256i scale) const {
      const __m256i first = _mm256_add_epi16(_mm256_maddubs_epi16(q[0], four_columns(codes)),
                                             _mm256_maddubs_epi16(q[1], four_columns(codes + 4)));
      const __m256i second = _mm256_add_epi16(_mm256_maddubs_epi16(q[2], four_columns(codes + 8)),
                                              _mm256_maddubs_epi16(q[3], four_columns(codes + 12)));
      return _mm256_add_epi32(_mm256_madd_epi16(first, scale), _mm256_madd_epi16(second, scale));
    }
  };

  template <int M>
  static void piece(const uint8_t* p, int64_t columns, const Rows<M>& in, float (*sums)[kSums]) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const uint8_t* ahead = p + at.total;
    for (int half = 0; half < 2; ++half) {
      __m256 scaled[M];
      for (int m = 0; m < M; ++m) scaled[m] = _mm256_setzero_ps();
      for (int64_t b = 0; b < n; ++b) {
        if (half == 0) fetch_until(ahead, p + at.total + (b + 1) * kSubBlockBytes);
        const Nibbles nibbles(p + at.codes + 256 * b + 32 * half);
        const uint8_t* high = p + at.high_bits + 128 * b + 32 * half;
        const Codes first(nibbles.low, high), second(nibbles.high, high + 64);
        const __m256i scale0 = signed_scale_pairs(p + at.scales + 32 * b, half);
        const __m256i scale1 = signed_scale_pairs(p + at.scales + 32 * b + 16, half);
        const __m256i both = _mm256_blend_epi16(scale0, scale1, 0xaa);
        for (int m = 0; m < M; ++m) {
          const BlockSums& block = in.blocks[m][b];
          const int8_t* x = in.codes[m] + 32 * b;
          int32_t half_sums;
          std::memcpy(&half_sums, block.half_sums, sizeof half_sums);
          const __m256i bias = _mm256_madd_epi16(both, _mm256_set1_epi32(half_sums));
          __m256i dot = _mm256_add_epi32(first.times(x, scale0), second.times(x + 16, scale1));
          dot = _mm256_sub_epi32(dot, _mm256_slli_epi32(bias, 5));  // codes stand for q - 32
          scaled[m] =
              _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_set1_ps(block.scale), scaled[m]);
        }
      }
      const __m256 d = halves(p + 16 * half);
      for (int m = 0; m < M; ++m) {
        const __m256 acc = _mm256_loadu_ps(sums[m] + 8 * half);
        _mm256_storeu_ps(sums[m] + 8 * half, _mm256_fmadd_ps(d, scaled[m], acc));
      }
    }
  }
};

// Floats: even and odd columns have their own sums, which halves the chains of dependent additions.
template <ElementType kElement>
struct Floats {
  static constexpr ElementType kType = kElement;
  static constexpr int kSums = 32;
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

// The sums of a row of input: its levels one after the other, or the even and the odd columns of
// floats.
void store_group(const MatrixView& matrix, int64_t group, const float* sums, int sum_count,
                 float* out) {
  float values[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) {
    values[r] = sums[r];
    for (int s = kGroupRows; s < sum_count; s += kGroupRows) values[r] += sums[s + r];
  }
  const int64_t left = matrix.rows - group * kGroupRows;
  const int64_t count = left < kGroupRows ? left : kGroupRows;
  std::memcpy(out + group * kGroupRows, values, static_cast<size_t>(count) * sizeof(float));
}

// M rows of input times up to four groups.
template <class Format, int M>
void times_groups(const MatrixView& matrix, const InputRows& input, int64_t first_row,
                  const int64_t* groups, int group_count, float* out, int64_t out_stride) {
  constexpr int kLevels = levels_of(Format::kType);
  constexpr int kRows = M * kLevels;
  alignas(32) float sums[kStreams][kRows][Format::kSums];
  std::memset(sums, 0, sizeof sums);
  const uint8_t* p[kStreams];
  for (int s = 0; s < group_count; ++s) p[s] = matrix.bytes + groups[s] * matrix.unit_bytes;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    for (int64_t done = 0; done < piece.count; done += Format::kStep) {
      const int64_t left = piece.count - done;
      const int64_t columns = left < Format::kStep ? left : Format::kStep;
      const int64_t first_column = piece.first + done;
      Rows<kRows> rows;
      for (int m = 0; m < kRows; ++m) {
        if constexpr (kLevels == 1) {
          rows.x[m] = input.values + (first_row + m) * input.value_stride + first_column;
        } else {
          const int64_t at = (first_row * kLevels + m) * input.code_stride + first_column;
          rows.codes[m] = input.codes + at;
          rows.blocks[m] = input.blocks + at / kSubBlock;
        }
      }
      const int64_t bytes = piece_offsets(Format::kType, columns).total;
      for (int s = 0; s < group_count; ++s) {
        Format::template piece<kRows>(p[s], columns, rows, sums[s]);
        p[s] += bytes;
      }
    }
  }
  for (int s = 0; s < group_count; ++s) {
    for (int m = 0; m < M; ++m) {
      store_group(matrix, groups[s], sums[s][m * kLevels], kLevels * Format::kSums,
                  out + (first_row + m) * out_stride);
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
    constexpr int kBlock = kRowBlock / levels_of(Format::kType);
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

// One level of 32 activations: codes, sums and scale; x becomes what is left of it.
void quantise_level(__m256* x, float scale, float inverse, int8_t* codes, BlockSums& block) {
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
  block.half_sums[0] = static_cast<int16_t>(_mm_extract_epi32(both, 0));
  block.half_sums[1] = static_cast<int16_t>(_mm_extract_epi32(both, 1));
  block.sum = block.half_sums[0] + block.half_sums[1];
  block.scale = scale;
  block.weighted_sum = scale * static_cast<float>(block.sum);
}

}  // namespace

void avx2_quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks,
                   int64_t code_stride) {
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
    // A remainder is at most half a coarse step and a few ulps of the largest: 252 instead of 254
    // keeps its code within int8.
    const float fine = coarse / 252;
    quantise_level(x, coarse, tiny ? 0 : 127 / largest, codes + b * kSubBlock, blocks[b]);
    quantise_level(x, fine, tiny ? 0 : 252 / coarse, codes + code_stride + b * kSubBlock,
                   blocks[code_stride / kSubBlock + b]);
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
