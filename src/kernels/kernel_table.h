// The seam between the backend and the instruction sets: one table of functions for each.
//
// Everything here is plain data and raw pointers on purpose. A file compiled for AVX2 must not
// instantiate library templates: the linker would keep one copy of each, perhaps the one that an
// older processor cannot run.
//
// Functions are pure in their arguments; any thread. What a function computes for one row of input
// and one row of a matrix never depends on what else the call covers.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "tensor/element_type.h"
#include "tensor/kv_type.h"
#include "tensor/program.h"

namespace shoal::kernels {

inline constexpr int kPageTokens = 32;     // positions per KV page
inline constexpr int kSubBlock = 32;       // columns that share a scale of quantised activations
inline constexpr int kPieceColumns = 256;  // most columns of a piece

// A run of kept columns that lies within 256 aligned columns of the source: what the formats with
// super-blocks share scales over, or the part of it that a cut left.
struct ColumnPiece {
  int64_t source_column;
  int64_t first;  // among the kept columns
  int64_t count;  // at most kPieceColumns
};

// A matrix as one table packed it: units of `row_unit` rows, each of `unit_bytes`.
struct MatrixView {
  ElementType type;
  int64_t rows;
  int64_t columns;
  const uint8_t* bytes;
  int64_t unit_bytes;
  const ColumnPiece* pieces;
  int64_t piece_count;
};

// Activations are quantised in two levels: to int8 per 32, and what that leaves to int8 again. One
// level alone moves an activation by up to 1/254 of its block's largest, and a rounding that falls
// the other way on one rank than on another grows from layer to layer until two plans disagree on
// 4% of SmolLM2's next tokens; two levels move it by 1/64000.
// A remainder is at most half a coarse step and a few ulps of the largest: 252 fine steps in a
// coarse one instead of 254 keep its code within int8.
inline constexpr int kFineSteps = 252;
inline constexpr int kLargestStep = 127 * kFineSteps + kFineSteps / 2;

// The codes of 32 activations lie in either of two forms, for products that sum the same integers:
// - as an int16 of fine steps each, in the order of their pairs, or
// - with the levels apart, for products that multiply bytes: of each 8 columns the coarse codes,
//   then the fine ones. Weights need not be widened for these, but there are two sums for each row.
inline constexpr int kCodeBytes = 64;
inline constexpr int kApartBytes = 16;  // of 8 columns, apart

// What goes with 32 activations: value = scale * steps.
struct BlockSums {
  float scale;
  float weighted_sum;     // scale * the sum of all steps
  int32_t half_steps[2];  // sums of the first and the last 16
};

// Rows of activations, as floats and, where a product asks for it, quantised.
struct InputRows {
  const float* values;
  int64_t value_stride;
  // Block b (of 32 activations) of row r has number r * block_stride + b here and there.
  const int8_t* codes;  // kCodeBytes each
  const BlockSums* blocks;
  int64_t block_stride;
  bool apart = false;  // as quantise_apart() left the codes, or quantise()
};

// out[row * out_stride + r] = sum over columns of matrix(r, column) * input(row, column), for every
// row r of the units [unit_begin, unit_end). `scratch` is kProductScratchBytes of the caller's,
// 64-byte aligned, in use meanwhile.
inline constexpr int64_t kProductScratchBytes = 320 << 10;
using Product = void (*)(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                         int64_t unit_begin, int64_t unit_end, void* scratch, float* out,
                         int64_t out_stride);

enum class GateKind : uint8_t { kSilu, kGeluTanh, kCappedSilu };
GateKind gate_kind(Activation activation);
// Of kCappedSilu (tensor/program.h).
inline constexpr float kGateCap = 7;
inline constexpr float kGateSlope = 1.702f;

// --- attention ---

// A page of keys holds, of one head, [element][position]; one of values [position][element]. Of
// q8_0 both keep their scales behind the codes, as [block of 32 elements][position].
static inline int64_t kv_scales_offset(int64_t head_dimension) {
  return kPageTokens * head_dimension;
}
static inline int64_t kv_scales_count(int64_t head_dimension) {  // of one position
  return (head_dimension + kKvBlock - 1) / kKvBlock;
}
static inline int64_t key_index(int64_t offset, int64_t element) {
  return element * kPageTokens + offset;
}
static inline int64_t kv_scale_index(int64_t offset, int64_t element) {
  return element / kKvBlock * kPageTokens + offset;
}

// Attention goes span by span of positions: what a row gathers in each is joined in their order,
// whoever gathered it. So threads may share a row, and its bits do not depend on how.
inline constexpr int kSpanTokens = 512;
// Most rows times heads of a task: a page is turned into floats once for all of them, and their
// queries and scores of a span stay in the second cache.
inline constexpr int kTaskQueries = 64;

// Rows of one sequence, at positions that follow one another, attend by heads that share one KV
// head. "Query" r * heads + h is that of row r and head h.
struct AttendTask {
  const float* q;  // of row r and head h at q + r * q_stride + h * head_dimension
  int64_t q_stride;
  const uint8_t* k;  // page 0 of this layer and KV head, as KvStorage lays it out
  const uint8_t* v;  // likewise; null: a value is the first elements of its key
  int64_t page_stride_bytes;
  const int32_t* pages;  // of the sequence
  KvType type;
  int rows;
  int heads;            // rows * heads is at most kTaskQueries
  int head_dimension;   // elements of a position, of keys and of values alike
  int value_dimension;  // elements of a value that count: the first
  int64_t position;     // of the first row
  int64_t window = 0;   // a row attends to so many positions, itself the last; 0: to all
  int64_t start = 0;    // where there is no window: none attends before it
  float scale;
  float soft_cap = 0;            // 0: none
  const float* sinks = nullptr;  // of the heads; null: none
  float* scratch;                // attend_scratch_floats(), 64-byte aligned
  // A page of keys that the same thread reads next; null: it is not known.
  const uint8_t* next = nullptr;
  float* out;  // of row r and head h at out + r * out_stride + h * value_dimension
  int64_t out_stride;
};

// What a query gathered in a span: the largest score, the sum of weights, both relative to it;
// behind kPartHead floats the weighted sum of values.
inline constexpr int kPartHead = 16;
static inline int64_t part_floats(int64_t value_dimension) {
  return kPartHead + (value_dimension + 15) / 16 * 16;
}
static inline int64_t attend_scratch_floats(int64_t head_dimension, int64_t value_dimension) {
  const int64_t padded = (head_dimension + 31) / 32 * 32;
  const int64_t query = padded + kSpanTokens + 16 + 2 * part_floats(value_dimension);
  return kTaskQueries * query + 2 * kPageTokens * padded + kPageTokens * padded / kKvBlock + 16;
}

// The first and the last but one position of row `row` of a task, from `start` on, within a span.
struct SpanRange {
  int begin, end;  // both rise from row to row
};
static inline SpanRange span_range(const AttendTask& task, int64_t row, int64_t start) {
  const int64_t last = task.position + row;
  const int64_t first =
      task.window > 0 && last >= task.window ? last - task.window + 1 : task.start;
  const auto within = [start](int64_t position) {
    const int64_t offset = position - start;
    return static_cast<int>(offset < 0 ? 0 : offset > kSpanTokens ? kSpanTokens : offset);
  };
  return {within(first), within(last + 1)};
}
static inline int64_t first_page(const AttendTask& task) {
  return task.window > 0 && task.position >= task.window
             ? (task.position - task.window + 1) / kPageTokens
             : task.start / kPageTokens;
}
static inline int64_t first_span(const AttendTask& task) {
  return first_page(task) * kPageTokens / kSpanTokens;
}
static inline int64_t last_span(const AttendTask& task) {
  return (task.position + task.rows - 1) / kSpanTokens;
}

struct KernelTable {
  Isa isa;

