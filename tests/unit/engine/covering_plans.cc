#include "covering_plans.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

namespace shoal {
namespace {

// What a case pairs: each setting of each factor but the model has a number of its own.
std::array<int, 4> settings(const PlanCase& one) {
  return {static_cast<int>(one.plan.kind), 10 + one.plan.ranks, 20 + static_cast<int>(one.payload),
          30 + (one.best_isa ? 1 : 0)};
}

using Pair = std::pair<int, int>;

std::vector<Pair> pairs_of(const PlanCase& one) {
  std::vector<Pair> pairs;
  const auto values = settings(one);
  for (size_t a = 0; a < values.size(); ++a) {
    for (size_t b = a + 1; b < values.size(); ++b) pairs.emplace_back(values[a], values[b]);
  }
  return pairs;
}

// What a model has been tested with, and how often pairs have been, with any model.
struct Covered {
  std::set<int> of_model;
  std::map<Pair, int> pairs;

  int new_to_model(const PlanCase& one) const {
    return static_cast<int>(
        std::ranges::count_if(settings(one), [&](int value) { return !of_model.contains(value); }));
  }
  int new_pairs(const PlanCase& one) const {
    return static_cast<int>(std::ranges::count_if(
        pairs_of(one), [&](const Pair& pair) { return !pairs.contains(pair); }));
  }
  int times(const PlanCase& one) const {
    int sum = 0;
    for (const Pair& pair : pairs_of(one)) sum += pairs.contains(pair) ? pairs.at(pair) : 0;
    return sum;
  }
  void add(const PlanCase& one) {
    for (const int value : settings(one)) of_model.insert(value);
    for (const Pair& pair : pairs_of(one)) ++pairs[pair];
  }
};

}  // namespace

std::string plan_name(const PlanShape& plan) {
  if (plan.ranks == 1) return "one rank";  // of whatever kind
  switch (plan.kind) {
    case PlanKind::kTensor:
      return fmt::format("tensor {}", plan.ranks);
    case PlanKind::kUnevenTensor:
      return fmt::format("uneven tensor {}", plan.ranks);
    case PlanKind::kPipeline:
      return fmt::format("pipeline {}", plan.ranks);
    case PlanKind::kHybrid:
      break;
  }
  std::string name;
  for (const auto& stage : shares_of(plan))
    name += fmt::format("{}{}", name.empty() ? "hybrid " : "+", stage.size());
  return name;
}

std::vector<std::vector<double>> shares_of(const PlanShape& plan) {
  const auto ranks = static_cast<size_t>(plan.ranks);
  switch (plan.kind) {
    case PlanKind::kTensor:
      return {std::vector<double>(ranks, 1)};
    case PlanKind::kUnevenTensor: {
      std::vector<double> shares = {5, 1, 2, 1, 4, 3};
      shares.resize(ranks);
      return {shares};
    }
    case PlanKind::kPipeline:
      return std::vector<std::vector<double>>(ranks, {1});
    case PlanKind::kHybrid:
      break;
  }
  const std::array<std::vector<std::vector<double>>, 4> hybrids = {
      {{{1, 1}, {1}}, {{1}, {2, 1, 1}}, {{1, 1, 2}, {1, 1}}, {{1, 1, 1}, {1}, {3, 1}}}};
  return hybrids[ranks - 3];
}

std::vector<PlanShape> possible_plans(const ModelCard& card) {
  std::vector<PlanShape> plans;
  for (int ranks = 2; ranks <= kMostPlannedRanks; ++ranks) {
    for (const PlanKind kind :
         {PlanKind::kTensor, PlanKind::kUnevenTensor, PlanKind::kPipeline, PlanKind::kHybrid}) {
      if (kind == PlanKind::kHybrid && ranks < 3) continue;
      const auto stages = shares_of({kind, ranks});
      size_t widest = 0;
      for (const auto& stage : stages) widest = std::max(widest, stage.size());
      const bool cut_by_layers = stages.size() == 1 || card.layers_stand_alone;
      if (cut_by_layers && std::ssize(stages) <= card.layer_count &&
          static_cast<int64_t>(widest) <= most_ranks(card)) {
        plans.push_back({kind, ranks});
      }
    }
  }
  return plans;
}

std::vector<std::vector<PlanCase>> covering_cases(
    const std::vector<std::vector<PlanCase>>& possible) {
  std::vector<std::vector<PlanCase>> chosen(possible.size());
  Covered covered;
  // First what each model lacks, by what has been tested least; then what no model has had.
  for (const bool each : {true, false}) {
    for (size_t model = 0; model < possible.size(); ++model) {
      covered.of_model.clear();
      while (true) {
        const PlanCase* best = nullptr;
        std::pair<int, int> most = {0, 0};
        for (const PlanCase& one : possible[model]) {
          const std::pair<int, int> gain = {
              each ? covered.new_to_model(one) : covered.new_pairs(one), -covered.times(one)};
          if (gain.first > 0 && (best == nullptr || gain > most)) {
            most = gain;
            best = &one;
          }
        }
        if (best == nullptr) break;
        covered.add(*best);
        chosen[model].push_back(*best);
      }
    }
  }
  return chosen;
}

}  // namespace shoal
