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

namespace {

// "tensor parallel over 2 nodes, bf16 between them"
std::string how_text(const Plan& plan) {
  const PlanMode mode = plan_mode(plan);
  if (mode == PlanMode::kOneNode) return std::string(plan_mode_words(mode));
  return fmt::format("{}, {} nodes, {} between them", plan_mode_words(mode), plan.ranks.size(),
                     payload_name(plan.payload));
}

std::string table_text(const Plan& plan) {
  const bool by_layers = plan.ranks.back().stage > 0;
  std::vector<std::string> headings = {"    node"};
  if (by_layers) headings.insert(headings.end(), {"stage", "layers"});
  headings.insert(headings.end(), {"share", "memory", "weights", "KV"});
  Table table(headings);
  for (const PlannedRank& rank : plan.ranks) {
    std::vector<std::string> row = {"    " + rank.node_name};
    if (by_layers) {
      row.push_back(std::to_string(rank.stage));
      row.push_back(fmt::format("{}-{}", rank.cut.layers.begin, rank.cut.layers.end - 1));
    }
    row.insert(row.end(),
               {fmt::format("{:.0f}%", rank.share * 100), format_bytes(rank.memory_bytes),
                format_bytes(rank.weight_bytes), format_bytes(rank.kv_bytes)});
    table.add(std::move(row));
  }
  return table.text();
}

// Indented, within 80 columns.
std::string paragraph(const std::string& text) {
  return "    " + wrapped(text, 76, 4) + "\n";
}

std::string mode_words(const Json& plan) {
  const Result<PlanMode> mode = plan_mode_named(plan.value("mode", ""));
  return mode ? std::string(plan_mode_words(*mode)) : "a plan";
}

// Of a plan that could not be cut only the nodes are known.
std::string nodes_text(const Json& plan) {
  std::string names;
  for (const Json& rank : plan.value("ranks", Json::array()))
    names += (names.empty() ? "" : ", ") + rank.value("node_name", "");
  return names;
}

}  // namespace

std::string plan_line(const Json& instance) {
  if (!instance.contains("plan")) return "";
  const Result<Plan> plan = plan_from_json(instance["plan"]);
  if (!plan) return "";
  return fmt::format("plan: {}: {}; context {}\n", how_text(*plan), plan_ranks_text(*plan),
                     plan->context);
}

std::string placement_text(const Json& placement) {
  std::string text;
  for (const Json& considered : placement.value("considered", Json::array())) {
    const Json json = considered.value("plan", Json::object());
    const std::string mark = considered.value("chosen", false) ? "*" : "-";
    const Result<Plan> plan = plan_from_json(json);
    if (considered.value("possible", false) && plan) {
      text += fmt::format("{} {}\n", mark, wrapped(how_text(*plan), 76, 2));
      text += paragraph(fmt::format(
          "predicted: prefill {:.0f}, decode {:.1f} tokens/s{}, first token of 512 in {}; context "
          "{} x {}",
          plan->prefill_tokens_per_s, plan->decode_tokens_per_s,
          plan->sequences > 1 ? fmt::format(" ({:.1f} for {} together)",
                                            plan->all_decode_tokens_per_s, plan->sequences)
                              : "",
          format_duration(plan->time_to_first_token_s), plan->context, plan->sequences));
      text += table_text(*plan);
    } else {
      const std::string words = fmt::format("{}: {}", mode_words(json), nodes_text(json));
      text += fmt::format("{} {}\n", mark, wrapped(words, 76, 2));
    }
    text += paragraph(considered.value("reason", ""));
  }
  return text;
}

}  // namespace shoal::cli