  // --- weights ---
  int row_unit;
  bool (*takes_codes)(ElementType type);  // the product reads quantised activations
  int64_t (*unit_bytes)(ElementType type, const ColumnPiece* pieces, int64_t piece_count);
  // Packs one unit. rows[i] is where row i of the unit begins in the file, null beyond the last.
  void (*pack)(ElementType type, const uint8_t* const* rows, const ColumnPiece* pieces,
               int64_t piece_count, uint8_t* out);
  void (*unpack_row)(const MatrixView& matrix, int64_t row, float* out);
  Product (*product)(ElementType type);  // null for a type without one

  // --- rows ---
  // `count` is a multiple of 32: as many / 32 blocks. Where the largest magnitude of 32 is under
  // 1e-33 the codes are zero. Null where no product reads such codes.
  void (*quantise)(const float* in, int64_t count, int8_t* codes, BlockSums* blocks);
  // The same with the levels apart: what products read of up to `apart_rows` rows of input.
  void (*quantise_apart)(const float* in, int64_t count, int8_t* codes,
                         BlockSums* blocks) = nullptr;
  int64_t apart_rows = 0;
  void (*rms_norm)(const float* in, const float* weight, int64_t width, float epsilon, float* out);
  void (*gate)(GateKind kind, const float* gate, const float* up, int64_t count, float* out);

