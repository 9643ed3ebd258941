#include "engine/stages.h"

#include "models/tensor_rules.h"

namespace shoal {

namespace {

std::unexpected<Error> misfit(size_t rank, std::string_view what, const Range& range,
                              int64_t next) {
  return fail(ErrorCode::kConflict,
              "rank {} was given {} {} to {}, but {} comes next; the plan's cuts do not fit", rank,
              what, range.begin, range.end, next);
}

// The ranks of a stage hold a kind of part once, in their order.
Status tiles(std::span<const RankCut> cuts, const Stage& stage, CutKind kind, int64_t all) {
  int64_t next = 0;
  for (int rank = stage.first_rank; rank <= stage.last_rank(); ++rank) {
    const Range& range = cuts[static_cast<size_t>(rank)][kind];
    if (all == 0 && range.size() == 0) continue;
    if (range.begin != next || range.end <= range.begin)
      return misfit(static_cast<size_t>(rank), cut_kind_words(kind), range, next);
    next = range.end;
  }
  if (next != all) {
    return fail(ErrorCode::kConflict, "ranks {} to {} hold {} of the model's {} {}",
                stage.first_rank, stage.last_rank(), next, all, cut_kind_words(kind));
  }
  return {};
}

}  // namespace

Result<std::vector<Stage>> stages_of(std::span<const RankCut> cuts,
                                     const ModelDescription& description) {
  const int64_t layers = description.layer_count;
  std::vector<Stage> stages;
  Range last;
  for (size_t rank = 0; rank < cuts.size(); ++rank) {
    const Range held = layers_of(cuts[rank], layers);
    if (rank > 0 && held == last) {
      ++stages.back().rank_count;
      continue;
    }
    if (held.begin != last.end || held.end <= held.begin)
      return misfit(rank, "layers", held, last.end);
    stages.push_back({static_cast<int>(rank), 1});
    last = held;
  }
  if (last.end != layers) {
    return fail(ErrorCode::kConflict, "the ranks hold {} of the model's {} layers", last.end,
                layers);
  }
  for (const Stage& stage : stages) {
    for (const CutKind kind : kCutKinds)
      SHOAL_TRY(tiles(cuts, stage, kind, cut_total(description, kind)));
  }
  return stages;
}

size_t stage_of(std::span<const Stage> stages, int rank) {
  size_t index = 0;
  while (rank > stages[index].last_rank()) ++index;
  return index;
}

}  // namespace shoal
