// Products of many rows of input by tiles: AMX multiplies 16 rows of 64 bytes with a tile of
// weights and adds exact int32. The sums are the integers of panel_products.h and meet the same
// floats in the same order, so that bits do not depend on the instruction set. Pure; any thread.
//
// V as in interleaved_codes.h. T stands for eight tiles, each of a number that is a template
// argument (amx_tiles.h; tests have one that emulates them):
//   configure(shapes), release()         of the calling thread
//   zero<C>(), load<N>(bytes, stride), store<N>(bytes, stride)
//   dot_signed<C, A, B>()                C += A B, both of int8
//   dot_unsigned<C, A, B>()              the same with A of uint8
//
// A step of activations is an int16, 256 high + low, and a tile takes 32 of them as they lie, high
// bytes and low ones alternating. The weights' bytes lie twice, with zeros between: against the low
// bytes and against the high. So a tile of int32 sums holds 32 columns of 16 rows of the matrix by
// 16 rows of input, once of low bytes and once of high, and 256 * high + low, in one float
// operation, rounds to the float that the exact sum of both rounds to.
//
// Blocks are those of panel_products.h: 256 outputs by 256 rows of input, piece after piece of 256
// columns; in that one unit, unpacked to 16 KB; in that two tiles of rows of input and spans of two
// steps, whose sums stay in the nearest cache until, among the tiles of the next span, vector
// instructions make floats of them.
#pragma once

#include <cstring>

#include "kernels/interleaved_codes.h"
#include "kernels/panel_products.h"

namespace shoal::kernels {

inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;  // of a row of a tile
inline constexpr int kSpanSteps = 2;
inline constexpr int kSpanRows = 2 * kTileRows;

// What LDTILECFG reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void set(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileShapes) == 64);

// Columns whose sum is one integer.
template <ElementType kType>
constexpr int kStepColumns = kSumsPerHalf<kType> ? kSubBlock / 2 : kSubBlock;
// Whether weights times their integer scales fit in bytes; of Q3_K, whose lowest code times its
// lowest scale is 128, with the sign turned.
template <ElementType kType>
constexpr bool kScalesInBytes = kTwoScales<kType> && !kSumsPerHalf<kType>;
template <ElementType kType>
constexpr bool kNegated = type_form(kType).sub_scales == SubScales::kSixBitsPer16;

// Rows of input from which on tiles pay: where panels of int16 do, as unpacking costs the same.
template <class V, ElementType kType>
constexpr int64_t kManyTileRows = kTwoScales<kType> ? V::kManyRows / 2 : V::kManyRows;

// Sums of low and of high bytes, times integer scales, are floats without rounding.
template <ElementType kType>
constexpr bool tile_sums_fit() {
  constexpr const TypeForm& form = type_form(kType);
  if (kScalesInBytes<kType>) {
    constexpr int64_t kCodes = int64_t{1} << (form.low_bits + form.high_bits);
    if (kNegated<kType>) return form.center * 32 <= 128 && (kCodes - 1 - form.center) * 32 <= 127;
    return form.center == 0 && (kCodes - 1) * 15 <= 127;
  }
  constexpr int64_t kCodes = int64_t{1} << (form.low_bits + form.high_bits);
  constexpr int64_t kValue = form.table != Table::kNone || form.low_bits == 8 ? 128
                             : kCodes - 1 - form.center > form.center ? kCodes - 1 - form.center
                                                                      : form.center;
  constexpr int64_t kScale = kFloatScaled<kType> ? 1 : kSumsPerHalf<kType> ? 128 : 63;
  return kStepColumns<kType> * kValue * kScale * 255 <= int64_t{1} << 24 && kValue <= 128;
}

// One piece of 16 rows, unpacked: tiles of pairs of columns, [16 rows][2 columns][2 bytes].
struct alignas(64) TilePanel {
  uint8_t low[kPieceColumns / 2][kTileBytes];    // each weight in the first of its two bytes
  uint8_t high[kPieceColumns / 2][kTileBytes];   // in the second
  float scales[kPieceColumns / 16][kGroupRows];  // of steps
  float d[kGroupRows];                           // of the piece, of types with integer scales
  float m[kPieceColumns / kSubBlock][kGroupRows];
  float minima[kPieceColumns / kSubBlock][kGroupRows];            // of types that scale by dmin,
  int32_t half_minima[kPieceColumns / kSubBlock][2][kGroupRows];  // or where halves have their own
};

// What tiles leave of a step: sums of low bytes, then of high ones.
struct alignas(64) StepSums {
  int32_t low[kSpanRows][kGroupRows];
  int32_t high[kSpanRows][kGroupRows];
};

struct TileScratch {
  // Beyond the length of a row, so that rows do not share the same few lines of the cache.
  static constexpr int kTailStride = kPieceColumns * 2 + 64;
  TilePanel panel;
  StepSums steps[2][kSpanSteps];
  alignas(64) float scaled[kSpanRows][kGroupRows];  // sums that wait for d
  alignas(64) int8_t tail[kTileRows][kTailStride];  // the last rows of input and zeros
  alignas(64) float sums[kBlockRows][kBlockUnits * kGroupRows];
};
static_assert(sizeof(TileScratch) <= kProductScratchBytes);

template <class V, class T, ElementType kType>
struct TilePanels {
  using I = typename V::I;
  using F = typename V::F;
  static constexpr const TypeForm& kForm = type_form(kType);
  static constexpr int64_t kStride = kBlockUnits * kGroupRows;  // of sums
  static constexpr int kStepBytes = 2 * kStepColumns<kType>;    // of a row of input
  static constexpr int kStepPairs = kStepColumns<kType> / 2;
  static constexpr int kStepsPerBlock = kSubBlock / kStepColumns<kType>;
  static_assert(tile_sums_fit<kType>() && sums_fit<kType>());

