// Which columns of a tensor a rank keeps, as pieces that kernels can walk. Pure; any thread.
#pragma once

#include <vector>

#include "base/result.h"
#include "kernels/kernel_table.h"
#include "tensor/cut.h"

namespace shoal::kernels {

// Splits `ranges` (empty: all) of a tensor's `columns` at every multiple of 256 columns of the
// source. kInvalidArgument for a range that is empty, out of bounds, or, for quantised types, not
// on multiples of 32.
Result<std::vector<ColumnPiece>> plan_columns(ElementType type, int64_t columns,
                                              const std::vector<Range>& ranges);

// The source row of each kept row, in order, checked likewise. `rows` is the tensor's.
Result<std::vector<Range>> plan_rows(int64_t rows, const std::vector<Range>& ranges);

}  // namespace shoal::kernels
