// The reference kernels: weights in file form, dequantised block by block, floats multiplied and
// summed in double, in the order of the columns. Slow, and what the others are tested against.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/file_blocks.h"
#include "kernels/kernel_table.h"
#include "kernels/small_floats.h"

namespace shoal::kernels {
namespace {

// Whole blocks of the source that a piece touches.
struct PieceBlocks {
  int64_t offset;      // of the first block, in a row of the file
  int64_t byte_count;  // of all
  int64_t skip;        // elements before the piece in the first block
};

PieceBlocks blocks_of(ElementType type, const ColumnPiece& piece) {
  const ElementTraits& traits = element_traits(type);
  const int64_t elements = traits.block_elements;
  const int64_t first = piece.source_column / elements;
  const int64_t end = (piece.source_column + piece.count + elements - 1) / elements;
  return {first * traits.block_bytes, (end - first) * traits.block_bytes,
          piece.source_column - first * elements};
}

int64_t unit_bytes(ElementType type, const ColumnPiece* pieces, int64_t piece_count) {
  int64_t sum = 0;
  for (int64_t i = 0; i < piece_count; ++i) sum += blocks_of(type, pieces[i]).byte_count;
  return sum;
}

void pack(ElementType type, const uint8_t* const* rows, const ColumnPiece* pieces,
          int64_t piece_count, uint8_t* out) {
  for (int64_t i = 0; i < piece_count; ++i) {
    const PieceBlocks blocks = blocks_of(type, pieces[i]);
    std::memcpy(out, rows[0] + blocks.offset, static_cast<size_t>(blocks.byte_count));
    out += blocks.byte_count;
  }
}

void unpack_row(const MatrixView& matrix, int64_t row, float* out) {
  const uint8_t* bytes = matrix.bytes + row * matrix.unit_bytes;
  for (int64_t i = 0; i < matrix.piece_count; ++i) {
    const ColumnPiece& piece = matrix.pieces[i];
    const PieceBlocks blocks = blocks_of(matrix.type, piece);
    dequantise(matrix.type, bytes, blocks.skip, piece.count, out + piece.first);
    bytes += blocks.byte_count;
  }
}

void product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
             int64_t unit_begin, int64_t unit_end, void*, float* out, int64_t out_stride) {
  constexpr int64_t kRowBlock = 32;
  for (int64_t row = unit_begin; row < unit_end; ++row) {
    for (int64_t first = 0; first < input_rows; first += kRowBlock) {
      const int64_t count = std::min(kRowBlock, input_rows - first);
      double sums[kRowBlock] = {};
      const uint8_t* bytes = matrix.bytes + row * matrix.unit_bytes;
      for (int64_t i = 0; i < matrix.piece_count; ++i) {
        const ColumnPiece& piece = matrix.pieces[i];
        const PieceBlocks blocks = blocks_of(matrix.type, piece);
        float weights[kPieceColumns];
        dequantise(matrix.type, bytes, blocks.skip, piece.count, weights);
        bytes += blocks.byte_count;
        for (int64_t r = 0; r < count; ++r) {
          const float* x = input.values + (first + r) * input.value_stride + piece.first;
          for (int64_t c = 0; c < piece.count; ++c) {
            sums[r] += static_cast<double>(weights[c]) * static_cast<double>(x[c]);
          }
        }
      }
      for (int64_t r = 0; r < count; ++r) {
        out[(first + r) * out_stride + row] = static_cast<float>(sums[r]);
      }
    }
  }
}

void rms_norm(const float* in, const float* weight, int64_t width, float epsilon, float* out) {
  double sum = 0;
  for (int64_t i = 0; i < width; ++i)
    sum += static_cast<double>(in[i]) * static_cast<double>(in[i]);
  const double scale =
      1 / std::sqrt(sum / static_cast<double>(width) + static_cast<double>(epsilon));
  for (int64_t i = 0; i < width; ++i) {
    out[i] =
        static_cast<float>(static_cast<double>(in[i]) * scale * static_cast<double>(weight[i]));
  }
}

// Hendrycks & Gimpel, "Gaussian error linear units", 2016, in the form with tanh.
double gelu(double x) {
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  return 0.5 * x * (1 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
}
double silu(double x) {
  return x / (1 + std::exp(-x));
}

void gate(GateKind kind, const float* gate, const float* up, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const double x = static_cast<double>(gate[i]);
    const auto above = static_cast<double>(up[i]);
    constexpr auto kCap = static_cast<double>(kGateCap);
    if (kind == GateKind::kCappedSilu) {
      const double capped = std::min(x, kCap);
      out[i] =
          static_cast<float>(capped / (1 + std::exp(-static_cast<double>(kGateSlope) * capped)) *
                             (std::clamp(above, -kCap, kCap) + 1));
    } else {
      out[i] = static_cast<float>((kind == GateKind::kSilu ? silu(x) : gelu(x)) * above);
    }
  }
}

void store_f16(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = float_to_half(in[i]);
}

void store_q8(const float* in, int64_t count, int8_t* codes, uint16_t* scales) {
  for (int64_t first = 0; first < count; first += kKvBlock) {
    const int64_t end = std::min(first + kKvBlock, count);
    uint32_t top = 0;  // the largest magnitude by its bits, which order NaN above all
    for (int64_t i = first; i < end; ++i) {
      top = std::max(top, std::bit_cast<uint32_t>(in[i]) & 0x7fffffffu);
    }
    const float wanted = std::bit_cast<float>(top) / 127;
    uint16_t scale = float_to_half(wanted);
    if (half_to_float(scale) < wanted) ++scale;
    const float step = half_to_float(scale);
    const float inverse = step > 0 ? 1 / step : 0;
    for (int64_t i = first; i < end; ++i) {
      const float code = in[i] * inverse;
      codes[i] = std::fabs(code) < 127.5f ? static_cast<int8_t>(std::lrint(code)) : int8_t{0};
    }
    scales[first / kKvBlock] = scale;
  }
}

// Element i of a key or a value of a page.
double element(const AttendTask& task, const uint8_t* page, int64_t offset, int i, bool of_key) {
  const int64_t index = of_key ? key_index(offset, i) : offset * task.head_dimension + i;
  switch (task.type) {
    case KvType::kF32:
      break;
    case KvType::kF16:
      return static_cast<double>(load_half(page + 2 * index));
    case KvType::kQ8_0: {
      const uint8_t* scales = page + kv_scales_offset(task.head_dimension);
      return static_cast<double>(load_half(scales + 2 * kv_scale_index(offset, i))) *
             static_cast<int8_t>(page[index]);
    }
  }
  float value;
  std::memcpy(&value, page + 4 * index, sizeof value);
  return static_cast<double>(value);
}

const uint8_t* page_of(const AttendTask& task, const uint8_t* base, int64_t position) {
  return base + task.pages[position / kPageTokens] * task.page_stride_bytes;
}

double score(const AttendTask& task, const float* q, int64_t position) {
  const uint8_t* page = page_of(task, task.k, position);
  double sum = 0;
  for (int i = 0; i < task.head_dimension; ++i)
    sum += static_cast<double>(q[i]) * element(task, page, position % kPageTokens, i, true);
  sum *= static_cast<double>(task.scale);
  const auto cap = static_cast<double>(task.soft_cap);
  return cap > 0 ? cap * std::tanh(sum / cap) : sum;
}

// What query `q` gathers of positions [first, first + count), at most a span.
void gather(const AttendTask& task, const float* q, int64_t first, int count, float* part) {
  double weights[kSpanTokens], largest = -INFINITY, total = 0;
  for (int t = 0; t < count; ++t) {
    weights[t] = score(task, q, first + t);
    largest = std::max(largest, weights[t]);
  }
  part[0] = static_cast<float>(largest);
  for (int t = 0; t < count; ++t) {
    weights[t] = std::exp(weights[t] - static_cast<double>(part[0]));
    total += weights[t];
  }
  part[1] = static_cast<float>(total);
  const bool in_key = task.v == nullptr;
  for (int i = 0; i < task.value_dimension; ++i) {
    double sum = 0;
    for (int t = 0; t < count; ++t) {
      const uint8_t* page = page_of(task, in_key ? task.k : task.v, first + t);
      sum += weights[t] * element(task, page, (first + t) % kPageTokens, i, in_key);
    }
    part[kPartHead + i] = static_cast<float>(sum);
  }
}

void attend_span(const AttendTask& task, int64_t span, float* parts) {
  for (int64_t row = 0; row < task.rows; ++row) {
    const SpanRange range = span_range(task, row, span * kSpanTokens);
    for (int head = 0; head < task.heads; ++head, parts += part_floats(task.value_dimension)) {
      gather(task, task.q + row * task.q_stride + int64_t{head} * task.head_dimension,
             span * kSpanTokens + range.begin, range.end - range.begin, parts);
    }
  }
}

// Adds a part to sums, both relative to the larger of their scores.
void add_part(const AttendTask& task, const float* part, float* sums) {
  if (part[1] == 0) return;
  const float top = std::max(part[0], sums[0]);
  const double old_share = std::exp(static_cast<double>(sums[0]) - static_cast<double>(top));
  const double share = std::exp(static_cast<double>(part[0]) - static_cast<double>(top));
  const auto add = [&](int i) {
    sums[i] = static_cast<float>(static_cast<double>(sums[i]) * old_share +
                                 static_cast<double>(part[i]) * share);
  };
  add(1);
  for (int i = 0; i < task.value_dimension; ++i) add(kPartHead + i);
  sums[0] = top;
}

void begin_sums(const AttendTask& task, float* sums) {
  const int64_t stride = part_floats(task.value_dimension);
  std::fill_n(sums, stride * task.rows * task.heads, 0.0f);
  for (int64_t query = 0; query < int64_t{task.rows} * task.heads; ++query, sums += stride) {
    const bool sink = task.sinks != nullptr;
    sums[0] = sink ? task.sinks[query % task.heads] : -INFINITY;
    sums[1] = sink ? 1 : 0;
  }
}

void add_parts(const AttendTask& task, const float* parts, float* sums) {
  const int64_t stride = part_floats(task.value_dimension);
  for (int64_t query = 0; query < int64_t{task.rows} * task.heads; ++query)
    add_part(task, parts + query * stride, sums + query * stride);
}

void write_out(const AttendTask& task, const float* sums) {
  for (int64_t row = 0; row < task.rows; ++row) {
    float* out = task.out + row * task.out_stride;
    for (int head = 0; head < task.heads; ++head, sums += part_floats(task.value_dimension)) {
      for (int i = 0; i < task.value_dimension; ++i) *out++ = sums[kPartHead + i] / sums[1];
    }
  }
}

void attend_join(const AttendTask& task, const float* parts, int64_t count) {
  begin_sums(task, task.scratch);
  for (int64_t span = 0; span < count; ++span) {
    add_parts(task, parts, task.scratch);
    parts += part_floats(task.value_dimension) * task.rows * task.heads;
  }
  write_out(task, task.scratch);
}

void attend(const AttendTask& task) {
  float* parts = task.scratch;
  float* sums = parts + part_floats(task.value_dimension) * kTaskQueries;
  begin_sums(task, sums);
  for (int64_t span = first_span(task); span <= last_span(task); ++span) {
    attend_span(task, span, parts);
    add_parts(task, parts, sums);
  }
  write_out(task, sums);
}

uint64_t read_streams(const uint8_t* bytes, int64_t quarter_bytes) {
  uint64_t sum = 0;
  for (int64_t offset = 0; offset < quarter_bytes; offset += 64) {
    for (int stream = 0; stream < 4; ++stream) {
      const uint8_t* line = bytes + stream * quarter_bytes + offset;
      __builtin_prefetch(line + 1024);
      uint64_t words[8];
      std::memcpy(words, line, sizeof words);
      for (const uint64_t word : words) sum += word;
    }
  }
  return sum;
}

constexpr int64_t kPeakChains = 8;

uint64_t peak(int64_t rounds) {
  volatile double factor = 0.999999;  // the compiler must not know the result
  const double a = factor;
  double sums[kPeakChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    for (double& sum : sums) sum = sum * a + 1;
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return static_cast<uint64_t>(total);
}

bool takes_codes(ElementType) {
  return false;
}

Product product_for(ElementType type) {
  return element_traits(type).supported ? product : nullptr;
}

}  // namespace

const KernelTable* reference_kernels() {
  static constexpr KernelTable table = {
      .isa = Isa::kReference,
      .row_unit = 1,
      .takes_codes = takes_codes,
      .unit_bytes = unit_bytes,
      .pack = pack,
      .unpack_row = unpack_row,
      .product = product_for,
      .quantise = nullptr,
      .rms_norm = rms_norm,
      .gate = gate,
      .store_f16 = store_f16,
      .store_q8 = store_q8,
      .attend = attend,
      .attend_span = attend_span,
      .attend_join = attend_join,
      .read_streams = read_streams,
      .peak = peak,
      .peak_multiply_adds = kPeakChains,
      .peak_numbers = "float64",
  };
  return &table;
}

}  // namespace shoal::kernels