  // Tiles 0 to 3 are sums, 4 and 5 rows of input, 6 and 7 weights.
  static TileShapes shapes() {
    TileShapes shapes;
    for (int tile = 0; tile < 4; ++tile) shapes.set(tile, kTileRows, kTileBytes);
    for (int tile = 4; tile < 6; ++tile) shapes.set(tile, kTileRows, kStepBytes);
    for (int tile = 6; tile < 8; ++tile) shapes.set(tile, kStepPairs, kTileBytes);
    return shapes;
  }

  static void unpack(const uint8_t* p, int64_t columns, TilePanel& panel) {
    const PieceOffsets at = piece_offsets(kType, columns);
    const int64_t n = columns / kSubBlock;
    const int64_t share = (at.total / n + 63) / 64 * 64;
    for (int64_t b = 0; b < n; ++b) {
      fetch_lines(p + kFetchBytes + b * share, share);
      for (int part = 0; part < V::kParts; ++part) unpack_sub_block(p, at, columns, b, part, panel);
    }
    if constexpr (!kFloatScaled<kType>) {
      for (int part = 0; part < V::kParts; ++part) {
        const int first = V::kLanes * part;
        V::store_floats(panel.d + first, V::halves(p + at.d + 2 * first));
        if constexpr (kForm.minimum)
          V::store_floats(panel.m[0] + first, V::halves(p + at.m + 2 * first));
      }
    }
  }

  // The unpacked piece times rows [row, row_end) of input; sums[(r - row) * kStride + lane] go on.
  static void times(TileScratch& scratch, const ColumnPiece& piece, const InputRows& input,
                    int64_t row, int64_t row_end, float* sums) {
    const int64_t steps = piece.count / kStepColumns<kType>;
    Span waiting = {};
    int buffer = 0;
    for (int64_t first = row; first < row_end; first += kSpanRows) {
      const int64_t left = row_end - first, rows = left < kSpanRows ? left : kSpanRows;
      const TileInput in[2] = {tile_input(scratch, piece, input, first, row_end),
                               tile_input(scratch, piece, input, first + kTileRows, row_end)};
      const auto multiply = rows > kTileRows ? multiply_step<2> : multiply_step<1>;
      for (int64_t step = 0; step < steps; step += kSpanSteps) {
        const int64_t count = steps - step < kSpanSteps ? steps - step : kSpanSteps;
        for (int64_t i = 0; i < count; ++i) {
          multiply(scratch.panel, in, step + i, scratch.steps[buffer][i]);
          finish(scratch, waiting, waiting.rows * i / count, waiting.rows * (i + 1) / count);
        }
        waiting = {scratch.steps[buffer],
                   input.blocks + first * input.block_stride + piece.first / kSubBlock,
                   input.block_stride,
                   sums + (first - row) * kStride,
                   rows,
                   step,
                   count,
                   steps};
        buffer = 1 - buffer;
      }
    }
    finish(scratch, waiting, 0, waiting.rows);
  }

