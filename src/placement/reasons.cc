// Why a plan was chosen and why another was not, in sentences with numbers.
#include <algorithm>

#include "base/counted.h"
#include "base/units.h"
#include "placement/candidate.h"

namespace shoal::placement {
namespace {

bool is_group(const Candidate& candidate) {
  return candidate.arrangement.size() > 1;
}

// What the links cost, where there are any.
std::string links_text(const Prediction& prediction) {
  return fmt::format("its links take {} of each token's {} and {} of the {} to the first",
                     format_duration(prediction.token_links_s),
                     format_duration(1 / prediction.decode_tokens_per_s),
                     format_duration(prediction.first_token_links_s),
                     format_duration(prediction.time_to_first_token_s));
}

std::string how_split(const Candidate& best) {
  const std::string names = names_of(best.arrangement);
  switch (best.arrangement.mode()) {
    case PlanMode::kOneNode:
      return fmt::format("fits on {} alone, with {}", names,
                         format_bytes(best.considered.plan.ranks.front().memory_bytes));
    case PlanMode::kTensor:
      return fmt::format("split over {}, tensor parallel", names);
    case PlanMode::kPipeline:
      return fmt::format("layers split over {}, a pipeline", names);
    case PlanMode::kHybrid:
      return fmt::format("layers split over {}, a pipeline of groups", names);
  }
  SHOAL_CHECK(false);
  return "";
}

std::string wish_text(const Wish& wish) {
  std::string text;
  if (wish.mode) text += fmt::format("; {} was asked for", plan_mode_words(*wish.mode));
  if (wish.node_count != 0)
    text += fmt::format("; {} {} asked for", counted(wish.node_count, "node"),
                        wish.node_count == 1 ? "was" : "were");
  return text;
}

const Candidate* best_of(std::span<const Candidate> all, const Wish& wish, const auto& allowed) {
  const Candidate* best = nullptr;
  for (const Candidate& candidate : all) {
    if (!candidate.considered.possible || !wanted(wish, candidate) || !allowed(candidate)) continue;
    if (best == nullptr || better(candidate, *best)) best = &candidate;
  }
  return best;
}

bool takes(const Candidate& candidate, const std::string& node) {
  return std::ranges::any_of(candidate.considered.plan.ranks,
                             [&](const PlannedRank& rank) { return rank.node == node; });
}

// Nodes that could hold a part and would slow the model, a few of them by name.
std::string left_out_text(const Candidate& best, std::span<const Candidate> all,
                          const Topology& topology, const Wish& wish) {
  constexpr int kMostNamed = 3;
  std::string text;
  int unnamed = 0;
  int named = 0;
  for (const NodeFacts& node : topology.nodes) {
    if (takes(best, node.id)) continue;
    const Candidate* with = best_of(all, wish, [&](const Candidate& candidate) {
      return takes(candidate, node.id) && candidate.arrangement.size() > 1;
    });
    if (with == nullptr) continue;
    if (named == kMostNamed) {
      ++unnamed;
      continue;
    }
    ++named;
    const double with_s = with->prediction.answer_s();
    const double best_s = best.prediction.answer_s();
    text += with_s > 1.01 * best_s
                ? fmt::format("; {} is left out: with it an answer takes {} against {} ({})",
                              name_of(node), format_duration(with_s), format_duration(best_s),
                              names_of(with->arrangement))
                : fmt::format("; {} is left out: it would gain too little", name_of(node));
  }
  if (unnamed > 0) text += fmt::format("; so are {} more", unnamed);
  return text;
}

std::string payload_text(const Candidate& best) {
  const Payload payload = best.considered.plan.payload;
  if (payload == Payload::kF32 || best.with_f32.decode_tokens_per_s == 0) return "";
  return fmt::format("; numbers travel as {}, for as f32 a typical answer takes {} against {}",
                     payload_name(payload), format_duration(best.with_f32.answer_s()),
                     format_duration(best.prediction.answer_s()));
}

std::string balance_text(const Candidate& best, const Wish& wish) {
  if (!best.balance_chosen) return "";
  if (best.balance == LayerBalance::kPrompt)
    return "; layers are divided by what a prompt takes, which needs the head only once";
  if (wish.sequences == 1)
    return "; the head counts where layers are divided, as every token needs it";
  return fmt::format("; the head counts where layers are divided, as {} sequences decode together",
                     wish.sequences);
}

// The best of the other kind: groups against one node.
std::string rival_text(const Candidate& best, std::span<const Candidate> all,
                       const Topology& topology, const Wish& wish) {
  const Candidate* rival = best_of(
      all, wish, [&](const Candidate& candidate) { return is_group(candidate) != is_group(best); });
  if (rival == nullptr) {
    if (is_group(best)) return "; no node can hold it alone";
    return topology.nodes.size() > 1 ? "; no group is possible" : "; there is no other node";
  }
  std::string text = fmt::format(
      "; {} would decode {:.1f} tokens/s against {:.1f} and begin to answer after {} against {}",
      names_of(rival->arrangement), rival->prediction.decode_tokens_per_s,
      best.prediction.decode_tokens_per_s, format_duration(rival->prediction.time_to_first_token_s),
      format_duration(best.prediction.time_to_first_token_s));
  if (is_group(*rival)) text += ": " + links_text(rival->prediction);
  return text;
}

}  // namespace

bool better(const Candidate& a, const Candidate& b) {
  return a.cost_s != b.cost_s ? a.cost_s < b.cost_s : a.arrangement.size() < b.arrangement.size();
}

bool wanted(const Wish& wish, const Candidate& candidate) {
  if (wish.mode && candidate.arrangement.mode() != *wish.mode) return false;
  return wish.node_count == 0 ||
         candidate.arrangement.size() == static_cast<size_t>(wish.node_count);
}

uint64_t lacking_bytes(const Candidate& candidate) {
  const StageNodes nodes = candidate.arrangement.nodes();
  uint64_t lacking = 0;
  for (size_t rank = 0; rank < nodes.size(); ++rank) {
    const uint64_t needed = candidate.failed->needs[rank].memory_bytes;
    const uint64_t present = free_bytes(*nodes[rank]);
    if (needed > present) lacking += needed - present;
  }
  return lacking;
}

std::string lack_of(const Candidate& candidate) {
  const Fit& fit = *candidate.failed;
  const StageNodes nodes = candidate.arrangement.nodes();
  const NodeFacts& node = *nodes[fit.worst_rank];
  return fmt::format("needs {} on {}, which has {}",
                     format_bytes(fit.needs[fit.worst_rank].memory_bytes), name_of(node),
                     format_bytes(free_bytes(node)));
}

std::string reason_chosen(const Candidate& best, std::span<const Candidate> all,
                          const Topology& topology, const Wish& wish) {
  std::string reason = how_split(best) + balance_text(best, wish) + payload_text(best);
  if (is_group(best)) reason += "; " + links_text(best.prediction);
  if (wish.mode || wish.node_count != 0) return reason + wish_text(wish);
  return reason + rival_text(best, all, topology, wish) +
         (is_group(best) ? left_out_text(best, all, topology, wish) : "");
}

std::string reason_left(const Candidate& candidate, const Candidate& best, const Wish& wish) {
  if (!wanted(wish, candidate)) return wish_text(wish).substr(2);
  const Prediction& mine = candidate.prediction;
  const Prediction& chosen = best.prediction;
  std::string text = fmt::format(
      "{}: decodes {:.1f} tokens/s against {:.1f}, prefills {:.0f} against {:.0f}; a typical "
      "answer takes {} against {}",
      mine.answer_s() >= chosen.answer_s() ? "slower" : "gains too little",
      mine.decode_tokens_per_s, chosen.decode_tokens_per_s, mine.prefill_tokens_per_s,
      chosen.prefill_tokens_per_s, format_duration(mine.answer_s()),
      format_duration(chosen.answer_s()));
  if (is_group(candidate)) text += "; " + links_text(mine);
  return text;
}

}  // namespace shoal::placement
