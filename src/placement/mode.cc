// The modes of plans by name.
#include "placement/placement.h"

namespace shoal {

std::string_view plan_mode_name(PlanMode mode) {
  constexpr std::array<std::string_view, kPlanModes.size()> kNames = {"one_node", "tensor",
                                                                      "pipeline", "hybrid"};
  return kNames[static_cast<size_t>(mode)];
}

std::string_view plan_mode_words(PlanMode mode) {
  constexpr std::array<std::string_view, kPlanModes.size()> kWords = {"one node", "tensor parallel",
                                                                      "pipeline", "hybrid"};
  return kWords[static_cast<size_t>(mode)];
}

Result<PlanMode> plan_mode_named(std::string_view name) {
  for (const PlanMode mode : kPlanModes) {
    if (plan_mode_name(mode) == name) return mode;
  }
  return fail(ErrorCode::kInvalidArgument,
              "'{}' is not a way to divide a model; there are auto, one_node, tensor, pipeline and "
              "hybrid",
              name.substr(0, 64));
}

PlanMode plan_mode(const Plan& plan) {
  if (plan.ranks.size() <= 1) return PlanMode::kOneNode;
  const auto stages = static_cast<size_t>(plan.ranks.back().stage) + 1;
  if (stages == 1) return PlanMode::kTensor;
  return stages == plan.ranks.size() ? PlanMode::kPipeline : PlanMode::kHybrid;
}

}  // namespace shoal