 private:
  struct TileInput {
    const int8_t* codes;
    int64_t stride;
  };
  // Two tiles' rows of input by up to kSpanSteps steps, whose sums wait to become floats.
  struct Span {
    const StepSums* products;
    const BlockSums* blocks;  // of the first row, from the piece's first column on
    int64_t block_stride;
    float* sums;
    int64_t rows;
    int64_t step, count, all;  // steps from `step` on, `count` of the piece's `all`
  };

  // Tiles read whole rows of sixteen: the last few are read from a copy.
  static TileInput tile_input(const TileScratch& scratch, const ColumnPiece& piece,
                              const InputRows& input, int64_t row, int64_t row_end) {
    if (row + kTileRows > row_end) return {scratch.tail[0], TileScratch::kTailStride};
    return {input.codes + (row * input.block_stride + piece.first / kSubBlock) * kCodeBytes,
            input.block_stride * kCodeBytes};
  }

  static void unpack_sub_block(const uint8_t* p, const PieceOffsets& at, int64_t columns, int64_t b,
                               int part, TilePanel& panel) {
    const int first = V::kLanes * part;
    const Codes<V, kType> codes(p, at, b, part);
    I scale[2];
    if constexpr (kFloatScaled<kType>) {
      V::store_floats(panel.scales[b] + first, float_scales<V, kType>(p, at, b, part));
      if constexpr (kForm.minimum)
        V::store_floats(panel.m[b] + first, V::halves(p + at.m + 32 * b + 2 * first));
    } else {
      integer_scales<V, kType>(p, at, columns, b, part, scale);
      for (int i = 0; i < kStepsPerBlock; ++i)
        V::store_floats(panel.scales[kStepsPerBlock * b + i] + first, V::to_floats(scale[i]));
      if constexpr (kForm.minimum) {
        I minima[2];
        integer_minima<V, kType>(p, at, b, part, minima);
        if constexpr (kTwoScales<kType>) {
          for (int half = 0; half < 2; ++half)
            V::store(panel.half_minima[b][half] + first, minima[half]);
        } else {
          V::store_floats(panel.minima[b] + first, V::to_floats(minima[0]));
        }
      }
    }
    if constexpr (kScalesInBytes<kType>) {
      for (I& pair : scale) {  // in both halves of each lane
        if constexpr (kNegated<kType>) pair = V::mul32(pair, V::set32(-1));
        const I low = V::bits_and(pair, V::set32(0xffff));
        pair = V::or_masked(low, V::template left32<16>(pair), V::set32(-65536));
      }
    }
    unrolled<8>([&]<int kGroup>() __attribute__((always_inline)) {
      I pair[2];
      codes.template pairs<kGroup>(pair[0], pair[1]);
      for (int i = 0; i < 2; ++i) {
        if constexpr (kForm.center != 0) pair[i] = V::sub16(pair[i], V::set16(kForm.center));
        if constexpr (kScalesInBytes<kType>) pair[i] = V::mul16(pair[i], scale[kGroup / 4]);
        const int64_t at_pair = kPairs * b + 2 * kGroup + i;
        V::store(panel.low[at_pair] + 4 * first, V::bits_and(pair[i], V::set16(255)));
        V::store(panel.high[at_pair] + 4 * first, V::template left16<8>(pair[i]));
      }
    });
  }

  // One step of kTiles tiles of rows of input.
  template <int kTiles>
  static void multiply_step(const TilePanel& panel, const TileInput* in, int64_t step,
                            StepSums& out) {
    T::template load<6>(panel.low[kStepPairs * step], kTileBytes);
    T::template load<7>(panel.high[kStepPairs * step], kTileBytes);
    T::template zero<0>();
    T::template zero<1>();
    T::template load<4>(in[0].codes + kStepBytes * step, in[0].stride);
    T::template dot_unsigned<0, 4, 6>();
    T::template dot_signed<1, 4, 7>();
    if constexpr (kTiles == 2) {
      T::template zero<2>();
      T::template zero<3>();
      T::template load<5>(in[1].codes + kStepBytes * step, in[1].stride);
      T::template dot_unsigned<2, 5, 6>();
      T::template dot_signed<3, 5, 7>();
    }
    T::template store<0>(out.low[0], kTileBytes);
    T::template store<1>(out.high[0], kTileBytes);
    if constexpr (kTiles == 2) {
      T::template store<2>(out.low[kTileRows], kTileBytes);
      T::template store<3>(out.high[kTileRows], kTileBytes);
    }
  }

