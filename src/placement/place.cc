#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>

#include "base/units.h"
#include "placement/cost.h"
#include "placement/fit.h"
#include "placement/placement.h"

namespace shoal {
namespace placement {
namespace {

constexpr int64_t kContextStep = 32;
constexpr int64_t kLeastContext = 512;
constexpr size_t kMostRanks = 8;
// Every subset of so many nodes is tried (a few hundred); of more, those of the fastest.
constexpr size_t kMostNodesForSubsets = 10;

using Nodes = std::vector<const NodeFacts*>;

std::string names_of(const Nodes& nodes) {
  std::string names;
  for (const NodeFacts* node : nodes) {
    names +=
        (names.empty() ? "" : " + ") + (node->name.empty() ? node->id.substr(0, 8) : node->name);
  }
  return names;
}
std::string name_of(const NodeFacts& node) {
  return names_of({&node});
}

struct Candidate {
  Nodes nodes;
  Considered considered;
  Prediction prediction;
  std::optional<Fit> failed;  // what it would have needed
};

class Planner {
 public:
  Planner(const Topology& topology, const ModelCard& card, const Wish& wish)
      : topology_(topology), card_(card), wish_(wish) {}

  Result<Placement> run() {
    SHOAL_TRY(check());
    for (const Nodes& nodes : groups()) candidates_.push_back(consider(nodes));
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
      return fail(ErrorCode::kInvalidArgument, "{} nodes were asked for; this cluster has {}",
                  wish_.node_count, nodes);
    }
    const auto most = static_cast<int64_t>(kMostRanks);
    const int64_t cuttable = std::min(most_ranks(card_), most);
    if (wish_.node_count > cuttable) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} nodes were asked for; {} can be split over at most {}", wish_.node_count,
                  card_.name, cuttable);
    }
    return {};
  }

  // The asked node first, then by falling speed: the order of ranks, a function of the set alone.
  Nodes in_rank_order(Nodes nodes) const {
    std::stable_sort(nodes.begin(), nodes.end(), [&](const NodeFacts* a, const NodeFacts* b) {
      const bool a_asked = a == &topology_.nodes.front();
      const bool b_asked = b == &topology_.nodes.front();
      if (a_asked != b_asked) return a_asked;
      if (decode_speed(*a) != decode_speed(*b)) return decode_speed(*a) > decode_speed(*b);
      return a->id < b->id;
    });
    return nodes;
  }

  std::vector<Nodes> groups() const {
    std::vector<Nodes> groups;
    Nodes fast;
    for (const NodeFacts& node : topology_.nodes) {
      groups.push_back({&node});
      fast.push_back(&node);
    }
    std::stable_sort(fast.begin(), fast.end(), [](const NodeFacts* a, const NodeFacts* b) {
      return decode_speed(*a) > decode_speed(*b);
    });
    if (fast.size() > kMostNodesForSubsets) fast.resize(kMostNodesForSubsets);
    const size_t most = std::min(kMostRanks, static_cast<size_t>(most_ranks(card_)));
    for (uint32_t set = 1; set < (1u << fast.size()); ++set) {
      const auto size = static_cast<size_t>(std::popcount(set));
      if (size < 2 || size > most) continue;
      Nodes nodes;
      for (size_t i = 0; i < fast.size(); ++i) {
        if ((set >> i & 1) != 0) nodes.push_back(fast[i]);
      }
      groups.push_back(in_rank_order(nodes));
    }
    return groups;
  }

  const LinkFacts* link_between(const NodeFacts& a, const NodeFacts& b) const {
    for (const LinkFacts& link : topology_.links) {
      if (link.bytes_per_s <= 0) continue;
      if ((link.a == a.id && link.b == b.id) || (link.a == b.id && link.b == a.id)) return &link;
    }
    return nullptr;
  }

  // The slowest pair decides. An error is the reason why the group cannot be.
  Result<GroupLink> group_link(const Nodes& nodes) const {
    GroupLink slowest;
    for (size_t i = 0; i < nodes.size(); ++i) {
      for (size_t j = i + 1; j < nodes.size(); ++j) {
        const LinkFacts* link = link_between(*nodes[i], *nodes[j]);
        if (link == nullptr) {
          return fail(ErrorCode::kUnreachable, "no link between {} and {} has been measured",
                      name_of(*nodes[i]), name_of(*nodes[j]));
        }
        slowest.one_way_s = std::max(slowest.one_way_s, link->round_trip_s / 2);
        slowest.bytes_per_s = slowest.bytes_per_s == 0
                                  ? link->bytes_per_s
                                  : std::min(slowest.bytes_per_s, link->bytes_per_s);
      }
    }
    return slowest;
  }

  int64_t least_context() const {
    return wish_.context != 0 ? wish_.context : std::min(kLeastContext, card_.context_length);
  }

  // The largest context up to `most` that fits, in steps; nothing when not even `least` does.
  Result<std::optional<std::pair<int64_t, Fit>>> largest(const Nodes& nodes, int64_t least,
                                                         int64_t most) const {
    const auto fit_at = [&](int64_t context) {
      return fit_group(card_, nodes, context, wish_.sequences, wish_.kv_type);
    };
    SHOAL_ASSIGN(Fit fit, fit_at(most));
    if (fit.fits) return std::pair(most, std::move(fit));
    SHOAL_ASSIGN(fit, fit_at(least));
    if (!fit.fits) return std::nullopt;
    int64_t good = least / kContextStep;
    int64_t bad = (most + kContextStep - 1) / kContextStep;
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

  Candidate consider(const Nodes& nodes) const {
    Candidate candidate;
    candidate.nodes = nodes;
    Plan& plan = candidate.considered.plan;
    plan.model = card_.name;
    plan.file_bytes = card_.file_bytes;
    plan.context = least_context();
    plan.sequences = wish_.sequences;
    plan.kv_type = wish_.kv_type;
    fill_ranks(plan, nodes, nullptr);
    for (const NodeFacts* node : nodes) {
      if (!(node->read_bytes_per_s > 0)) {
        candidate.considered.reason =
            fmt::format("the speed of {} has not been measured yet", name_of(*node));
        return candidate;
      }
    }
    const Result<GroupLink> link = group_link(nodes);
    if (!link) {
      candidate.considered.reason = link.error().message;
      return candidate;
    }
    fit_candidate(candidate, *link);
    return candidate;
  }

  void fit_candidate(Candidate& candidate, const GroupLink& link) const {
    Considered& considered = candidate.considered;
    const int64_t most = wish_.context != 0 ? wish_.context : card_.context_length;
    auto found = largest(candidate.nodes, least_context(), most);
    if (!found) {
      considered.reason = found.error().message;
      return;
    }
    if (!*found) {
      auto fit = fit_group(card_, candidate.nodes, least_context(), wish_.sequences, wish_.kv_type);
      if (!fit) {
        considered.reason = fit.error().message;
        return;
      }
      considered.reason = fmt::format("does not fit: {}", lack_of(*fit, candidate.nodes));
      fill_ranks(considered.plan, candidate.nodes, &*fit);
      candidate.failed = std::move(*fit);
      return;
    }
    const auto& [context, fit] = **found;
    considered.possible = true;
    considered.plan.context = context;
    fill_ranks(considered.plan, candidate.nodes, &fit);
    candidate.prediction = predict(card_, candidate.nodes, fit.cuts, link, wish_.kv_type);
    considered.plan.decode_tokens_per_s = candidate.prediction.decode_tokens_per_s;
    considered.plan.prefill_tokens_per_s = candidate.prediction.prefill_tokens_per_s;
    considered.plan.time_to_first_token_s = candidate.prediction.time_to_first_token_s;
  }

  std::string lack_of(const Fit& fit, const Nodes& nodes) const {
    const RankNeed& need = fit.needs[fit.worst_rank];
    const NodeFacts& node = *nodes[fit.worst_rank];
    return fmt::format("needs {} on {}, which has {}", format_bytes(need.memory_bytes),
                       name_of(node), format_bytes(free_bytes(node)));
  }

  void fill_ranks(Plan& plan, const Nodes& nodes, const Fit* fit) const {
    plan.ranks.clear();
    const auto all = static_cast<double>(std::max<uint64_t>(1, weight_bytes(card_, whole(card_))));
    for (size_t rank = 0; rank < nodes.size(); ++rank) {
      PlannedRank planned;
      planned.node = nodes[rank]->id;
      planned.node_name = nodes[rank]->name;
      if (fit != nullptr) {
        planned.cut = fit->cuts[rank];
        planned.weight_bytes = fit->needs[rank].weight_bytes;
        planned.kv_bytes = fit->needs[rank].kv_bytes;
        planned.memory_bytes = fit->needs[rank].memory_bytes;
        planned.share = static_cast<double>(planned.weight_bytes) / all;
      }
      plan.ranks.push_back(std::move(planned));
    }
    // What every rank holds (norms) is counted on each; shares of the work add up to 1.
    double sum = 0;
    for (const PlannedRank& rank : plan.ranks) sum += rank.share;
    for (PlannedRank& rank : plan.ranks) rank.share = sum > 0 ? rank.share / sum : 0;
  }

  bool wanted(const Candidate& candidate) const {
    return wish_.node_count == 0 || candidate.nodes.size() == static_cast<size_t>(wish_.node_count);
  }

  static bool better(const Candidate& a, const Candidate& b) {
    const double a_s = a.prediction.answer_s();
    const double b_s = b.prediction.answer_s();
    return a_s != b_s ? a_s < b_s : a.nodes.size() < b.nodes.size();
  }

  const Candidate* fastest() const {
    const Candidate* best = nullptr;
    for (const Candidate& candidate : candidates_) {
      if (!candidate.considered.possible || !wanted(candidate)) continue;
      if (best == nullptr || better(candidate, *best)) best = &candidate;
    }
    return best;
  }

  // Of two groups of a size, the one to show: the faster, else the one that lacks less.
  static bool more_telling(const Candidate& a, const Candidate& b) {
    if (a.considered.possible != b.considered.possible) return a.considered.possible;
    if (a.considered.possible) return better(a, b);
    if (a.failed.has_value() != b.failed.has_value()) return a.failed.has_value();
    return a.failed && lacking_bytes(a) < lacking_bytes(b);
  }

  static uint64_t lacking_bytes(const Candidate& candidate) {
    uint64_t lacking = 0;
    for (size_t rank = 0; rank < candidate.nodes.size(); ++rank) {
      const uint64_t needed = candidate.failed->needs[rank].memory_bytes;
      const uint64_t present = free_bytes(*candidate.nodes[rank]);
      if (needed > present) lacking += needed - present;
    }
    return lacking;
  }

  std::string reason_chosen(const Candidate& best) const {
    const Plan& plan = best.considered.plan;
    std::string reason = best.nodes.size() == 1
                             ? fmt::format("fits on {} alone, with {}", names_of(best.nodes),
                                           format_bytes(plan.ranks.front().memory_bytes))
                             : fmt::format("split over {}", names_of(best.nodes));
    if (wish_.node_count != 0)
      return reason + fmt::format("; {} node(s) were asked for", wish_.node_count);
    const Candidate* rival = nullptr;  // the best of the other kind
    for (const Candidate& candidate : candidates_) {
      if (!candidate.considered.possible) continue;
      if ((candidate.nodes.size() == 1) == (best.nodes.size() == 1)) continue;
      if (rival == nullptr || better(candidate, *rival)) rival = &candidate;
    }
    if (rival == nullptr) {
      if (best.nodes.size() > 1) return reason + "; no node can hold it alone";
      if (topology_.nodes.size() > 1) return reason + "; no group is possible";
      return reason + "; there is no other node";
    }
    return reason + fmt::format(
                        "; {} would decode {:.1f} tokens/s against {:.1f} and begin to answer "
                        "after {} against {}",
                        names_of(rival->nodes), rival->considered.plan.decode_tokens_per_s,
                        plan.decode_tokens_per_s,
                        format_duration(rival->considered.plan.time_to_first_token_s),
                        format_duration(plan.time_to_first_token_s));
  }

  std::string reason_left(const Candidate& candidate, const Candidate& best) const {
    if (!wanted(candidate)) return fmt::format("{} node(s) were asked for", wish_.node_count);
    const Plan& plan = candidate.considered.plan;
    const Plan& chosen = best.considered.plan;
    return fmt::format(
        "slower: decodes {:.1f} tokens/s against {:.1f}, prefills {:.0f} against {:.0f}; a typical "
        "answer takes {} against {}",
        plan.decode_tokens_per_s, chosen.decode_tokens_per_s, plan.prefill_tokens_per_s,
        chosen.prefill_tokens_per_s, format_duration(candidate.prediction.answer_s()),
        format_duration(best.prediction.answer_s()));
  }

  Placement listing(const Candidate& best) const {
    std::map<size_t, const Candidate*> of_size;  // groups of two and more
    std::vector<const Candidate*> shown;
    for (const Candidate& candidate : candidates_) {
      if (candidate.nodes.size() == 1) {
        shown.push_back(&candidate);
        continue;
      }
      const Candidate*& kept = of_size[candidate.nodes.size()];
      if (kept == nullptr ||
          (kept != &best && (&candidate == &best || more_telling(candidate, *kept)))) {
        kept = &candidate;
      }
    }
    for (const auto& [size, candidate] : of_size) shown.push_back(candidate);
    Placement placement;
    for (const Candidate* candidate : shown) {
      Considered considered = candidate->considered;
      considered.chosen = candidate == &best;
      if (considered.chosen) {
        considered.reason = reason_chosen(best);
      } else if (considered.possible) {
        considered.reason = reason_left(*candidate, best);
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
    const Candidate* nearest = nullptr;
    std::string tried;
    std::string otherwise;
    int listed = 0;
    for (const Candidate& candidate : candidates_) {
      if (!wanted(candidate)) continue;
      if (!candidate.failed) {
        if (otherwise.empty()) {
          otherwise = names_of(candidate.nodes) + ": " + candidate.considered.reason;
        }
        continue;
      }
      if (nearest == nullptr || lacking_bytes(candidate) < lacking_bytes(*nearest))
        nearest = &candidate;
      if (candidate.nodes.size() == 1 && listed++ < 8) {
        tried += (tried.empty() ? "" : "; ") + lack_of(*candidate.failed, candidate.nodes);
      }
    }
    if (nearest == nullptr) {
      return fail(ErrorCode::kUnreachable, "no plan for {} is possible: {}", card_.name, otherwise);
    }
    if (nearest->nodes.size() > 1) {
      tried +=
          (tried.empty() ? "" : "; ") + fmt::format("split over {} it {}", names_of(nearest->nodes),
                                                    lack_of(*nearest->failed, nearest->nodes));
    }
    return fail(ErrorCode::kDoesNotFit,
                "{} does not fit: with a context of {} for {} sequence(s) it {}. {}", card_.name,
                least_context(), wish_.sequences, tried, what_would_fit(*nearest));
  }

  std::string what_would_fit(const Candidate& nearest) const {
    int64_t best_context = 0;
    std::string where;
    for (const Candidate& candidate : candidates_) {
      if (!wanted(candidate) || !candidate.failed || least_context() <= kContextStep) continue;
      const auto found = largest(candidate.nodes, kContextStep, least_context());
      if (found && *found && (*found)->first > best_context) {
        best_context = (*found)->first;
        where = names_of(candidate.nodes);
      }
    }
    if (best_context > 0) {
      return fmt::format("A context of {} would fit on {}, as would fewer sequences", best_context,
                         where);
    }
    return fmt::format(
        "It would fit with {} more memory on {}, on more nodes, or in a smaller quantisation",
        format_bytes(lacking_bytes(nearest)), names_of(nearest.nodes));
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
