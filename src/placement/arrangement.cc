#include "placement/arrangement.h"

#include <algorithm>
#include <bit>
#include <set>

namespace shoal::placement {
namespace {

// Every subset of so many nodes is tried (a few hundred); of more, those of the fastest.
constexpr size_t kMostNodesForGroups = 10;
// Subsets of so many in pipelines, whose fit takes longer.
constexpr size_t kMostNodesForPipelines = 6;
// And so many in every division into groups: 5 nodes have 145, 8 would have 21,000.
constexpr size_t kMostNodesForDivisions = 5;

class Arranger {
 public:
  Arranger(const Topology& topology, const ModelCard& card)
      : topology_(topology),
        most_in_group_(std::min(kMostPlannedRanks, static_cast<size_t>(most_ranks(card)))),
        most_stages_(card.layers_stand_alone ? static_cast<size_t>(card.layer_count) : 1) {
    for (const NodeFacts& node : topology_.nodes) by_speed_.push_back(&node);
    std::stable_sort(
        by_speed_.begin(), by_speed_.end(),
        [](const NodeFacts* a, const NodeFacts* b) { return decode_speed(*a) > decode_speed(*b); });
  }

  std::vector<Arrangement> run() {
    for (const NodeFacts& node : topology_.nodes) found_.push_back({{{&node}}});
    for (const StageNodes& nodes : subsets(kMostNodesForGroups)) add({{nodes}});
    if (most_stages_ < 2) return std::move(found_);
    for (const StageNodes& nodes : subsets(kMostNodesForPipelines)) add_pipeline(nodes);
    for (const StageNodes& nodes : larger_sets()) add_pipeline(nodes);
    for (const StageNodes& nodes : subsets(kMostNodesForDivisions)) add_divisions(nodes);
    for (const StageNodes& nodes : larger_sets()) {
      add_clusters(nodes);
      add_equal_groups(nodes);
    }
    return std::move(found_);
  }

 private:
  // The asked node first, then by falling speed: the order of ranks, a function of the set alone.
  StageNodes in_rank_order(StageNodes nodes) const {
    std::stable_sort(nodes.begin(), nodes.end(), [&](const NodeFacts* a, const NodeFacts* b) {
      const bool a_asked = a == &topology_.nodes.front();
      const bool b_asked = b == &topology_.nodes.front();
      if (a_asked != b_asked) return a_asked;
      if (decode_speed(*a) != decode_speed(*b)) return decode_speed(*a) > decode_speed(*b);
      return a->id < b->id;
    });
    return nodes;
  }

  // Of two and more of the fastest nodes, at most as many as a plan has ranks.
  std::vector<StageNodes> subsets(size_t most_nodes) const {
    const size_t count = std::min(most_nodes, by_speed_.size());
    std::vector<StageNodes> sets;
    for (uint32_t set = 1; set < (1u << count); ++set) {
      const auto size = static_cast<size_t>(std::popcount(set));
      if (size < 2 || size > kMostPlannedRanks) continue;
      StageNodes nodes;
      for (size_t i = 0; i < count; ++i) {
        if ((set >> i & 1) != 0) nodes.push_back(by_speed_[i]);
      }
      sets.push_back(in_rank_order(nodes));
    }
    return sets;
  }

  // Of clusters too large for all subsets: the fastest few, and the few with most memory.
  std::vector<StageNodes> larger_sets() const {
    std::vector<StageNodes> sets;
    if (by_speed_.size() <= kMostNodesForDivisions) return sets;
    StageNodes by_memory = by_speed_;
    std::stable_sort(
        by_memory.begin(), by_memory.end(),
        [](const NodeFacts* a, const NodeFacts* b) { return free_bytes(*a) > free_bytes(*b); });
    for (const StageNodes& order : {by_speed_, by_memory}) {
      for (size_t size = 2; size <= std::min(kMostPlannedRanks, order.size()); ++size)
        sets.push_back(in_rank_order({order.begin(), order.begin() + static_cast<int64_t>(size)}));
    }
    return sets;
  }

  void add(Arrangement arrangement) {
    for (const StageNodes& stage : arrangement.stages) {
      if (stage.size() > most_in_group_) return;
    }
    if (arrangement.stages.size() > most_stages_) return;
    if (seen_.insert(arrangement.stages).second) found_.push_back(std::move(arrangement));
  }

  void add_pipeline(const StageNodes& nodes) {
    Arrangement pipeline;
    for (const NodeFacts* node : nodes) pipeline.stages.push_back({node});
    add(std::move(pipeline));
  }

  // Every way to divide the nodes into groups. A node joins a group of those before it or begins
  // the next, so each division comes once, its groups in the order of their first nodes.
  void add_divisions(const StageNodes& nodes) {
    Arrangement division;
    const auto place_from = [&](const auto& self, size_t at) -> void {
      if (at == nodes.size()) {
        if (division.mode() == PlanMode::kHybrid) add(division);
        return;
      }
      for (size_t group = 0; group <= division.stages.size(); ++group) {
        const bool is_new = group == division.stages.size();
        if (is_new) division.stages.emplace_back();
        division.stages[group].push_back(nodes[at]);
        self(self, at + 1);
        division.stages[group].pop_back();
        if (is_new) division.stages.pop_back();
        if (is_new) break;
      }
    };
    place_from(place_from, 0);
  }

