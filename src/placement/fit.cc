#include "placement/fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace shoal::placement {
namespace {

constexpr double kSmallestShare = 1e-6;

// How many units of each kind a rank holds; ranges follow from the ranks before it.
using Counts = std::array<int64_t, kCutKinds.size()>;

int64_t& of(Counts& counts, CutKind kind) {
  return counts[static_cast<size_t>(kind)];
}

RankCut cut_of(const Counts& counts) {
  RankCut cut;
  for (size_t kind = 0; kind < counts.size(); ++kind) cut.ranges[kind] = {0, counts[kind]};
  return cut;
}

std::vector<RankCut> cuts_of(std::span<const Counts> counts) {
  std::vector<RankCut> cuts;
  RankCut last{};
  for (const Counts& mine : counts) {
    for (size_t kind = 0; kind < mine.size(); ++kind)
      last.ranges[kind] = {last.ranges[kind].end, last.ranges[kind].end + mine[kind]};
    cuts.push_back(last);
  }
  return cuts;
}

struct Problem {
  const ModelCard& card;
  std::span<const NodeFacts* const> nodes;
  int64_t context;
  int64_t sequences;
  KvType kv_type;

  RankNeed need(const Counts& counts) const {
    return rank_need(card, cut_of(counts), context, sequences, kv_type);
  }
  // Positive: bytes to spare. Negative: bytes lacking.
  double room(size_t rank, const Counts& counts) const {
    return static_cast<double>(free_bytes(*nodes[rank])) -
           static_cast<double>(need(counts).memory_bytes);
  }
};

// One kind of unit that may move from rank to rank, finest first.
struct UnitKind {
  CutKind kind;
  int64_t step;
};
std::vector<UnitKind> unit_kinds(const Problem& problem) {
  std::vector<UnitKind> kinds;
  for (const CutKind kind : {CutKind::kFeedForward, CutKind::kExperts, CutKind::kVocabulary,
                             CutKind::kSharedExpert, CutKind::kHeads}) {
    const CutFacts& facts = problem.card[kind];
    const auto ranks = static_cast<int64_t>(problem.nodes.size());
    const bool enough = (facts.count + facts.unit - 1) / facts.unit >= ranks;
    if (facts.count > 0) kinds.push_back({kind, enough ? facts.unit : facts.finest_unit});
  }
  return kinds;
}

double bytes_of_step(const Problem& problem, Counts counts, const UnitKind& kind) {
  const double with = static_cast<double>(problem.need(counts).memory_bytes);
  of(counts, kind.kind) -= kind.step;
  return with - static_cast<double>(problem.need(counts).memory_bytes);
}

// Moves units of one kind from a rank that lacks memory to one that has room. False when none can
// move.
bool relieve(const Problem& problem, std::vector<Counts>& counts, size_t from, size_t to,
             const UnitKind& kind) {
  const int64_t spare_steps = (of(counts[from], kind.kind) - 1) / kind.step;  // one unit stays
  if (spare_steps < 1) return false;
  const double step_bytes = bytes_of_step(problem, counts[from], kind);
  if (step_bytes <= 0) return false;
  const double lacking = -problem.room(from, counts[from]);
  const double room = problem.room(to, counts[to]);
  // One more than the quotient: memory is rounded to bytes at both ends.
  const auto most = static_cast<double>(spare_steps);
  const auto wanted = static_cast<int64_t>(std::min(most, lacking / step_bytes)) + 1;
  const auto taken = static_cast<int64_t>(std::min(most, std::max(0.0, room) / step_bytes));
  int64_t steps = std::min({spare_steps, wanted, taken});
  for (; steps > 0; --steps) {
    Counts fuller = counts[to];
    of(fuller, kind.kind) += steps * kind.step;
    if (problem.room(to, fuller) >= 0) break;
  }
  if (steps < 1) return false;
  of(counts[from], kind.kind) -= steps * kind.step;
  of(counts[to], kind.kind) += steps * kind.step;
  return true;
}

size_t rank_with(const Problem& problem, const std::vector<Counts>& counts, bool most_room) {
  size_t best = 0;
  for (size_t rank = 1; rank < counts.size(); ++rank) {
    const double room = problem.room(rank, counts[rank]);
    const double best_room = problem.room(best, counts[best]);
    if (most_room ? room > best_room : room < best_room) best = rank;
  }
  return best;
}

void settle(const Problem& problem, std::vector<Counts>& counts) {
  const auto kinds = unit_kinds(problem);
  // Every move either ends a rank's lack, fills a rank, or empties a kind: a few per pair of ranks
  // are enough.
  const size_t most_moves = 4 * counts.size() * counts.size() * kinds.size();
  for (size_t move = 0; move < most_moves; ++move) {
    const size_t from = rank_with(problem, counts, false);
    if (problem.room(from, counts[from]) >= 0) return;
    const size_t to = rank_with(problem, counts, true);
    const bool moved = std::any_of(kinds.begin(), kinds.end(), [&](const UnitKind& kind) {
      return relieve(problem, counts, from, to, kind);
    });
    if (!moved) return;
  }
}

std::vector<double> wanted_shares(const Problem& problem) {
  const double fixed = static_cast<double>(problem.need(Counts{}).memory_bytes);
  const RankCut all = whole(problem.card);
  const double variable = static_cast<double>(rank_need(problem.card, all, problem.context,
                                                        problem.sequences, problem.kv_type)
                                                  .memory_bytes) -
                          fixed;
  std::vector<double> speeds;
  std::vector<double> caps;
  for (const NodeFacts* node : problem.nodes) {
    speeds.push_back(decode_speed(*node));
    caps.push_back(
        std::max(0.0, (static_cast<double>(free_bytes(*node)) - fixed) / std::max(1.0, variable)));
  }
  return fill_shares(speeds, caps);
}

}  // namespace

