// Which nodes could run a model in which order: the candidates among which plans are chosen. What
// is tried depends on nodes and their speed, and only in clusters of more than 5 on links. Pure;
// any thread.
#pragma once

#include <string>
#include <vector>

#include "placement/cost.h"
#include "placement/fit.h"
#include "placement/placement.h"

namespace shoal::placement {

inline constexpr size_t kMostPlannedRanks = 8;

// Stages in their order, the ranks of each in theirs.
struct Arrangement {
  std::vector<StageNodes> stages;

  size_t size() const;
  PlanMode mode() const;
  StageNodes nodes() const;  // in the order of ranks
  bool operator==(const Arrangement&) const = default;
};

std::string name_of(const NodeFacts& node);
std::string names_of(const Arrangement& arrangement);  // "a", "a + b", "a > b", "a + b > c"

// All worth trying: every node alone first.
std::vector<Arrangement> arrangements(const Topology& topology, const ModelCard& card);

// The measured link between two nodes; nullptr: none.
const LinkFacts* link_between(const Topology& topology, const NodeFacts& a, const NodeFacts& b);

// Stages with their links, for predict(); the cuts are those of a fit of the arrangement.
// kUnreachable names a link that has not been measured.
Result<std::vector<Stage>> linked_stages(const Topology& topology, const Arrangement& arrangement);
void cut_stages(std::vector<Stage>& stages, const ModelCard& card, const Fit& fit);

}  // namespace shoal::placement