  // Rows [begin, end) of a span.
  static void finish(TileScratch& scratch, const Span& span, int64_t begin, int64_t end) {
    static_assert(kSpanSteps == 2);
    if (span.count == 2) {
      add_steps<2>(scratch, span, begin, end);
    } else {
      add_steps<1>(scratch, span, begin, end);
    }
  }

  template <int kSteps>
  static void add_steps(TileScratch& scratch, const Span& span, int64_t begin, int64_t end) {
    const TilePanel& panel = scratch.panel;
    for (int part = 0; part < V::kParts; ++part) {
      const int lane = V::kLanes * part;
      F scale[kSteps], scale256[kSteps], minimum[kSteps];
      for (int i = 0; i < kSteps; ++i) {
        scale[i] = V::load_floats(panel.scales[span.step + i] + lane);
        if constexpr (kScalesInBytes<kType>) scale[i] = V::set(kNegated<kType> ? -1.0f : 1.0f);
        scale256[i] = V::mul(V::set(256), scale[i]);
        if constexpr (kFloatScaled<kType> && kForm.minimum)
          minimum[i] = V::load_floats(panel.m[span.step + i] + lane);
      }
      for (int64_t m = begin; m < end; ++m) {
        const BlockSums* blocks = span.blocks + m * span.block_stride;
        float* sums = span.sums + m * kStride + lane;
        float* scaled = scratch.scaled[m] + lane;
        F acc = kFloatScaled<kType> ? V::load_floats(sums)
                : span.step == 0    ? V::set(0)
                                    : V::load_floats(scaled);
        for (int i = 0; i < kSteps; ++i) {
          const BlockSums& block = blocks[(span.step + i) / kStepsPerBlock];
          const F low = V::to_floats(V::load(span.products[i].low[m] + lane));
          const F high = V::to_floats(V::load(span.products[i].high[m] + lane));
          const F x = V::set(block.scale);
          if constexpr (kFloatScaled<kType>) {
            acc = V::fma(V::mul(V::fma(high, V::set(256), low), x), scale[i], acc);
            if constexpr (kForm.minimum) acc = V::fma(minimum[i], V::set(block.weighted_sum), acc);
          } else {
            acc = V::fma(V::fma(high, scale256[i], V::mul(low, scale[i])), x, acc);
          }
        }
        if constexpr (kFloatScaled<kType>) {
          V::store_floats(sums, acc);
        } else if (span.step + kSteps < span.all) {
          V::store_floats(scaled, acc);
        } else {
          V::store_floats(sums, finished(panel, lane, span, blocks, acc, V::load_floats(sums)));
        }
      }
    }
  }

