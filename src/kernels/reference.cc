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

double element(const AttendTask& task, const uint8_t* base, int64_t position, int i) {
  const uint8_t* page = base + task.pages[position / kPageTokens] * task.page_stride_bytes;
  const int64_t offset = position % kPageTokens;
  const int64_t index = offset * task.head_dimension + i;
  switch (task.type) {
    case KvType::kF32:
      break;
    case KvType::kF16:
      return static_cast<double>(load_half(page + 2 * index));
    case KvType::kQ8_0: {
      const int64_t block = offset * kv_scales_count(task.head_dimension) + i / kKvBlock;
      const uint8_t* scale = page + kv_scales_offset(task.head_dimension) + 2 * block;
      return static_cast<double>(load_half(scale)) * static_cast<int8_t>(page[index]);
    }
  }
  float value;
  std::memcpy(&value, page + 4 * index, sizeof value);
  return static_cast<double>(value);
}

double score(const AttendTask& task, const float* q, int64_t position) {
  double sum = 0;
  for (int i = 0; i < task.head_dimension; ++i) {
    sum += static_cast<double>(q[i]) * element(task, task.k, position, i);
  }
  sum *= static_cast<double>(task.scale);
  const auto cap = static_cast<double>(task.soft_cap);
  return cap > 0 ? cap * std::tanh(sum / cap) : sum;
}

void attend(const AttendTask& task) {
  auto* sums = static_cast<double*>(task.scratch);
  for (int head = 0; head < task.heads; ++head) {
    const float* q = task.q + head * task.head_dimension;
    const double sink = task.sinks != nullptr ? static_cast<double>(task.sinks[head]) : -INFINITY;
    double largest = sink;
    for (int64_t p = task.first_position; p <= task.last_position; ++p) {
      largest = std::max(largest, score(task, q, p));
    }
    double total = task.sinks != nullptr ? std::exp(sink - largest) : 0;
    std::fill_n(sums, task.value_dimension, 0.0);
    for (int64_t p = task.first_position; p <= task.last_position; ++p) {
      const double weight = std::exp(score(task, q, p) - largest);
      total += weight;
      for (int i = 0; i < task.value_dimension; ++i)
        sums[i] += weight * element(task, task.v, p, i);
    }
    float* out = task.out + head * task.value_dimension;
    for (int i = 0; i < task.value_dimension; ++i) out[i] = static_cast<float>(sums[i] / total);
  }
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
      .read_streams = read_streams,
      .peak = peak,
      .peak_multiply_adds = kPeakChains,
      .peak_numbers = "float64",
  };
  return &table;
}

}  // namespace shoal::kernels
