#include "engine/engine.h"

#include <algorithm>

#include "base/units.h"
#include "engine/agreement.h"
#include "engine/load.h"
#include "engine/shard_engine.h"
#include "engine/stages.h"
#include "engine/warm_up.h"

namespace shoal {

namespace {

Result<EngineOptions> checked(EngineOptions options, const ModelDescription& description) {
  if (options.max_positions == 0) options.max_positions = description.context_length;
  constexpr int64_t kMost = INT32_MAX;
  if (options.max_positions < 1 || options.max_positions > kMost) {
    return fail(ErrorCode::kInvalidArgument, "a context of {} tokens; it must be from 1 to {}",
                options.max_positions, kMost);
  }
  if (options.kv_pages < 1 || options.kv_pages > kMost) {
    return fail(ErrorCode::kInvalidArgument, "a KV cache of {} pages; it must be from 1 to {}",
                options.kv_pages, kMost);
  }
  if (options.sequences < 1 || options.sequences > 1 << 20) {
    return fail(ErrorCode::kInvalidArgument, "{} sequences at once; it must be at least 1",
                options.sequences);
  }
  if (options.least_part_rows < 1) {
    return fail(ErrorCode::kInvalidArgument, "steps in parts of {} rows; at least 1",
                options.least_part_rows);
  }
  if (options.max_rows < 1 || options.max_rows > kMost || options.max_wanted_rows < 1 ||
      options.max_wanted_rows > options.max_rows) {
    return fail(ErrorCode::kInvalidArgument,
                "steps of {} rows of which {} return something; both must be at least 1, and the "
                "second not above the first",
                options.max_rows, options.max_wanted_rows);
  }
  return options;
}

// Ready to compute; what a step took, where others will wait for this rank's.
Result<StepTime> prepare_and_load(const gguf::File& file, const Program& program, Backend& backend,
                                  const EngineOptions& options, std::span<const KvGroup> groups,
                                  bool alone,
                                  const std::function<void(uint64_t, uint64_t)>& progress) {
  const BackendLimits limits{options.max_rows, options.max_wanted_rows, options.max_positions};
  SHOAL_TRY(backend.prepare(program, limits));
  SHOAL_TRY(load_weights(file, program, backend, progress));
  std::vector<int64_t> pages;
  for (const KvGroup& group : groups) pages.push_back(group.page_count);
  SHOAL_TRY(backend.allocate_kv(options.kv_type, pages));
  if (alone) return StepTime{};
  return warm_up(program, backend, limits, groups);
}

std::vector<KvGroup> groups_of(const Program& program, const EngineOptions& options,
                               int page_tokens) {
  std::vector<KvGroup> groups;
  for (const CacheGroupSpec& spec : program.cache_groups) {
    KvGroup& group = groups.emplace_back(KvGroup{options.kv_pages});
    if (spec.window == 0) continue;
    group.ring_pages = ring_pages(spec.window, options.max_rows, page_tokens);
    group.page_count = std::min(group.page_count, options.sequences * group.ring_pages);
  }
  return groups;
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(
    const gguf::File& file, const ModelDescription& description, const RankCut& cut,
    Backend& backend, Group group, const EngineOptions& wanted_options,
    const std::function<void(uint64_t, uint64_t)>& progress) {
  SHOAL_ASSIGN(const EngineOptions options, checked(wanted_options, description));
  SHOAL_ASSIGN(const std::vector<RankCut> cuts,
               agree(group, file, cut, options, backend.page_tokens()));
  SHOAL_ASSIGN(const std::vector<Stage> stages, stages_of(cuts, description));
  auto program = build_program(description, cut, options.max_positions);
  Result<StepTime> tried = StepTime{};
  std::vector<KvGroup> groups;
  if (program) {
    groups = groups_of(*program, options, backend.page_tokens());
    tried = prepare_and_load(file, *program, backend, options, groups, group.size() == 1, progress);
  } else {
    tried = std::unexpected(program.error());
  }
  const Status loaded = tried ? Status{} : std::unexpected(tried.error());
  SHOAL_TRY(agree_loaded(group, loaded, Clock::now() + options.forming_timeout));

  StepLimits limits{.rows = options.max_rows,
                    .wanted_rows = options.max_wanted_rows,
                    .positions = options.max_positions,
                    .vocabulary = description.vocabulary_size,
                    .page_tokens = backend.page_tokens(),
                    .groups = std::move(groups)};
  const size_t mine = stage_of(stages, group.rank());
  group.reduce_among(stages[mine].first_rank, stages[mine].rank_count);
  group.set_payload(options.payload);
  const Stage& last = stages.back();
  std::vector<Range> vocabularies;
  for (int rank = last.first_rank; rank <= last.last_rank(); ++rank)
    vocabularies.push_back(cuts[static_cast<size_t>(rank)][CutKind::kVocabulary]);
  ResultMerger merger(std::move(vocabularies), last.first_rank,
                      stages.size() > 1 ? description.hidden : 0);
  return std::make_unique<ShardEngine>(std::move(*program), backend, std::move(group), options,
                                       std::move(limits), stages, std::move(merger), *tried);
}

}  // namespace shoal
