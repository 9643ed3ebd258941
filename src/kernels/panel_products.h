// Products of many rows of input: a block of weights is unpacked once into panels of int16, with
// the integer scales of the K types multiplied in, that stay in the nearest cache while all rows of
// input pass. The sums are the same integers as those of packed_products.h and meet the same floats
// in the same order, so that a row's bits do not depend on how many rows there are. Pure; any
// thread. V as in interleaved_codes.h.
//
// Blocks: 16 units of the matrix (256 outputs) and 256 rows of input, whose sums wait in scratch
// memory; in it piece after piece of 256 columns, whose activations stay in the second cache; in
// that V::kPanelUnits units, 8 KB each; in that V::kPanelRows rows of input, whose sums are
// registers.
#pragma once

#include <cstring>

#include "kernels/interleaved_codes.h"
#include "kernels/product_walk.h"

namespace shoal::kernels {

inline constexpr int kBlockUnits = 16;
inline constexpr int kBlockRows = 256;
inline constexpr int64_t kStreamedRows = 32;

// One piece of 16 rows, unpacked.
struct alignas(64) Panel {
  int16_t pairs[kPieceColumns / 2][kGroupRows][2];
  float d[kPieceColumns / kSubBlock][kGroupRows];  // for each 32 columns, or d[0] of the piece
  float m[kPieceColumns / kSubBlock][kGroupRows];  // likewise
  int32_t minima[kPieceColumns / kSubBlock][2]
                [kGroupRows];  // of halves, of types that scale by dmin
};
struct PanelScratch {
  Panel panels[2];
  alignas(64) float sums[kBlockRows][kBlockUnits * kGroupRows];
};
static_assert(sizeof(PanelScratch) <= kProductScratchBytes);

template <class V, ElementType kType>
struct Panels {
  using I = typename V::I;
  using F = typename V::F;
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr int kUnits = V::kPanelUnits, kRows = V::kPanelRows;
  static_assert(kUnits <= 2);

  static void unpack(const uint8_t* p, int64_t columns, Panel& panel) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const int64_t share = (at.total / n + 63) / 64 * 64;
    for (int64_t b = 0; b < n; ++b) {
      fetch_lines(p + kFetchBytes / kUnits + b * share, share);
      for (int part = 0; part < V::kParts; ++part) unpack_sub_block(p, at, columns, b, part, panel);
    }
    if constexpr (!kFloatScaled<kType>) {
      for (int part = 0; part < V::kParts; ++part) {
        const int first = V::kLanes * part;
        V::store_floats(panel.d[0] + first, V::halves(p + at.d + 2 * first));
        if constexpr (kForm.minimum)
          V::store_floats(panel.m[0] + first, V::halves(p + at.m + 2 * first));
      }
    }
  }

