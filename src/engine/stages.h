// Which ranks run which layers: the stages of a group, from the cuts that the ranks have compared.
// Pure; any thread.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "models/model.h"

namespace shoal {

// Ranks that follow one another and hold the same layers, each a part of every tensor.
struct Stage {
  int first_rank = 0;
  int rank_count = 0;
  int last_rank() const { return first_rank + rank_count - 1; }
  bool operator==(const Stage&) const = default;
};

// kConflict where the cuts do not cover every layer once and each stage the whole of its tensors.
Result<std::vector<Stage>> stages_of(std::span<const RankCut> cuts,
                                     const ModelDescription& description);
size_t stage_of(std::span<const Stage> stages, int rank);

// Member m of a stage gets what the stage before sends from this rank of it: all of a stage's ranks
// hold the same rows, so one of them is enough.
inline int sender_to(const Stage& before, int member) {
  return before.first_rank + member % before.rank_count;
}

}  // namespace shoal
