#include "cli/plan_text.h"

#include "base/units.h"
#include "cli/screen.h"

namespace shoal::cli {

std::string plan_ranks_text(const Plan& plan) {
  std::string text;
  for (const PlannedRank& rank : plan.ranks) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{}{} {:.0f}%", rank.node_name,
                        &rank == &plan.ranks.front() && plan.ranks.size() > 1 ? " (lead)" : "",
                        rank.share * 100);
  }
  return text;
}

std::string plan_line(const Json& instance) {
  if (!instance.contains("plan")) return "";
  const Result<Plan> plan = plan_from_json(instance["plan"]);
  if (!plan) return "";
  const std::string how = plan->ranks.size() == 1
                              ? "one node"
                              : fmt::format("{} nodes, tensor parallel", plan->ranks.size());
  return fmt::format("plan: {}: {}; context {}\n", how, plan_ranks_text(*plan), plan->context);
}

std::string placement_text(const Json& placement) {
  std::string text;
  for (const Json& considered : placement.value("considered", Json::array())) {
    const Plan plan = plan_from_json(considered.value("plan", Json::object())).value_or(Plan{});
    text += fmt::format("{} {}\n", considered.value("chosen", false) ? "*" : "-",
                        plan_ranks_text(plan));
    if (considered.value("possible", false)) {
      text += fmt::format(
          "    predicted: prefill {:.0f}, decode {:.1f} tokens/s, first token of 512 in {}; "
          "context {} x {}\n",
          plan.prefill_tokens_per_s, plan.decode_tokens_per_s,
          format_duration(plan.time_to_first_token_s), plan.context, plan.sequences);
      for (const PlannedRank& rank : plan.ranks) {
        text += fmt::format("    {}: {} (weights {}, KV {})\n", rank.node_name,
                            format_bytes(rank.memory_bytes), format_bytes(rank.weight_bytes),
                            format_bytes(rank.kv_bytes));
      }
    }
    text += fmt::format("    {}\n", wrapped(considered.value("reason", ""), 74, 4));
  }
  return text;
}

}  // namespace shoal::cli