  // The first U panels times M rows of input; sums[m * stride + 16 u + lane] go on.
  template <int U, int M>
  static void times(const Panel* panels, int64_t columns, const Rows<M>& in, float* sums,
                    int64_t stride) {
    constexpr int kVectors = U * V::kParts;  // side by side
    F acc[M][kVectors];
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < kVectors; ++v) {
        acc[m][v] =
            kFloatScaled<kType> ? V::load_floats(sums + m * stride + V::kLanes * v) : V::set(0);
      }
    }
    for (int64_t b = 0; b < columns / kSubBlock; ++b) {
      if constexpr (kSumsPerHalf<kType>) {
        add_pairs<U, M, 0, kPairs / 2>(panels, in, b, acc);
        add_pairs<U, M, kPairs / 2, kPairs>(panels, in, b, acc);
      } else {
        add_pairs<U, M, 0, kPairs>(panels, in, b, acc);
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const Panel& panel = panels[v / V::kParts];
      const int lane = V::kLanes * (v % V::kParts);
      F sum[M];
      for (int m = 0; m < M; ++m) sum[m] = acc[m][v];
      if constexpr (!kFloatScaled<kType>)
        finish<M>(panel, lane, columns / kSubBlock, in, sums + V::kLanes * v, stride, sum);
      for (int m = 0; m < M; ++m) V::store_floats(sums + m * stride + V::kLanes * v, sum[m]);
    }
  }

 private:
  static void unpack_sub_block(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                               int part, Panel& panel) {
    const int first = V::kLanes * part;
    const Codes<V, kType> codes(p, at, b, part);
    I factor[2];  // in both halves of each lane
    if constexpr (!kFloatScaled<kType>) {
      integer_scales<V, kType>(p, at, columns, b, part, factor);
      for (I& pair : factor) {
        const I low = V::bits_and(pair, V::set32(0xffff));
        pair = V::or_masked(low, V::template left32<16>(pair), V::set32(-65536));
      }
    }
    unrolled<8>([&]<int kGroup>() __attribute__((always_inline)) {
      I pair[2];
      codes.template pairs<kGroup>(pair[0], pair[1]);
      for (int i = 0; i < 2; ++i) {
        if constexpr (kForm.center != 0) pair[i] = V::sub16(pair[i], V::set16(kForm.center));
        if constexpr (!kFloatScaled<kType>) pair[i] = V::mul16(pair[i], factor[kGroup / 4]);
        V::store(panel.pairs[kPairs * b + 2 * kGroup + i][first], pair[i]);
      }
    });
    if constexpr (kFloatScaled<kType>) {
      V::store_floats(panel.d[b] + first, float_scales<V, kType>(p, at, b, part));
      if constexpr (kForm.minimum)
        V::store_floats(panel.m[b] + first, V::halves(p + at.m + 32 * b + 2 * first));
    } else if constexpr (kForm.minimum) {
      I minima[2];
      integer_minima<V, kType>(p, at, b, part, minima);
      for (int half = 0; half < 2; ++half) V::store(panel.minima[b][half] + first, minima[half]);
    }
  }

  // Adds pairs [kBegin, kEnd) of sub-block b.
  template <int U, int M, int kBegin, int kEnd>
  static inline __attribute__((always_inline)) void add_pairs(const Panel* panels,
                                                              const Rows<M>& in, int64_t b,
                                                              F (&acc)[M][U * V::kParts]) {
    constexpr int kVectors = U * V::kParts;
    I dot[M][kVectors];
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < kVectors; ++v) dot[m][v] = V::set32(0);
    }
    unrolled<kEnd - kBegin>([&]<int k>() __attribute__((always_inline)) {
      constexpr int kPair = kBegin + k;
      I w[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        const auto& rows = panels[v / V::kParts].pairs[kPairs * b + kPair];
        w[v] = V::load(rows[V::kLanes * (v % V::kParts)]);
      }
      for (int m = 0; m < M; ++m) {
        const I x = pair_of<V>(in.codes[m] + kCodeBytes * b, kPair);
        for (int v = 0; v < kVectors; ++v) dot[m][v] = V::dot(dot[m][v], w[v], x);
      }
    });
    for (int m = 0; m < M; ++m) {
      const BlockSums& block = in.blocks[m][b];
      const F scale = V::set(block.scale);
      for (int v = 0; v < kVectors; ++v) {
        const F steps = V::to_floats(dot[m][v]);
        if constexpr (kFloatScaled<kType>) {
          const Panel& panel = panels[v / V::kParts];
          const int lane = V::kLanes * (v % V::kParts);
          acc[m][v] = V::fma(V::mul(steps, scale), V::load_floats(panel.d[b] + lane), acc[m][v]);
          if constexpr (kForm.minimum) {
            acc[m][v] =
                V::fma(V::load_floats(panel.m[b] + lane), V::set(block.weighted_sum), acc[m][v]);
          }
        } else {
          acc[m][v] = V::fma(steps, scale, acc[m][v]);
        }
      }
    }
  }

  // Of types with integer scales: d times what was summed, less dmin times the minima.
  template <int M>
  static void finish(const Panel& panel, int lane, int64_t n, const Rows<M>& in, const float* sums,
                     int64_t stride, F (&sum)[M]) {
    const F d = V::load_floats(panel.d[0] + lane);
    for (int m = 0; m < M; ++m) sum[m] = V::fma(d, sum[m], V::load_floats(sums + m * stride));
    if constexpr (kForm.minimum) {
      F offset[M];
      for (int m = 0; m < M; ++m) offset[m] = V::set(0);
      for (int64_t b = 0; b < n; ++b) {
        const I minima[2] = {V::load(panel.minima[b][0] + lane),
                             V::load(panel.minima[b][1] + lane)};
        for (int m = 0; m < M; ++m)
          offset[m] = add_minima<V, kTwoScales<kType>>(minima, in.blocks[m][b], offset[m]);
      }
      const F dmin = V::load_floats(panel.m[0] + lane);
      for (int m = 0; m < M; ++m) sum[m] = V::fnma(dmin, offset[m], sum[m]);
    }
  }
};