  // --- attention ---
  void (*store_f16)(const float* in, int64_t count, uint16_t* out);
  // Codes and the scale of each 32 (of the last fewer): the least binary16 not below the largest
  // magnitude / 127, so that no code is cut off. The same bits for every instruction set.
  void (*store_q8)(const float* in, int64_t count, int8_t* codes, uint16_t* scales);
  void (*attend)(const AttendTask& task);
  // The same in two steps. The first gathers one span: a part for each query; the second joins
  // those of `count` spans, in their order, part q of span s at parts + (s * queries + q) *
  // part_floats(), and writes the task's output.
  void (*attend_span)(const AttendTask& task, int64_t span, float* parts);
  void (*attend_join)(const AttendTask& task, const float* parts, int64_t count);

  // Reads four parts of `quarter_bytes` (a multiple of 256) side by side; for the probe.
  uint64_t (*read_streams)(const uint8_t* bytes, int64_t quarter_bytes);
  // The strongest products of the table from registers alone; for the probe. Each round makes
  // `peak_multiply_adds`, of numbers of the named kind ("int8").
  uint64_t (*peak)(int64_t rounds);
  int64_t peak_multiply_adds;
  const char* peak_numbers;
};

// Whether so many rows of input, all that a product may get at once, are quantised apart.
static inline bool takes_apart(const KernelTable& kernels, int64_t rows) {
  return rows <= kernels.apart_rows;
}
static inline void quantise_rows(const KernelTable& kernels, bool apart, const float* in,
                                 int64_t count, int8_t* codes, BlockSums* blocks) {
  (apart ? kernels.quantise_apart : kernels.quantise)(in, count, codes, blocks);
}

// The table of an instruction set; null where Shoal has no kernels for it.
const KernelTable* kernels_for(Isa isa);

const KernelTable* reference_kernels();
const KernelTable* avx2_kernels();    // to be run only where machine_has(Isa::kAvx2)
const KernelTable* avx512_kernels();  // likewise
const KernelTable* amx_kernels();     // likewise
const KernelTable* neon_kernels();

// --- shared by tables ---

// Packs and reads 16 rows interleaved (docs/formats/weight-layouts.md).
inline constexpr int kGroupRows = 16;
int64_t interleaved_unit_bytes(ElementType type, const ColumnPiece* pieces, int64_t piece_count);
void interleaved_pack(ElementType type, const uint8_t* const* rows, const ColumnPiece* pieces,
                      int64_t piece_count, uint8_t* out);
void interleaved_unpack_row(const MatrixView& matrix, int64_t row, float* out);

// dims/2 pairs of one head; cosines and sines per pair. The same for every instruction set.
void rotate_head(float* head, int dimensions, bool interleaved, const float* cosines,
                 const float* sines);

}  // namespace shoal::kernels
