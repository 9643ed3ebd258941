// A product and the bias behind it, as layers and experts have them. Pure in its arguments; any
// thread. Not for files of an instruction set.
#pragma once

#include <algorithm>

#include "kernels/kernel_table.h"

namespace shoal::kernels {

// Units [begin, end) of `weight` times `count` rows of input, into rows of `out` that lie `stride`
// apart. `bias` has a number for each row of the matrix, or is null.
inline void biased_product(const KernelTable& kernels, const MatrixView& weight, const float* bias,
                           const InputRows& input, int64_t count, int64_t begin, int64_t end,
                           uint8_t* scratch, float* out, int64_t stride) {
  kernels.product(weight.type)(weight, input, count, begin, end, scratch, out, stride);
  if (bias == nullptr) return;
  const int64_t last = std::min(end * kernels.row_unit, weight.rows);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = begin * kernels.row_unit; c < last; ++c) out[r * stride + c] += bias[c];
  }
}

}  // namespace shoal::kernels
