#include "placement/fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

namespace shoal::placement {
namespace {

constexpr double kSmallestShare = 1e-6;

// How many units of each kind a rank holds; ranges follow from the ranks before it.
using Counts = std::array<int64_t, kCutKinds.size()>;

int64_t& of(Counts& counts, CutKind kind) {
  return counts[static_cast<size_t>(kind)];
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

  RankNeed need_of(const RankCut& cut) const {
    return rank_need(card, cut, context, sequences, kv_type);
  }
  double memory_of(const RankCut& cut) const {
    return static_cast<double>(need_of(cut).memory_bytes);
  }
  // Who leads stays the same, whatever units it has.
  double movable_bytes(const RankCut& cut) const {
    const RankNeed need = need_of(cut);
    return static_cast<double>(need.memory_bytes - need.lead_bytes);
  }
  // Positive: bytes to spare. Negative: bytes lacking. Which KV heads a rank holds depends on where
  // its heads begin, hence on the ranks before it.
  double room(size_t rank, const RankCut& cut) const {
    return static_cast<double>(free_bytes(*nodes[rank])) - memory_of(cut);
  }
  std::vector<double> rooms(std::span<const Counts> counts) const {
    std::vector<double> rooms(counts.size());
    refresh_rooms(counts, 0, counts.size() - 1, rooms);
    return rooms;
  }
  // Of the ranks `first` to `last` alone: the counts of the others, and where theirs begin, stayed.
  void refresh_rooms(std::span<const Counts> counts, size_t first, size_t last,
                     std::vector<double>& rooms) const {
    RankCut cut{};
    for (size_t rank = 0; rank <= last; ++rank) {
      for (size_t kind = 0; kind < counts[rank].size(); ++kind)
        cut.ranges[kind] = {cut.ranges[kind].end, cut.ranges[kind].end + counts[rank][kind]};
      if (rank >= first) rooms[rank] = room(rank, cut);
    }
  }
};

// One kind of unit that may move from rank to rank, finest first.
struct UnitKind {
  CutKind kind;
  int64_t step;
  double step_bytes;  // on average, as a step of heads may or may not take a KV head along
};
std::vector<UnitKind> unit_kinds(const Problem& problem) {
  std::vector<UnitKind> kinds;
  const double whole_bytes = problem.movable_bytes(whole(problem.card));
  for (const CutKind kind : {CutKind::kFeedForward, CutKind::kExperts, CutKind::kVocabulary,
                             CutKind::kSharedExpert, CutKind::kHeads}) {
    const CutFacts& facts = problem.card[kind];
    if (facts.count <= 0) continue;
    const auto ranks = static_cast<int64_t>(problem.nodes.size());
    const bool enough = (facts.count + facts.unit - 1) / facts.unit >= ranks;
    const int64_t step = enough ? facts.unit : facts.finest_unit;
    RankCut without = whole(problem.card);
    without[kind] = {0, 0};
    const double bytes = whole_bytes - problem.movable_bytes(without);
    kinds.push_back(
        {kind, step, bytes * static_cast<double>(step) / static_cast<double>(facts.count)});
  }
  return kinds;
}

// What every rank holds, and the room that it leaves.
struct Holdings {
  std::vector<Counts> counts;
  std::vector<double> rooms;
};

// Moves units when that helps `from` and takes nobody over their memory; else changes nothing.
// Ranks between the two keep their counts, but where their heads begin moves too.
bool move_units(const Problem& problem, Holdings& now, Holdings& after, size_t from, size_t to,
                CutKind kind, int64_t units) {
  after = now;
  of(after.counts[from], kind) -= units;
  of(after.counts[to], kind) += units;
  const auto [first, last] = std::minmax(from, to);
  problem.refresh_rooms(after.counts, first, last, after.rooms);
  if (after.rooms[from] <= now.rooms[from]) return false;
  for (size_t rank = first; rank <= last; ++rank) {
    if (after.rooms[rank] < std::min(0.0, now.rooms[rank])) return false;
  }
  std::swap(now, after);
  return true;
}

// Moves units of one kind from a rank that lacks memory to one that has room. False when none can
// move.
bool relieve(const Problem& problem, Holdings& now, Holdings& after, size_t from, size_t to,
             const UnitKind& kind) {
  const int64_t spare_steps = (of(now.counts[from], kind.kind) - 1) / kind.step;  // one unit stays
  if (spare_steps < 1) return false;
  if (kind.step_bytes <= 0) return false;
  const double lacking = -now.rooms[from];
  const double room = now.rooms[to];
  // One more than the quotient: memory is rounded to bytes at both ends.
  const auto most = static_cast<double>(spare_steps);
  const auto wanted = static_cast<int64_t>(std::min(most, lacking / kind.step_bytes)) + 1;
  const auto taken = static_cast<int64_t>(std::min(most, std::max(0.0, room) / kind.step_bytes));
  for (int64_t steps = std::min({spare_steps, wanted, taken}); steps > 0; --steps) {
    if (move_units(problem, now, after, from, to, kind.kind, steps * kind.step)) return true;
  }
  return false;
}

void settle(const Problem& problem, std::vector<Counts>& counts) {
  Holdings now{counts, problem.rooms(counts)};
  if (std::ranges::min(now.rooms) >= 0) return;
  Holdings after;
  const auto kinds = unit_kinds(problem);
  // Every move either ends a rank's lack, fills a rank, or empties a kind: a few per pair of ranks
  // are enough.
  const size_t most_moves = 4 * counts.size() * counts.size() * kinds.size();
  for (size_t move = 0; move < most_moves; ++move) {
    const auto from = static_cast<size_t>(std::ranges::min_element(now.rooms) - now.rooms.begin());
    if (now.rooms[from] >= 0) break;
    const auto to = static_cast<size_t>(std::ranges::max_element(now.rooms) - now.rooms.begin());
    const bool moved = std::any_of(kinds.begin(), kinds.end(), [&](const UnitKind& kind) {
      return relieve(problem, now, after, from, to, kind);
    });
    if (!moved) break;
  }
  counts = std::move(now.counts);
}

std::vector<double> wanted_shares(const Problem& problem) {
  const double fixed = problem.memory_of(RankCut{});
  const double variable = problem.memory_of(whole(problem.card)) - fixed;
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
    fit.needs.push_back(problem.need_of(fit.cuts[rank]));
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

namespace {

// Layers over stages, when shares alone do not fit.
class StageFitter {
 public:
  StageFitter(const ModelCard& card, std::span<const StageNodes> stages, int64_t context,
              int64_t sequences, KvType kv_type)
      : card_(card), stages_(stages), context_(context), sequences_(sequences), kv_type_(kv_type) {}

  Result<Fit> group(size_t stage, Range layers) const {
    return fit_group(card_of_layers(card_, layers), stages_[stage], context_, sequences_, kv_type_);
  }

  Result<Fit> joined(std::span<const Range> ranges) const {
    Fit all;
    all.fits = true;
    uint64_t most_lacking = 0;
    for (size_t stage = 0; stage < ranges.size(); ++stage) {
      SHOAL_ASSIGN(Fit fit, group(stage, ranges[stage]));
      for (size_t rank = 0; rank < fit.cuts.size(); ++rank) {
        fit.cuts[rank].layers = ranges[stage];
        const uint64_t present = free_bytes(*stages_[stage][rank]);
        const uint64_t needed = fit.needs[rank].memory_bytes;
        if (needed > present && needed - present > most_lacking) {
          most_lacking = needed - present;
          all.worst_rank = all.cuts.size();
        }
        all.cuts.push_back(fit.cuts[rank]);
        all.needs.push_back(fit.needs[rank]);
      }
      all.fits = all.fits && fit.fits;
    }
    return all;
  }

  // Borders near those wanted that fit; nothing where none do. A stage that holds some layers can
  // hold fewer of them, so taking as many as fit from the last stage on shows how late each may
  // begin.
  std::optional<std::vector<Range>> within_memory(std::span<const Range> wanted) const {
    const int64_t layers = card_.layer_count;
    const auto count = static_cast<int64_t>(stages_.size());
    std::vector<int64_t> latest(stages_.size() + 1, layers);  // beginnings
    for (int64_t stage = count - 1; stage > 0; --stage) {
      const int64_t end = latest[static_cast<size_t>(stage + 1)];
      const auto begin = first_begin(static_cast<size_t>(stage), {stage, end});
      if (!begin) return std::nullopt;
      latest[static_cast<size_t>(stage)] = *begin;
    }
    std::vector<Range> ranges;
    int64_t begin = 0;
    for (int64_t stage = 0; stage < count; ++stage) {
      const int64_t least = std::max(begin + 1, latest[static_cast<size_t>(stage + 1)]);
      const int64_t most = layers - (count - 1 - stage);
      if (least > most) return std::nullopt;
      const int64_t near = std::clamp(wanted[static_cast<size_t>(stage)].end, least, most);
      const auto end = last_end(static_cast<size_t>(stage), begin, least, near);
      if (!end) return std::nullopt;
      ranges.push_back({begin, *end});
      begin = *end;
    }
    return ranges;
  }

 private:
  bool fits(size_t stage, Range layers) const {
    const Result<Fit> fit = group(stage, layers);
    return fit && fit->fits;
  }
  // The least beginning from which the stage holds everything up to the end.
  std::optional<int64_t> first_begin(size_t stage, Range layers) const {
    if (layers.size() < 1 || !fits(stage, {layers.end - 1, layers.end})) return std::nullopt;
    int64_t bad = layers.begin - 1;
    int64_t good = layers.end - 1;
    while (good - bad > 1) {
      const int64_t middle = bad + (good - bad) / 2;
      (fits(stage, {middle, layers.end}) ? good : bad) = middle;
    }
    return good;
  }
  std::optional<int64_t> last_end(size_t stage, int64_t begin, int64_t least, int64_t most) const {
    if (fits(stage, {begin, most})) return most;
    if (least == most || !fits(stage, {begin, least})) return std::nullopt;
    int64_t good = least;
    int64_t bad = most;
    while (bad - good > 1) {
      const int64_t middle = good + (bad - good) / 2;
      (fits(stage, {begin, middle}) ? good : bad) = middle;
    }
    return good;
  }

  const ModelCard& card_;
  std::span<const StageNodes> stages_;
  int64_t context_;
  int64_t sequences_;
  KvType kv_type_;
};

// How fast each stage is. Arithmetic counts where everybody's is known.
std::vector<double> stage_shares(std::span<const StageNodes> stages, LayerBalance balance) {
  const auto known = [](const NodeFacts* node) { return node->multiply_adds_per_s > 0; };
  const bool by_arithmetic =
      balance == LayerBalance::kPrompt && std::ranges::all_of(stages, [&](const StageNodes& nodes) {
        return std::ranges::all_of(nodes, known);
      });
  std::vector<double> shares;
  for (const StageNodes& nodes : stages) {
    double speed = 0;
    for (const NodeFacts* node : nodes)
      speed += by_arithmetic ? node->multiply_adds_per_s : decode_speed(*node);
    shares.push_back(speed);
  }
  return shares;
}

}  // namespace

Result<std::vector<Range>> balanced_layers(const ModelCard& card, std::span<const double> shares,
                                           LayerBalance balance) {
  if (balance == LayerBalance::kTokens) return partition_layers(card, shares);
  ModelCard headless = card;
  headless.head_bytes = 0;
  return partition_layers(headless, shares);
}

Result<Fit> fit_stages(const ModelCard& card, std::span<const StageNodes> stages, int64_t context,
                       int64_t sequences, KvType kv_type, LayerBalance balance) {
  if (stages.size() == 1) return fit_group(card, stages[0], context, sequences, kv_type);
  const std::vector<double> shares = stage_shares(stages, balance);
  SHOAL_ASSIGN(const std::vector<Range> wanted, balanced_layers(card, shares, balance));
  const StageFitter fitter(card, stages, context, sequences, kv_type);
  SHOAL_ASSIGN(Fit fit, fitter.joined(wanted));
  if (fit.fits) return fit;
  const auto moved = fitter.within_memory(wanted);
  if (!moved) return fit;
  return fitter.joined(*moved);
}

}  // namespace shoal::placement
