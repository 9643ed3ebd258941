#include "kernels/attend_plan.h"

#include <algorithm>

#include "kernels/program_check.h"

namespace shoal::kernels {
namespace {

// So that threads that finish early find something left to do.
constexpr int64_t kUnitsPerThread = 4;
// Fewer heads than that are kept together: what a page costs to read is shared by them.
constexpr int64_t kFewHeads = 8;
// Parts beyond that are not worth their memory.
constexpr int64_t kMostPartFloats = 16 << 20;

int64_t heads_from(std::span<const int> query_to_kv, size_t head) {
  size_t end = head + 1;
  while (end < query_to_kv.size() && query_to_kv[end] == query_to_kv[head]) ++end;
  return static_cast<int64_t>(end - head);
}

// job(first, count) for neighbours that share a KV head, at most `most` at a time.
template <typename Job>
void for_each_group(std::span<const int> query_to_kv, int64_t most, const Job& job) {
  for (size_t head = 0; head < query_to_kv.size();) {
    const int64_t count = std::min(most, heads_from(query_to_kv, head));
    job(static_cast<int64_t>(head), count);
    head += static_cast<size_t>(count);
  }
}

struct Groups {
  int64_t count = 0, most_heads = 0;
};
Groups groups_of(std::span<const int> query_to_kv, int64_t most) {
  Groups groups;
  for_each_group(query_to_kv, most, [&](int64_t, int64_t heads) {
    ++groups.count;
    groups.most_heads = std::max(groups.most_heads, heads);
  });
  return groups;
}

// How many rows from `row` on are of one sequence, at positions that follow one another.
int64_t run_from(const StepBatch& batch, size_t row) {
  size_t end = row + 1;
  while (end < batch.positions.size() && batch.sequences[end] == batch.sequences[row] &&
         batch.positions[end] == batch.positions[end - 1] + 1) {
    ++end;
  }
  return static_cast<int64_t>(end - row);
}

}  // namespace

int64_t AttendPlan::most_part_floats(const CacheGroupSpec& group, std::span<const int> query_to_kv,
                                     int64_t rows, int64_t positions, int threads) {
  if (threads == 1) return 0;
  const Groups groups = groups_of(query_to_kv, kFewHeads);
  const int64_t blocks = std::min(rows * groups.count, kUnitsPerThread * threads);
  const int64_t reach =
      group.window > 0 ? std::min(positions, group.window + kSpanTokens) : positions;
  const int64_t spans = reach / kSpanTokens + 1;
  return std::min(blocks * spans * groups.most_heads * part_floats(group.value_dimension()),
                  kMostPartFloats);
}

void AttendPlan::make(const CacheGroupSpec& group, std::span<const int> query_to_kv,
                      const StepBatch& batch, int threads, int64_t part_floats_held) {
  blocks_.clear();
  units_.clear();
  has_parts_ = false;
  const auto count = static_cast<int64_t>(batch.positions.size());
  const int64_t wanted = threads == 1 ? 1 : kUnitsPerThread * threads;
  Groups groups = groups_of(query_to_kv, kTaskQueries);
  if (count * groups.count < wanted) groups = groups_of(query_to_kv, kFewHeads);
  const int64_t most_rows =
      std::clamp<int64_t>(count * groups.count / wanted, 1, kTaskQueries / groups.most_heads);
  const bool few = count * groups.count < wanted;
  int64_t parts = 0;
  for (int64_t row = 0; row < count;) {
    const auto first = static_cast<size_t>(row);
    const int64_t position = batch.positions[first];
    int64_t rows = std::min(run_from(batch, first), most_rows);
    if (group.chunked) rows = std::min(rows, group.window - position % group.window);
    const int64_t first_span = first_attended(group, position) / kSpanTokens;
    const int64_t spans = (position + rows - 1) / kSpanTokens + 1 - first_span;
    for_each_group(query_to_kv, groups.most_heads, [&](int64_t head, int64_t heads) {
      AttendBlock block{.row = row,
                        .rows = static_cast<int>(rows),
                        .head = head,
                        .heads = static_cast<int>(heads),
                        .first_span = first_span,
                        .span_count = spans,
                        .part = -1};
      const int64_t floats = spans * rows * heads * part_floats(group.value_dimension());
      const auto index = static_cast<int64_t>(blocks_.size());
      if (few && spans > 1 && parts + floats <= part_floats_held) {
        block.part = parts;
        parts += floats;
        for (int64_t span = 0; span < spans; ++span) units_.push_back({index, span});
        has_parts_ = true;
      } else {
        units_.push_back({index, -1});
      }
      blocks_.push_back(block);
    });
    row += rows;
  }
}

}  // namespace shoal::kernels
