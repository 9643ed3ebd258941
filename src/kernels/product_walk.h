// How a product walks a matrix that stays packed: group by group of 16 rows and sub-block by
// sub-block, for as many rows of input as the format takes at once. Pure; any thread. Static, so
// that files compiled for different instruction sets share no copy.
//
// Decode is bound by memory, so what matters is how bytes arrive: as one stream, fetched far ahead.
//
// A Format has kType, kRowBlock (most rows of input at once, a power of two), kSums (floats of
// state for each row of input), kPaired (whether the result is the sum of the first 16 and the
// next), and
//   sub_block<M>(bytes, at, columns, b, rows, state)  adds columns 32 b and on of a piece
//   finish<M>(bytes, at, columns, rows, state)        what is left to do for a whole piece
// where state[m] are kSums floats, zero at first.
#pragma once

#include <cstring>

#include "kernels/interleaved_codes.h"

namespace shoal::kernels {

// How far lines are fetched ahead of their use: a quarter of a microsecond at 37 GB/s. On a core of
// 41 GB/s (four streams that only read) one stream of Q4_K reaches 41 with 9216 bytes and 34 with
// 4608; four streams, a quarter of a matrix apart, 36 in a matrix of 300 MB but 23 in one of 10.
inline constexpr int64_t kFetchBytes = 9216;

// Pointers to M rows of input, already at the piece's first column.
template <int M>
struct Rows {
  const float* x[M];
  const int8_t* codes[M];
  const BlockSums* blocks[M];
};

template <int M>
static inline Rows<M> rows_at(const InputRows& input, int64_t first_row, const ColumnPiece& piece) {
  Rows<M> rows;
  for (int m = 0; m < M; ++m) {
    const int64_t row = first_row + m;
    const int64_t block = row * input.block_stride + piece.first / kSubBlock;
    rows.x[m] = input.values + row * input.value_stride + piece.first;
    rows.codes[m] = input.codes + block * kCodeBytes;
    rows.blocks[m] = input.blocks + block;
  }
  return rows;
}

static inline void fetch_lines(const uint8_t* begin, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(begin + line, 0, 3);
}

static inline void store_group(const MatrixView& matrix, int64_t group, const float* sums,
                               bool paired, float* out) {
  float values[kGroupRows];
  for (int r = 0; r < kGroupRows; ++r) values[r] = paired ? sums[r] + sums[16 + r] : sums[r];
  const int64_t left = matrix.rows - group * kGroupRows;
  const int64_t count = left < kGroupRows ? left : kGroupRows;
  std::memcpy(out + group * kGroupRows, values, static_cast<size_t>(count) * sizeof(float));
}

// M rows of input, from `first_row` on, times one group.
template <class Format, int M, bool kFetch>
static void times_group(const MatrixView& matrix, const InputRows& input, int64_t first_row,
                        int64_t group, float* out, int64_t out_stride) {
  alignas(64) float state[M][Format::kSums];
  std::memset(state, 0, sizeof state);
  const uint8_t* p = matrix.bytes + group * matrix.unit_bytes;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    const Rows<M> rows = rows_at<M>(input, first_row, piece);
    const PieceOffsets at = piece_offsets(Format::kType, piece.count);
    const int64_t n = (piece.count + kSubBlock - 1) / kSubBlock;
    const int64_t share = (at.total / n + 63) / 64 * 64;
    for (int64_t b = 0; b < n; ++b) {
      if constexpr (kFetch) fetch_lines(p + kFetchBytes + b * share, share);
      Format::template sub_block<M>(p, at, piece.count, b, rows, state);
    }
    Format::template finish<M>(p, at, piece.count, rows, state);
    p += at.total;
  }
  for (int m = 0; m < M; ++m)
    store_group(matrix, group, state[m], Format::kPaired, out + (first_row + m) * out_stride);
}

// Rows from `row` on in blocks of M, what is left of them in smaller ones. The first block finds
// the group in memory, the others in a cache.
template <class Format, int M>
static void times_rows(const MatrixView& matrix, const InputRows& input, int64_t row,
                       int64_t input_rows, int64_t group, float* out, int64_t out_stride) {
  for (; row + M <= input_rows; row += M) {
    const auto times = row == 0 ? times_group<Format, M, true> : times_group<Format, M, false>;
    times(matrix, input, row, group, out, out_stride);
  }
  if constexpr (M > 1)
    times_rows<Format, M / 2>(matrix, input, row, input_rows, group, out, out_stride);
}

template <class Format>
static void walk_product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                         int64_t unit_begin, int64_t unit_end, void*, float* out,
                         int64_t out_stride) {
  for (int64_t group = unit_begin; group < unit_end; ++group)
    times_rows<Format, Format::kRowBlock>(matrix, input, 0, input_rows, group, out, out_stride);
}

}  // namespace shoal::kernels