uint64_t free_bytes(const NodeFacts& node) {
  return node.memory_bytes > node.memory_reserved_bytes
             ? node.memory_bytes - node.memory_reserved_bytes
             : 0;
}

std::vector<double> fill_shares(std::span<const double> weights, std::span<const double> caps) {
  const size_t count = weights.size();
  std::vector<double> shares(count, 0);
  const double capacity = std::accumulate(caps.begin(), caps.end(), 0.0);
  if (capacity <= 1) {
    for (size_t i = 0; i < count; ++i) {
      shares[i] = capacity > 0 ? caps[i] / capacity : 1.0 / static_cast<double>(count);
    }
    return shares;
  }
  std::vector<bool> full(count, false);
  // Each round fills at least one more, or ends.
  for (size_t round = 0; round <= count; ++round) {
    double left = 1;
    double open_weight = 0;
    for (size_t i = 0; i < count; ++i) {
      if (full[i])
        left -= shares[i];
      else
        open_weight += weights[i];
    }
    bool overflowed = false;
    for (size_t i = 0; i < count; ++i) {
      if (full[i]) continue;
      shares[i] = left * weights[i] / open_weight;
      if (shares[i] > caps[i]) {
        shares[i] = caps[i];
        full[i] = true;
        overflowed = true;
      }
    }
    if (!overflowed) break;
  }
  return shares;
}

namespace {

Result<std::vector<RankCut>> cut_group(const Problem& problem, std::span<const double> shares,
                                       Balance balance) {
  SHOAL_ASSIGN(const std::vector<RankCut> cuts, partition(problem.card, shares, balance));
  std::vector<Counts> counts;
  for (const RankCut& cut : cuts) {
    Counts& mine = counts.emplace_back();
    for (size_t kind = 0; kind < mine.size(); ++kind) mine[kind] = cut.ranges[kind].size();
  }
  settle(problem, counts);
  return cuts_of(counts);
}

Fit judge(const Problem& problem, std::vector<RankCut> cuts) {
  Fit fit;
  fit.cuts = std::move(cuts);
  fit.fits = true;
  double most_lacking = 0;
  for (size_t rank = 0; rank < fit.cuts.size(); ++rank) {
    fit.needs.push_back(rank_need(problem.card, fit.cuts[rank], problem.context, problem.sequences,
                                  problem.kv_type));
    const double lacking = static_cast<double>(fit.needs.back().memory_bytes) -
                           static_cast<double>(free_bytes(*problem.nodes[rank]));
    if (lacking <= most_lacking) continue;
    most_lacking = lacking;
    fit.worst_rank = rank;
    fit.fits = false;
  }
  return fit;
}

}  // namespace

Result<Fit> fit_group(const ModelCard& card, std::span<const NodeFacts* const> nodes,
                      int64_t context, int64_t sequences, KvType kv_type) {
  const Problem problem{card, nodes, context, sequences, kv_type};
  if (nodes.size() == 1) return judge(problem, {whole(card)});
  std::vector<double> shares = wanted_shares(problem);
  for (double& share : shares) share = std::max(share, kSmallestShare);
  SHOAL_ASSIGN(std::vector<RankCut> cuts, cut_group(problem, shares, Balance::kEachKind));
  Fit fit = judge(problem, std::move(cuts));
  if (fit.fits) return fit;
  // Memory decides here, not speed: what a rank's few KV heads take too much, its columns give
  // back.
  SHOAL_ASSIGN(cuts, cut_group(problem, shares, Balance::kTotal));
  Fit tighter = judge(problem, std::move(cuts));
  return tighter.fits ? std::move(tighter) : std::move(fit);
}

}  // namespace shoal::placement
