// The planner: candidates, what each would give and need, the choice among them.
#include <algorithm>
#include <map>

#include "base/counted.h"
#include "base/units.h"
#include "placement/arrangement.h"
#include "placement/candidate.h"
#include "placement/cost.h"
#include "placement/fit.h"
#include "placement/placement.h"

namespace shoal {
namespace placement {
namespace {

constexpr int64_t kContextStep = 32;
constexpr int64_t kLeastContext = 512;
// Of what does not fit, so many of those that lack least are searched for what would.
constexpr size_t kMostSearched = 24;

class Planner {
 public:
  Planner(const Topology& topology, const ModelCard& card, const Wish& wish)
      : topology_(topology), card_(card), wish_(wish) {}

  Result<Placement> run() {
    SHOAL_TRY(check());
    for (Arrangement& arrangement : arrangements(topology_, card_))
      candidates_.push_back(consider(std::move(arrangement)));
    const Candidate* best = fastest();
    if (best == nullptr) return refusal();
    return listing(*best);
  }

 private:
  Status check() const {
    if (topology_.nodes.empty())
      return fail(ErrorCode::kInvalidArgument, "the topology has no nodes");
    if (card_.context_length < 1 || card_.kv_head_count < 1 || card_.layer_count < 1) {
      return fail(ErrorCode::kCorrupt,
                  "the model '{}' says that it has {} layers, {} KV heads and a context of {}",
                  card_.name, card_.layer_count, card_.kv_head_count, card_.context_length);
    }
    if (wish_.context < 0 || wish_.context > card_.context_length) {
      return fail(ErrorCode::kInvalidArgument,
                  "a context of {} was asked for; {} was trained for 1 to {} (0 takes the largest "
                  "that fits)",
                  wish_.context, card_.name, card_.context_length);
    }
    if (wish_.sequences < 1 || wish_.sequences > 65536) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} sequences at once were asked for; 1 to 65536 are possible", wish_.sequences);
    }
    const auto nodes = static_cast<int64_t>(topology_.nodes.size());
    if (wish_.node_count < 0 || wish_.node_count > nodes) {
      return fail(ErrorCode::kInvalidArgument, "{} were asked for; this cluster has {}",
                  counted(wish_.node_count, "node"), nodes);
    }
    return check_division();
  }

