#include "engine/warm_up.h"

#include <algorithm>
#include <numeric>

#include "base/clock.h"

namespace shoal {
namespace {

// Enough that arithmetic shows beside reading the weights; of a large model a few seconds, which is
// little beside loading it.
constexpr int64_t kRows = 32;

}  // namespace

Result<StepTime> warm_up(const Program& program, Backend& backend, const BackendLimits& limits,
                         std::span<const KvGroup> groups) {
  const int64_t page_tokens = backend.page_tokens();
  int64_t count = std::min({kRows, limits.rows, limits.positions, program.vocabulary_size});
  for (const KvGroup& group : groups) count = std::min(count, group.page_count * page_tokens);

  const auto rows = static_cast<size_t>(count);
  std::vector<int32_t> counted(rows);
  std::iota(counted.begin(), counted.end(), 0);
  const std::vector<Role> roles(rows, Role::kPrompt);
  const std::vector<int32_t> sequences(rows, 0);
  std::vector<PageId> pages(static_cast<size_t>((count + page_tokens - 1) / page_tokens));
  std::iota(pages.begin(), pages.end(), 0);
  StepBatch batch{.tokens = counted,
                  .positions = counted,
                  .roles = roles,
                  .sequences = sequences,
                  .wanted = std::span(counted).last(1),
                  .page_tables = {}};
  batch.page_tables.assign(groups.size(), {pages});
  if (program.received) std::ranges::fill(backend.rows(*program.received, 0, count), 0.0f);

  const auto start = Clock::now();
  for (size_t segment = 0; segment < program.segments.size(); ++segment)
    SHOAL_TRY(backend.run(segment, batch));
  return StepTime{rows, seconds_since(start)};
}

}  // namespace shoal
