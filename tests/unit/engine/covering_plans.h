// Which plans agreement is tested on: a covering set instead of every combination. Pure.
#pragma once

#include <string>
#include <vector>

#include "models/model.h"
#include "ranks.h"

namespace shoal {

enum class PlanKind { kTensor, kUnevenTensor, kPipeline, kHybrid };
inline constexpr int kMostPlannedRanks = 6;

struct PlanShape {
  PlanKind kind;
  int ranks;  // 1 to kMostPlannedRanks; a hybrid has 3 at least
};
std::string plan_name(const PlanShape& plan);  // "tensor 3", "hybrid 2+1"
// Of each stage's ranks.
std::vector<std::vector<double>> shares_of(const PlanShape& plan);
// Every shape of several ranks that a model of so many layers and heads can be cut into.
std::vector<PlanShape> possible_plans(const ModelCard& card);

struct PlanCase {
  PlanShape plan;
  Payload payload;
  bool best_isa;  // or the reference
};

// A few of each model's possible cases, so that every pair of two of {model, kind, number of ranks,
// payload, instructions} that is possible is in at least one. The same for the same models.
std::vector<std::vector<PlanCase>> covering_cases(
    const std::vector<std::vector<PlanCase>>& possible);

}  // namespace shoal
