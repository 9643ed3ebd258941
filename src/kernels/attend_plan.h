// How the attention of a step is cut into units for threads. Bits do not depend on it: a row's
// arithmetic follows its position alone (kernel_table.h). Owned by the backend's thread.
#pragma once

#include <span>
#include <vector>

#include "kernels/kernel_table.h"
#include "tensor/backend.h"

namespace shoal::kernels {

// Rows of one sequence, at positions that follow one another, in one chunk where the window is one,
// and heads that share a KV head.
struct AttendBlock {
  int64_t row;
  int rows;
  int64_t head;
  int heads;
  int64_t first_span;
  int64_t span_count;
  int64_t part;  // where its parts begin, among all; -1: one unit gathers all of its spans
};
struct AttendUnit {
  int64_t block;
  int64_t span;  // of the block; -1: all
};

class AttendPlan {
 public:
  // Most floats of parts that a plan of so many threads uses, for rows that attend to up to
  // `positions`.
  static int64_t most_part_floats(const CacheGroupSpec& group, std::span<const int> query_to_kv,
                                  int64_t rows, int64_t positions, int threads);

  // Blocks as large as leave every thread several units; where even single rows are too few, their
  // spans are units of their own, as far as `part_floats` holds their parts.
  void make(const CacheGroupSpec& group, std::span<const int> query_to_kv, const StepBatch& batch,
            int threads, int64_t part_floats);

  std::span<const AttendBlock> blocks() const { return blocks_; }
  std::span<const AttendUnit> units() const { return units_; }
  bool has_parts() const { return has_parts_; }

 private:
  std::vector<AttendBlock> blocks_;
  std::vector<AttendUnit> units_;
  bool has_parts_ = false;
};

}  // namespace shoal::kernels
