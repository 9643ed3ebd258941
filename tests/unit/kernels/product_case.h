// A product of random weights and inputs by one instruction set, and what it must be: sums in
// double with bounds that follow from the blocks. For the kernels' tests.
#pragma once

#include <vector>

#include "random_weights.h"
#include "tensor/backend.h"

namespace shoal::kernels_test {

inline constexpr double kHalfUlp = 0x1p-24;

// Rows of activations, quantised where the kernels ask for it. `shift` moves them by so many floats
// from where memory begins.
struct Inputs {
  Inputs(const kernels::KernelTable& table, ElementType type, const std::vector<float>& rows,
         int64_t columns, int64_t shift = 0, bool ever_apart = true);
  kernels::InputRows view() const;
  double value(int64_t row, int64_t column) const {
    return static_cast<double>(values[static_cast<size_t>(first + row * width + column)]);
  }
  // The most by which quantisation may move this activation: half a fine step of its block of 32,
  // and blocks under 1e-33 become zero.
  double rounding(int64_t row, int64_t column) const;

  int64_t first, width, stride, count;
  bool quantised, apart;
  std::vector<float> values;
  std::vector<int8_t> codes;
  std::vector<kernels::BlockSums> blocks;
};

// What a product computes in meanwhile.
void* scratch();

struct Case {
  ElementType type;
  int64_t rows, columns;  // of the tensor
  Cut cut;
  std::vector<float> inputs;  // rows of the kept columns
  Scales scales = Scales::kUsual;
  int64_t shift = 0;  // of inputs, output and the file's bytes, from where memory begins
};

std::vector<int64_t> kept_indices(const std::vector<Range>& ranges, int64_t all);
std::vector<float> random_inputs(int64_t rows, int64_t columns, uint64_t seed);

// Multiplies and compares. Returns the outputs, rows of the kept rows.
std::vector<float> check_product(Isa isa, const Case& c, uint64_t seed);

}  // namespace shoal::kernels_test