  // Nodes grouped with those that they reach over links at least as fast as this and that one.
  void add_clusters(const StageNodes& nodes) {
    std::set<double> limits;
    for (size_t i = 0; i < nodes.size(); ++i) {
      for (size_t j = 0; j < i; ++j) limits.insert(exchange_s(*nodes[i], *nodes[j]));
    }
    for (const double limit : limits) {
      Arrangement clusters;
      for (const NodeFacts* node : nodes) {
        const auto near = [&](const StageNodes& stage) {
          return std::ranges::all_of(
              stage, [&](const NodeFacts* other) { return exchange_s(*node, *other) <= limit; });
        };
        const auto stage = std::ranges::find_if(clusters.stages, near);
        if (stage == clusters.stages.end()) {
          clusters.stages.push_back({node});
        } else {
          stage->push_back(node);
        }
      }
      if (clusters.mode() == PlanMode::kHybrid) add(std::move(clusters));
    }
  }

  void add_equal_groups(const StageNodes& nodes) {
    for (size_t size = 2; size <= nodes.size() / 2; ++size) {
      Arrangement groups;
      for (size_t at = 0; at < nodes.size(); ++at) {
        if (at % size == 0) groups.stages.emplace_back();
        groups.stages.back().push_back(nodes[at]);
      }
      add(std::move(groups));
    }
  }

  // Of some numbers as decode exchanges them; without a measured link, for ever.
  double exchange_s(const NodeFacts& a, const NodeFacts& b) const {
    constexpr double kSomeBytes = 16384;
    const LinkFacts* link = link_between(topology_, a, b);
    return link == nullptr ? 1e300
                           : send_s(kSomeBytes, {link->round_trip_s / 2, link->bytes_per_s});
  }

  const Topology& topology_;
  size_t most_in_group_;
  size_t most_stages_;
  StageNodes by_speed_;
  std::vector<Arrangement> found_;
  std::set<std::vector<StageNodes>> seen_;
};

void take_slower(GroupLink& slowest, const LinkFacts& link) {
  slowest.one_way_s = std::max(slowest.one_way_s, link.round_trip_s / 2);
  slowest.bytes_per_s =
      slowest.bytes_per_s == 0 ? link.bytes_per_s : std::min(slowest.bytes_per_s, link.bytes_per_s);
}

Status take_link(const Topology& topology, const NodeFacts& a, const NodeFacts& b,
                 GroupLink& slowest) {
  const LinkFacts* link = link_between(topology, a, b);
  if (link == nullptr) {
    return fail(ErrorCode::kUnreachable, "no link between {} and {} has been measured", name_of(a),
                name_of(b));
  }
  take_slower(slowest, *link);
  return {};
}

}  // namespace

size_t Arrangement::size() const {
  size_t count = 0;
  for (const StageNodes& stage : stages) count += stage.size();
  return count;
}

PlanMode Arrangement::mode() const {
  const size_t ranks = size();
  if (ranks == 1) return PlanMode::kOneNode;
  if (stages.size() == 1) return PlanMode::kTensor;
  return stages.size() == ranks ? PlanMode::kPipeline : PlanMode::kHybrid;
}

StageNodes Arrangement::nodes() const {
  StageNodes all;
  for (const StageNodes& stage : stages) all.insert(all.end(), stage.begin(), stage.end());
  return all;
}

std::string name_of(const NodeFacts& node) {
  return node.name.empty() ? node.id.substr(0, 8) : node.name;
}

std::string names_of(const Arrangement& arrangement) {
  std::string names;
  for (const StageNodes& stage : arrangement.stages) {
    if (!names.empty()) names += " > ";
    for (const NodeFacts* node : stage)
      names += (node == stage.front() ? "" : " + ") + name_of(*node);
  }
  return names;
}

std::vector<Arrangement> arrangements(const Topology& topology, const ModelCard& card) {
  return Arranger(topology, card).run();
}

const LinkFacts* link_between(const Topology& topology, const NodeFacts& a, const NodeFacts& b) {
  for (const LinkFacts& link : topology.links) {
    if (link.bytes_per_s <= 0) continue;
    if ((link.a == a.id && link.b == b.id) || (link.a == b.id && link.b == a.id)) return &link;
  }
  return nullptr;
}

Result<std::vector<Stage>> linked_stages(const Topology& topology, const Arrangement& arrangement) {
  std::vector<Stage> stages;
  const size_t count = arrangement.stages.size();
  for (size_t at = 0; at < count; ++at) {
    Stage stage;
    stage.nodes = arrangement.stages[at];
    for (size_t i = 0; i < stage.nodes.size(); ++i) {
      for (size_t j = 0; j < i; ++j)
        SHOAL_TRY(take_link(topology, *stage.nodes[i], *stage.nodes[j], stage.among));
    }
    const StageNodes& next = arrangement.stages[(at + 1) % count];
    if (at + 1 < count) {
      // Each rank of the next stage hears from one of this.
      for (size_t j = 0; j < next.size(); ++j)
        SHOAL_TRY(
            take_link(topology, *stage.nodes[j % stage.nodes.size()], *next[j], stage.onward));
      stage.onward_copies =
          static_cast<double>((next.size() + stage.nodes.size() - 1) / stage.nodes.size());
    } else if (count > 1) {
      SHOAL_TRY(take_link(topology, *stage.nodes.front(), *next.front(), stage.onward));
    }
    stages.push_back(std::move(stage));
  }
  return stages;
}

void cut_stages(std::vector<Stage>& stages, const ModelCard& card, const Fit& fit) {
  size_t rank = 0;
  for (Stage& stage : stages) {
    const Range layers = fit.cuts[rank].layers;
    stage.card = layers.size() > 0 ? card_of_layers(card, layers) : card;
    stage.cuts.clear();
    for (size_t i = 0; i < stage.nodes.size(); ++i) {
      stage.cuts.push_back(fit.cuts[rank++]);
      stage.cuts.back().layers = {};
    }
  }
}

}  // namespace shoal::placement
