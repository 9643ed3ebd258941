// How a product walks a matrix that stays packed: four groups of 16 rows side by side, sub-block by
// sub-block, for as many rows of input as the format takes at once. Pure; any thread. Static, so
// that files compiled for different instruction sets share no copy.
//
// Decode is bound by memory, so what matters is how bytes arrive: the groups of a call are cut into
// four contiguous quarters that advance together, and each sub-block's work fetches its share of
// the lines that its own quarter needs a piece later.
//
// A Format has kType, kRowBlock (most rows of input at once, a power of two), kSums (floats of
// state for each row of input), kPaired (whether the result is the sum of the first 16 and the
// next), and
//   sub_block<M>(bytes, at, columns, b, rows, state)  adds columns 32 b and on of a piece
//   finish<M>(bytes, at, columns, rows, state)        what is left to do for a whole piece
// where state[m] are kSums floats, zero at first.
#pragma once

#include <cstring>

#include "kernels/interleaved.h"
#include "kernels/kernel_table.h"

namespace shoal::kernels {

inline constexpr int kStreams = 4;
// The most that lines are fetched ahead of their use. Types whose pieces are smaller fetch a piece
// ahead, because a piece's planes are read side by side. Of 1152, 2304 and 4352 bytes this was the
// best for Q8_0 and Q6_K (90 and 87% of the probe against 87 and 48, 84 and 83;
// bench_kernels_products, one thread).
inline constexpr int64_t kMostFetchBytes = 2304;

// Pointers to M rows of input, already at the piece's first column.
template <int M>
struct Rows {
  const float* x[M];
  const int8_t* codes[M];
  const BlockSums* blocks[M];
};

static inline void store_group(const MatrixView& matrix, int64_t group, const float* sums,
                               bool paired, float* out) {
  float values[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) values[r] = paired ? sums[r] + sums[16 + r] : sums[r];
  const int64_t left = matrix.rows - group * kGroupRows;
  const int64_t count = left < kGroupRows ? left : kGroupRows;
  std::memcpy(out + group * kGroupRows, values, static_cast<size_t>(count) * sizeof(float));
}

// M rows of input times up to four groups.
template <class Format, int M>
static void times_groups(const MatrixView& matrix, const InputRows& input, int64_t first_row,
                         const int64_t* groups, int group_count, float* out, int64_t out_stride) {
  alignas(64) float state[kStreams][M][Format::kSums];
  std::memset(state, 0, sizeof state);
  const uint8_t* p[kStreams];
  for (int s = 0; s < group_count; ++s) p[s] = matrix.bytes + groups[s] * matrix.unit_bytes;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    Rows<M> rows;
    for (int m = 0; m < M; ++m) {
      const int64_t row = first_row + m;
      const int64_t block = row * input.block_stride + piece.first / kSubBlock;
      rows.x[m] = input.values + row * input.value_stride + piece.first;
      rows.codes[m] = input.codes + block * kCodeBytes;
      rows.blocks[m] = input.blocks + block;
    }
    const PieceOffsets at = piece_offsets(Format::kType, piece.count);
    const int64_t n = (piece.count + kSubBlock - 1) / kSubBlock;
    const int64_t ahead = at.total < kMostFetchBytes ? at.total : kMostFetchBytes;
    const int64_t share = (at.total / n + 63) / 64 * 64;
    for (int64_t b = 0; b < n; ++b) {
      for (int s = 0; s < group_count; ++s) {
        const uint8_t* fetched = p[s] + ahead + b * share;
        for (int64_t line = 0; line < share; line += 64) __builtin_prefetch(fetched + line, 0, 3);
        Format::template sub_block<M>(p[s], at, piece.count, b, rows, state[s]);
      }
    }
    for (int s = 0; s < group_count; ++s) {
      Format::template finish<M>(p[s], at, piece.count, rows, state[s]);
      p[s] += at.total;
    }
  }
  for (int s = 0; s < group_count; ++s) {
    for (int m = 0; m < M; ++m) {
      store_group(matrix, groups[s], state[s][m], Format::kPaired,
                  out + (first_row + m) * out_stride);
    }
  }
}

// Rows from `row` on in blocks of M, what is left of them in smaller ones.
template <class Format, int M>
static void times_rows(const MatrixView& matrix, const InputRows& input, int64_t row,
                       int64_t input_rows, const int64_t* groups, int group_count, float* out,
                       int64_t out_stride) {
  for (; row + M <= input_rows; row += M) {
    times_groups<Format, M>(matrix, input, row, groups, group_count, out, out_stride);
  }
  if constexpr (M > 1) {
    times_rows<Format, M / 2>(matrix, input, row, input_rows, groups, group_count, out, out_stride);
  }
}

template <class Format>
static void walk_product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                         int64_t unit_begin, int64_t unit_end, void*, float* out,
                         int64_t out_stride) {
  const int64_t quarter = (unit_end - unit_begin + kStreams - 1) / kStreams;
  for (int64_t step = 0; step < quarter; ++step) {
    int64_t groups[kStreams];
    int count = 0;
    for (int64_t s = 0; s < kStreams; ++s) {
      const int64_t group = unit_begin + s * quarter + step;
      if (group < unit_end) groups[count++] = group;
    }
    times_rows<Format, Format::kRowBlock>(matrix, input, 0, input_rows, groups, count, out,
                                          out_stride);
  }
}

}  // namespace shoal::kernels