  Status check_division() const {
    const int64_t by_layers = card_.layers_stand_alone ? card_.layer_count : 1;
    const int64_t most =
        std::min(std::max(most_ranks(card_), by_layers), static_cast<int64_t>(kMostPlannedRanks));
    if (wish_.node_count > most) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} nodes were asked for; {} can be split over at most {}", wish_.node_count,
                  card_.name, most);
    }
    if (!wish_.mode || *wish_.mode == PlanMode::kOneNode) return {};
    const std::string_view words = plan_mode_words(*wish_.mode);
    if (*wish_.mode != PlanMode::kTensor && by_layers < 2) {
      return fail(ErrorCode::kInvalidArgument, "a plan by layers was asked for ({}); {}", words,
                  card_.layer_count < 2
                      ? fmt::format("{} has one layer", card_.name)
                      : fmt::format("layers of {} read what others made beside the residual "
                                    "stream, so that only tensors can be cut",
                                    card_.name));
    }
    const int64_t least = *wish_.mode == PlanMode::kHybrid ? 3 : 2;
    const auto nodes = static_cast<int64_t>(topology_.nodes.size());
    const int64_t present = wish_.node_count != 0 ? wish_.node_count : nodes;
    if (present < least) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} was asked for, which takes at least {} nodes; {}", words, least,
                  wish_.node_count != 0 ? fmt::format("{} were asked for", present)
                                        : fmt::format("this cluster has {}", present));
    }
    return {};
  }

  int64_t least_context() const {
    return wish_.context != 0 ? wish_.context : std::min(kLeastContext, card_.context_length);
  }

  // The largest context up to `most` that fits, in steps; nothing when not even `least` does.
  Result<std::optional<std::pair<int64_t, Fit>>> largest(const Arrangement& arrangement,
                                                         LayerBalance balance, int64_t least,
                                                         int64_t most) const {
    const auto fit_at = [&](int64_t context) {
      return fit_stages(card_, arrangement.stages, context, wish_.sequences, wish_.kv_type,
                        balance);
    };
    SHOAL_ASSIGN(Fit fit, fit_at(most));
    if (fit.fits) return std::pair(most, std::move(fit));
    SHOAL_ASSIGN(fit, fit_at(least));
    if (!fit.fits) return std::nullopt;
    int64_t good = least / kContextStep;
    const int64_t beyond = beyond_all_memory(arrangement, least, most);
    int64_t bad = (beyond + kContextStep - 1) / kContextStep;
    std::optional<std::pair<int64_t, Fit>> found = std::pair(least, std::move(fit));
    while (bad - good > 1) {
      const int64_t middle = good + (bad - good) / 2;
      SHOAL_ASSIGN(Fit tried, fit_at(middle * kContextStep));
      if (tried.fits) {
        good = middle;
        found = std::pair(middle * kContextStep, std::move(tried));
      } else {
        bad = middle;
      }
    }
    return found;
  }

  // A context that cannot fit, at most `most`, which is one: the whole model's memory is less than
  // that of its parts, and more than a straight line through two contexts.
  int64_t beyond_all_memory(const Arrangement& arrangement, int64_t least, int64_t most) const {
    const auto needed = [&](int64_t context) {
      return static_cast<double>(
          rank_need(card_, whole(card_), context, wish_.sequences, wish_.kv_type).memory_bytes);
    };
    double room = -needed(least);
    for (const NodeFacts* node : arrangement.nodes())
      room += static_cast<double>(free_bytes(*node));
    const double each = (needed(most) - needed(least)) / static_cast<double>(most - least);
    if (!(each > 0) || room < 0) return most;
    const double longer = std::min(room / each, static_cast<double>(most - least));
    return std::min(most, least + static_cast<int64_t>(longer) + kContextStep);
  }

  Candidate consider(Arrangement arrangement) const {
    Candidate candidate;
    candidate.arrangement = std::move(arrangement);
    Plan& plan = candidate.considered.plan;
    plan.model = card_.name;
    plan.file_bytes = card_.file_bytes;
    plan.context = least_context();
    plan.sequences = wish_.sequences;
    plan.kv_type = wish_.kv_type;
    fill_ranks(candidate, nullptr);
    for (const NodeFacts* node : candidate.arrangement.nodes()) {
      if (!(node->read_bytes_per_s > 0)) {
        candidate.considered.reason =
            fmt::format("the speed of {} has not been measured yet", name_of(*node));
        return candidate;
      }
    }
    Result<std::vector<Stage>> stages = linked_stages(topology_, candidate.arrangement);
    if (!stages) {
      candidate.considered.reason = stages.error().message;
      return candidate;
    }
    if (stages->size() == 1) {
      fit_candidate(candidate, *stages);
      return candidate;
    }
    Candidate for_prompts = candidate;
    for_prompts.balance = LayerBalance::kPrompt;
    fit_candidate(candidate, *stages);
    fit_candidate(for_prompts, *stages);
    return sooner_served(std::move(candidate), std::move(for_prompts));
  }

  // Of two divisions of the layers: one sequence's tokens pass all stages whatever the division, so
  // that its prompt decides; those of several keep all stages busy, and the slowest counts.
  Candidate sooner_served(Candidate for_tokens, Candidate for_prompts) const {
    if (!for_prompts.considered.possible) return for_tokens;
    if (!for_tokens.considered.possible) return for_prompts;
    const auto layers_of = [](const Candidate& candidate) {
      std::vector<Range> layers;
      for (const PlannedRank& rank : candidate.considered.plan.ranks)
        layers.push_back(rank.cut.layers);
      return layers;
    };
    if (layers_of(for_tokens) == layers_of(for_prompts)) return for_tokens;
    for_tokens.balance_chosen = for_prompts.balance_chosen = true;
    return all_answers_s(for_prompts) < all_answers_s(for_tokens) ? std::move(for_prompts)
                                                                  : std::move(for_tokens);
  }

  // Until every sequence has its prompt read, one after another, and its answer written, together.
  double all_answers_s(const Candidate& candidate) const {
    const Prediction& prediction = candidate.prediction;
    return static_cast<double>(wish_.sequences) *
           (prediction.time_to_first_token_s +
            (kReferenceAnswerTokens - 1) / prediction.all_decode_tokens_per_s);
  }

  void fit_candidate(Candidate& candidate, std::vector<Stage>& stages) const {
    Considered& considered = candidate.considered;
    const int64_t most = wish_.context != 0 ? wish_.context : card_.context_length;
    auto found = largest(candidate.arrangement, candidate.balance, least_context(), most);
    if (!found) {
      considered.reason = found.error().message;
      return;
    }
    if (!*found) {
      auto fit = fit_stages(card_, candidate.arrangement.stages, least_context(), wish_.sequences,
                            wish_.kv_type, candidate.balance);
      if (!fit) {
        considered.reason = fit.error().message;
        return;
      }
      fill_ranks(candidate, &*fit);
      candidate.failed = std::move(*fit);
      considered.reason = fmt::format("does not fit: {}", lack_of(candidate));
      return;
    }
    const auto& [context, fit] = **found;
    considered.possible = true;
    considered.plan.context = context;
    fill_ranks(candidate, &fit);
    cut_stages(stages, card_, fit);
    for (const Stage& stage : stages)
      considered.plan.stage_links.push_back({stage.among.one_way_s, stage.among.bytes_per_s});
    choose_payload(candidate, stages);
  }

  void choose_payload(Candidate& candidate, std::span<const Stage> stages) const {
    Plan& plan = candidate.considered.plan;
    const bool by_choice = !wish_.payload && candidate.arrangement.size() > 1;
    for (const Payload payload : kPayloads) {
      // Alone a node sends nothing.
      if (!by_choice && payload != wish_.payload.value_or(Payload::kF32)) continue;
      const Prediction prediction = predict(stages, wish_.kv_type, payload, wish_.sequences);
      const double cost_s = prediction.answer_s() * node_handicap(plan.ranks.size()) *
                            (by_choice ? payload_handicap(payload) : 1);
      if (by_choice && payload == Payload::kF32) candidate.with_f32 = prediction;
      if (candidate.cost_s != 0 && cost_s >= candidate.cost_s) continue;
      candidate.cost_s = cost_s;
      candidate.prediction = prediction;
      plan.payload = payload;
    }
    plan.decode_tokens_per_s = candidate.prediction.decode_tokens_per_s;
    plan.all_decode_tokens_per_s = candidate.prediction.all_decode_tokens_per_s;
    plan.prefill_tokens_per_s = candidate.prediction.prefill_tokens_per_s;
    plan.time_to_first_token_s = candidate.prediction.time_to_first_token_s;
    plan.token_links_s = candidate.prediction.token_links_s;
    plan.first_token_links_s = candidate.prediction.first_token_links_s;
  }

  void fill_ranks(Candidate& candidate, const Fit* fit) const {
    Plan& plan = candidate.considered.plan;
    plan.ranks.clear();
    const auto all = static_cast<double>(std::max<uint64_t>(1, weight_bytes(card_, whole(card_))));
    int number = 0;
    for (const StageNodes& stage : candidate.arrangement.stages) {
      for (const NodeFacts* node : stage) {
        const size_t rank = plan.ranks.size();
        PlannedRank planned;
        planned.node = node->id;
        planned.node_name = node->name;
        planned.stage = number;
        if (fit != nullptr) {
          planned.cut = fit->cuts[rank];
          planned.weight_bytes = fit->needs[rank].weight_bytes;
          planned.kv_bytes = fit->needs[rank].kv_bytes;
          planned.memory_bytes = fit->needs[rank].memory_bytes;
          planned.share = static_cast<double>(planned.weight_bytes) / all;
        }
        plan.ranks.push_back(std::move(planned));
      }
      ++number;
    }
    // What several ranks hold (norms, a tied table) is counted on each; shares of the work add up
    // to 1.
    double sum = 0;
    for (const PlannedRank& rank : plan.ranks) sum += rank.share;
    for (PlannedRank& rank : plan.ranks) rank.share = sum > 0 ? rank.share / sum : 0;
  }

  const Candidate* fastest() const {
    const Candidate* best = nullptr;
    for (const Candidate& candidate : candidates_) {
      if (!candidate.considered.possible || !wanted(wish_, candidate)) continue;
      if (best == nullptr || better(candidate, *best)) best = &candidate;
    }
    return best;
  }

  // Of two plans of a mode and size, the one to show: the faster, else the one that lacks less.
  static bool more_telling(const Candidate& a, const Candidate& b) {
    if (a.considered.possible != b.considered.possible) return a.considered.possible;
    if (a.considered.possible) return better(a, b);
    if (a.failed.has_value() != b.failed.has_value()) return a.failed.has_value();
    return a.failed && lacking_bytes(a) < lacking_bytes(b);
  }

  Placement listing(const Candidate& best) const {
    std::map<std::pair<PlanMode, size_t>, const Candidate*> of_kind;  // two nodes and more
    std::vector<const Candidate*> shown;
    for (const Candidate& candidate : candidates_) {
      const size_t size = candidate.arrangement.size();
      if (size == 1) {
        shown.push_back(&candidate);
        continue;
      }
      const Candidate*& kept = of_kind[{candidate.arrangement.mode(), size}];
      if (kept == nullptr ||
          (kept != &best && (&candidate == &best || more_telling(candidate, *kept)))) {
        kept = &candidate;
      }
    }
    for (const auto& [kind, candidate] : of_kind) shown.push_back(candidate);
    Placement placement;
    for (const Candidate* candidate : shown) {
      Considered considered = candidate->considered;
      considered.chosen = candidate == &best;
      if (considered.chosen) {
        considered.reason = reason_chosen(best, candidates_, topology_, wish_);
      } else if (considered.possible) {
        considered.reason = reason_left(*candidate, best, wish_);
      }
      if (considered.chosen) {
        placement.considered.insert(placement.considered.begin(), std::move(considered));
      } else {
        placement.considered.push_back(std::move(considered));
      }
    }
    return placement;
  }

  // --- nothing is possible ---

  std::unexpected<Error> refusal() const {
    std::vector<const Candidate*> failed;  // those that lack least first
    std::string tried;
    std::string otherwise;
    int listed = 0;
    for (const Candidate& candidate : candidates_) {
      if (!wanted(wish_, candidate)) continue;
      if (candidate.failed) {
        failed.push_back(&candidate);
        if (candidate.arrangement.size() == 1 && listed++ < 8)
          tried += (tried.empty() ? "" : "; ") + lack_of(candidate);
      } else if (otherwise.empty()) {
        otherwise = names_of(candidate.arrangement) + ": " + candidate.considered.reason;
      }
    }
    if (failed.empty()) {
      return fail(ErrorCode::kUnreachable, "no plan for {} is possible: {}", card_.name, otherwise);
    }
    std::stable_sort(failed.begin(), failed.end(), [](const Candidate* a, const Candidate* b) {
      return lacking_bytes(*a) < lacking_bytes(*b);
    });
    const Candidate& nearest = *failed.front();
    if (nearest.arrangement.size() > 1) {
      tried += (tried.empty() ? "" : "; ") +
               fmt::format("split over {} it {}", names_of(nearest.arrangement), lack_of(nearest));
    }
    if (failed.size() > kMostSearched) failed.resize(kMostSearched);
    return fail(ErrorCode::kDoesNotFit, "{} does not fit: with a context of {} for {} it {}. {}",
                card_.name, least_context(), counted(wish_.sequences, "sequence"), tried,
                what_would_fit(failed));
  }

  std::string what_would_fit(std::span<const Candidate* const> failed) const {
    int64_t best_context = 0;
    std::string where;
    for (const Candidate* candidate : failed) {
      if (least_context() <= kContextStep) continue;
      const auto found =
          largest(candidate->arrangement, candidate->balance, kContextStep, least_context());
      if (found && *found && (*found)->first > best_context) {
        best_context = (*found)->first;
        where = names_of(candidate->arrangement);
      }
    }
    if (best_context > 0) {
      return fmt::format("A context of {} would fit on {}, as would fewer sequences", best_context,
                         where);
    }
    return fmt::format(
        "It would fit with {} more memory on {}, on more nodes, or in a smaller quantisation",
        format_bytes(lacking_bytes(*failed.front())), names_of(failed.front()->arrangement));
  }

  const Topology& topology_;
  const ModelCard& card_;
  const Wish& wish_;
  std::vector<Candidate> candidates_;
};

}  // namespace
}  // namespace placement

const Plan* Placement::chosen() const {
  for (const Considered& one : considered) {
    if (one.chosen) return &one.plan;
  }
  return nullptr;
}

Result<Placement> place(const Topology& topology, const ModelCard& card, const Wish& wish) {
  return placement::Planner(topology, card, wish).run();
}

}  // namespace shoal
