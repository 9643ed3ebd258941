// Checks a Program before anything runs it, so that kernels need not. Pure; any thread.
#pragma once

#include <vector>

#include "base/result.h"
#include "tensor/backend.h"
#include "tensor/program.h"

namespace shoal::kernels {

// The shape, once cut, that a program's operations ask of a weight. A number that they leave open
// is -1.
struct WeightShape {
  int64_t rows = -1;
  int64_t columns = -1;
};

// kInvalidArgument says which operation of which segment does not agree with what. On success, one
// shape per weight.
Result<std::vector<WeightShape>> check_program(const Program& program, const BackendLimits& limits);

// The first position that a row at `position` attends to.
inline int64_t first_attended(const CacheGroupSpec& spec, int64_t position) {
  return spec.first_attended(position);
}

// Checks that a batch is within its limits and its spans agree. Pages are checked where they are
// used.
Status check_batch(const Program& program, const BackendLimits& limits, const StepBatch& batch);
// Every page that rows of `group` will read or write is there and below `pages`.
Status check_pages(const CacheGroupSpec& spec, size_t group, int64_t pages, const StepBatch& batch);

}  // namespace shoal::kernels