// M rows of input and their sums wait in the second cache.
template <int M>
static inline void fetch_rows(const ColumnPiece& piece, const InputRows& input, int64_t row,
                              const float* sums, int64_t stride) {
  const Rows<M> rows = rows_at<M>(input, row, piece);
  for (int m = 0; m < M; ++m) {
    for (int line = 0; line < kPieceColumns / kSubBlock; ++line)
      __builtin_prefetch(rows.codes[m] + kCodeBytes * line, 0, 3);
    __builtin_prefetch(rows.blocks[m], 0, 3);
    __builtin_prefetch(rows.blocks[m] + 4, 0, 3);
    __builtin_prefetch(sums + m * stride, 1, 3);
    __builtin_prefetch(sums + m * stride + 16, 1, 3);
  }
}

// `count` rows of input, at most M.
template <class P, int U, int M>
static void some_rows(const Panel* panels, const ColumnPiece& piece, const InputRows& input,
                      int64_t row, int64_t count, float* sums, int64_t stride) {
  if constexpr (M > 1) {
    if (count < M) return some_rows<P, U, M - 1>(panels, piece, input, row, count, sums, stride);
  }
  P::template times<U, M>(panels, piece.count, rows_at<M>(input, row, piece), sums, stride);
}

// The rows of input from `row` to `end`, in blocks of P::kRows; what is not whole blocks in equal
// parts: few rows at once leave the multipliers waiting for their own sums.
template <class P, int U>
static void panel_rows(const Panel* panels, const ColumnPiece& piece, const InputRows& input,
                       int64_t row, int64_t end, float* sums, int64_t stride) {
  while (row < end) {
    const int64_t left = end - row, blocks = (left + P::kRows - 1) / P::kRows;
    const int64_t count = blocks > 2 ? P::kRows : (left + blocks - 1) / blocks;
    if (left >= 2 * P::kRows)
      fetch_rows<P::kRows>(piece, input, row + count, sums + count * stride, stride);
    some_rows<P, U, P::kRows>(panels, piece, input, row, count, sums, stride);
    row += count;
    sums += count * stride;
  }
}

// Units [unit, unit_end), at most kBlockUnits, times rows [row, row_end), at most kBlockRows.
template <class V, ElementType kType>
static void times_block(const MatrixView& matrix, const InputRows& input, int64_t row,
                        int64_t row_end, int64_t unit, int64_t unit_end, PanelScratch& scratch,
                        float* out, int64_t out_stride) {
  using P = Panels<V, kType>;
  constexpr int64_t kStride = kBlockUnits * kGroupRows;
  std::memset(scratch.sums, 0, static_cast<size_t>((row_end - row) * kStride) * sizeof(float));
  int64_t offset = 0;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    for (int64_t first = unit; first < unit_end; first += P::kUnits) {
      const int64_t left = unit_end - first;
      const uint8_t* bytes = matrix.bytes + first * matrix.unit_bytes + offset;
      float* sums = scratch.sums[0] + (first - unit) * kGroupRows;
      for (int64_t u = 0; u < P::kUnits && u < left; ++u)
        P::unpack(bytes + u * matrix.unit_bytes, piece.count, scratch.panels[u]);
      const auto multiply = left >= P::kUnits ? panel_rows<P, P::kUnits> : panel_rows<P, 1>;
      multiply(scratch.panels, piece, input, row, row_end, sums, kStride);
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

template <class V, ElementType kType>
static void panel_product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                          int64_t unit_begin, int64_t unit_end, void* scratch, float* out,
                          int64_t out_stride) {
  for (int64_t row = 0; row < input_rows; row += kBlockRows) {
    const int64_t row_end = row + kBlockRows < input_rows ? row + kBlockRows : input_rows;
    // Few rows are bound by memory, which likes streams: then a unit's pieces follow one another.
    const int64_t units = row_end - row < kStreamedRows ? Panels<V, kType>::kUnits : kBlockUnits;
    for (int64_t unit = unit_begin; unit < unit_end; unit += units) {
      const int64_t last = unit + units < unit_end ? unit + units : unit_end;
      times_block<V, kType>(matrix, input, row, row_end, unit, last,
                            *static_cast<PanelScratch*>(scratch), out, out_stride);
    }
  }
}

}  // namespace shoal::kernels
