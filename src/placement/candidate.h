// A plan under consideration, and what is said of it. Pure; any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "placement/arrangement.h"
#include "placement/cost.h"
#include "placement/fit.h"
#include "placement/placement.h"

namespace shoal::placement {

struct Candidate {
  Arrangement arrangement;
  Considered considered;
  Prediction prediction;
  Prediction with_f32;                           // where the payload is another by choice
  LayerBalance balance = LayerBalance::kTokens;  // of stages
  bool balance_chosen = false;                   // there was another division of the layers
  double cost_s =
      0;  // its answer, with what more nodes and a payload's rounding are deemed to cost
  std::optional<Fit> failed;  // what it would have needed
};

// Sooner, or as soon on fewer nodes.
bool better(const Candidate& a, const Candidate& b);

// The candidates that the wish allows; the rest are shown, but never chosen.
bool wanted(const Wish& wish, const Candidate& candidate);

uint64_t lacking_bytes(const Candidate& candidate);  // over all its nodes
std::string lack_of(const Candidate& candidate);     // "needs 3 GB on a, which has 2 GB"

std::string reason_chosen(const Candidate& best, std::span<const Candidate> all,
                          const Topology& topology, const Wish& wish);
std::string reason_left(const Candidate& candidate, const Candidate& best, const Wish& wish);

}  // namespace shoal::placement