  // Of types with integer scales: `sum` and d times what was summed, less dmin times the minima.
  static F finished(const TilePanel& panel, int lane, const Span& span, const BlockSums* blocks,
                    F scaled, F sum) {
    sum = V::fma(V::load_floats(panel.d + lane), scaled, sum);
    if constexpr (kForm.minimum) {
      F offset = V::set(0);
      for (int64_t b = 0; b < span.all / kStepsPerBlock; ++b) {
        if constexpr (kTwoScales<kType>) {
          const I minima[2] = {V::load(panel.half_minima[b][0] + lane),
                               V::load(panel.half_minima[b][1] + lane)};
          offset = add_minima<V, true>(minima, blocks[b], offset);
        } else {
          offset = V::fma(V::load_floats(panel.minima[b] + lane), V::set(blocks[b].weighted_sum),
                          offset);
        }
      }
      sum = V::fnma(V::load_floats(panel.m[0] + lane), offset, sum);
    }
    return sum;
  }
};

// Copies the rows that fill no tile, and zeros behind them.
static inline void fill_tail(TileScratch& scratch, const ColumnPiece& piece, const InputRows& input,
                             int64_t row, int64_t row_end) {
  const int64_t whole = (row_end - row) / kTileRows * kTileRows;
  const int64_t bytes = piece.count / kSubBlock * kCodeBytes;
  for (int64_t i = 0; i < kTileRows && row + whole < row_end; ++i) {
    const int64_t r = row + whole + i;
    if (r < row_end) {
      const int64_t block = r * input.block_stride + piece.first / kSubBlock;
      std::memcpy(scratch.tail[i], input.codes + block * kCodeBytes, static_cast<size_t>(bytes));
    } else {
      std::memset(scratch.tail[i], 0, static_cast<size_t>(bytes));
    }
  }
}

// Units [unit, unit_end), at most kBlockUnits, times rows [row, row_end), at most kBlockRows.
template <class V, class T, ElementType kType>
static void tile_block(const MatrixView& matrix, const InputRows& input, int64_t row,
                       int64_t row_end, int64_t unit, int64_t unit_end, TileScratch& scratch,
                       float* out, int64_t out_stride) {
  using P = TilePanels<V, T, kType>;
  std::memset(scratch.sums, 0, static_cast<size_t>((row_end - row) * P::kStride) * sizeof(float));
  int64_t offset = 0;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    fill_tail(scratch, piece, input, row, row_end);
    for (int64_t u = unit; u < unit_end; ++u) {
      P::unpack(matrix.bytes + u * matrix.unit_bytes + offset, piece.count, scratch.panel);
      P::times(scratch, piece, input, row, row_end, scratch.sums[0] + (u - unit) * kGroupRows);
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

// Whether there is such a function: a comparison of its address is no constant where sanitizers
// watch.
template <Product (*)(ElementType)>
inline constexpr bool kThereIs = true;
template <>
inline constexpr bool kThereIs<nullptr> = false;

// A Product of a quantised type. kFew, where there is one, has for each type a product of the same
// bits, for so few rows of input that tiles do not pay.
template <class V, class T, Product (*kFew)(ElementType), ElementType kType>
static void tile_product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                         int64_t unit_begin, int64_t unit_end, void* scratch, float* out,
                         int64_t out_stride) {
  if constexpr (kThereIs<kFew>) {
    if (input_rows < kManyTileRows<V, kType>)
      return kFew(kType)(matrix, input, input_rows, unit_begin, unit_end, scratch, out, out_stride);
  }
  T::configure(TilePanels<V, T, kType>::shapes());
  for (int64_t row = 0; row < input_rows; row += kBlockRows) {
    const int64_t row_end = row + kBlockRows < input_rows ? row + kBlockRows : input_rows;
    // Few rows are bound by memory, which likes streams: then a unit's pieces follow one another.
    const int64_t units = row_end - row < kStreamedRows ? 1 : kBlockUnits;
    for (int64_t unit = unit_begin; unit < unit_end; unit += units) {
      const int64_t last = unit + units < unit_end ? unit + units : unit_end;
      tile_block<V, T, kType>(matrix, input, row, row_end, unit, last,
                              *static_cast<TileScratch*>(scratch), out, out_stride);
    }
  }
  T::release();  // so that switching threads need not save tiles
}

// Null for a type without a product by tiles.
template <class V, class T, Product (*kFew)(ElementType) = nullptr>
static Product tile_product_of(ElementType type) {
  switch (type) {
    case ElementType::kQ8_0:
      return tile_product<V, T, kFew, ElementType::kQ8_0>;
    case ElementType::kQ4_0:
      return tile_product<V, T, kFew, ElementType::kQ4_0>;
    case ElementType::kQ4_1:
      return tile_product<V, T, kFew, ElementType::kQ4_1>;
    case ElementType::kQ5_0:
      return tile_product<V, T, kFew, ElementType::kQ5_0>;
    case ElementType::kQ5_1:
      return tile_product<V, T, kFew, ElementType::kQ5_1>;
    case ElementType::kIQ4_NL:
      return tile_product<V, T, kFew, ElementType::kIQ4_NL>;
    case ElementType::kIQ4_XS:
      return tile_product<V, T, kFew, ElementType::kIQ4_XS>;
    case ElementType::kMXFP4:
      return tile_product<V, T, kFew, ElementType::kMXFP4>;
    case ElementType::kQ2_K:
      return tile_product<V, T, kFew, ElementType::kQ2_K>;
    case ElementType::kQ3_K:
      return tile_product<V, T, kFew, ElementType::kQ3_K>;
    case ElementType::kQ4_K:
      return tile_product<V, T, kFew, ElementType::kQ4_K>;
    case ElementType::kQ5_K:
      return tile_product<V, T, kFew, ElementType::kQ5_K>;
    case ElementType::kQ6_K:
      return tile_product<V, T, kFew, ElementType::kQ6_K>;
    default:
      return nullptr;
  }
}

}  // namespace shoal::kernels
