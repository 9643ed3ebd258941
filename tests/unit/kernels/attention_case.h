// One attention over a random cache, what it must be in double, and the tasks that compute it. For
// the kernels' tests.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/kv_storage.h"
#include "random_weights.h"

namespace shoal::kernels_test {

struct AttentionCase {
  int head_dimension;
  int heads;
  int64_t position;  // of the first row
  KvType type;
  int rows = 1;
  int64_t window = 0;
  int value_dimension = 0;  // 0: that of the head
  float soft_cap = 0;
  bool sinks = false;
  bool value_in_key = false;
  int64_t start = 0;  // without a window: where the rows' chunk begins
  // Largest magnitudes of what is drawn.
  float query_size = 3, key_size = 3, value_size = 1;
  int shift = 0;  // of queries and output, in floats from where memory begins
  uint64_t seed = 0;

  int width() const { return value_dimension > 0 ? value_dimension : head_dimension; }
  int64_t positions() const { return position + rows; }
  int64_t first_of(int64_t row) const {
    return window > 0 ? std::max<int64_t>(0, position + row + 1 - window) : start;
  }
  float sink(int head) const { return 0.7f - 0.4f * static_cast<float>(head); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_dimension)); }
};

// A cache of one layer and KV head of random keys and values. Pages lie in another order than in
// the sequence, with a page of NaN between them; so are positions that no row attends to.
class Cache {
 public:
  Cache(const kernels::KernelTable& table, const AttentionCase& c);
  void store(const kernels::KernelTable& table, int64_t position, bool value,
             const std::vector<float>& row);
  // An element as it is kept, found by the layout's definition.
  double at(int64_t position, bool value, int64_t element) const;
  const kernels::KvStorage& storage() const { return storage_; }
  const int32_t* pages() const { return pages_.data(); }

 private:
  AttentionCase of_;
  std::vector<int32_t> pages_;
  kernels::KvStorage storage_;
};

std::vector<float> random_queries(const AttentionCase& c);

// Rows and heads of a case in one task each time, with room around what it may write.
class Attending {
 public:
  Attending(const kernels::KernelTable& table, const AttentionCase& c, const Cache& cache,
            const std::vector<float>& q);
  // In tasks of so many rows and heads.
  std::vector<float> whole(int rows, int heads);
  // Span by span, the last first.
  std::vector<float> by_spans(int rows, int heads);

 private:
  kernels::AttendTask task(int first_row, int rows, int first_head, int heads);
  int64_t stride() const { return int64_t{of_.heads} * of_.width(); }
  template <typename Job>
  void for_tasks(int rows, int heads, const Job& job);
  std::vector<float> take();

  const kernels::KernelTable& table_;
  const AttentionCase& of_;
  const Cache& cache_;
  std::vector<float> q_, sinks_, out_;
  kernels::MemoryRegion scratch_;
};

// Against double precision, and row by row, head by head and span by span for the same bits.
// Returns the outputs.
std::vector<float> check_attention(const kernels::KernelTable& table, const AttentionCase& c);

}  // namespace shoal::kernels_test
