// Cutting a model over ranks in proportion to their shares.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "models/model.h"

namespace shoal {
namespace {

// Shares that add up to one. Divided by the largest first, so that their sum cannot overflow.
Result<std::vector<double>> normalised(std::span<const double> shares) {
  if (shares.empty())
    return fail(ErrorCode::kInvalidArgument, "a model cannot be cut over no ranks");
  for (const double share : shares) {
    if (!std::isfinite(share) || share <= 0) {
      return fail(ErrorCode::kInvalidArgument,
                  "a rank's share of {} is not a finite number above zero", share);
    }
  }
  const double largest = std::ranges::max(shares);
  std::vector<double> out(shares.begin(), shares.end());
  for (double& share : out) share /= largest;
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& share : out) share /= sum;
  return out;
}

// Largest remainder, at least one each: whole numbers that add up to `units`, in proportion to
// shares that add up to one.
std::vector<int64_t> apportion(int64_t units, std::span<const double> shares) {
  std::vector<int64_t> counts;
  std::vector<double> quotas;
  for (const double share : shares) {
    quotas.push_back(share * static_cast<double>(units));
    counts.push_back(std::max<int64_t>(1, static_cast<int64_t>(std::floor(quotas.back()))));
  }
  int64_t given = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const auto lack = [&](size_t rank) { return quotas[rank] - static_cast<double>(counts[rank]); };
  while (given !=
         units) {  // at most as many turns as ranks: each count began within one of its quota
    size_t chosen = counts.size();
    for (size_t rank = 0; rank < counts.size(); ++rank) {
      if (given > units && counts[rank] == 1) continue;
      if (chosen == counts.size() ||
          (given < units ? lack(rank) > lack(chosen) : lack(rank) < lack(chosen)))
        chosen = rank;
    }
    counts[chosen] += given < units ? 1 : -1;
    given += given < units ? 1 : -1;
  }
  return counts;
}

int64_t unit_count(int64_t total, int64_t unit) {
  return (total + unit - 1) / unit;
}

std::vector<Range> ranges_of(std::span<const int64_t> counts, int64_t unit, int64_t total) {
  std::vector<Range> ranges;
  int64_t begin = 0;
  for (const int64_t count : counts) {
    const int64_t end = std::min(total, begin + count * unit);
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

// What is left of each rank's share once these bytes are given: the proportions for the next kind
// of weight.
std::vector<double> remaining_shares(std::span<const double> wanted_bytes,
                                     std::span<const double> given_bytes) {
  std::vector<double> left;
  for (size_t rank = 0; rank < wanted_bytes.size(); ++rank) {
    left.push_back(std::max(0.0, wanted_bytes[rank] - given_bytes[rank]));
  }
  const double sum = std::accumulate(left.begin(), left.end(), 0.0);
  for (double& share : left) share = sum > 0 ? share / sum : 1.0 / static_cast<double>(left.size());
  return left;
}

void give(std::vector<double>& given_bytes, std::span<const Range> ranges, uint64_t bytes_each) {
  for (size_t rank = 0; rank < ranges.size(); ++rank) {
    given_bytes[rank] += static_cast<double>(ranges[rank].size()) * static_cast<double>(bytes_each);
  }
}

// A query head with its share of the KV head that it reads.
uint64_t read_bytes_each(const ModelCard& card, CutKind kind) {
  const uint64_t bytes = card[kind].read_bytes_each;
  if (kind != CutKind::kHeads) return bytes;
  return bytes + card.kv_weight_bytes_each * static_cast<uint64_t>(card.kv_head_count) /
                     static_cast<uint64_t>(card.head_count);
}

// What a step of one row reads of the whole model's weights, by layer.
std::vector<double> read_bytes_of_layers(const ModelCard& card) {
  std::vector<double> bytes;
  for (const uint16_t kind : card.layers) {
    const LayerFacts& layer = card.layer_kinds[kind];
    double sum = static_cast<double>(layer.key_value_bytes + layer.replicated_bytes);
    for (const CutKind cut : kCutKinds) {
      const auto of_cut = static_cast<double>(layer.bytes[static_cast<size_t>(cut)]);
      sum += cut == CutKind::kExperts && card.expert_count > 0
                 ? of_cut * static_cast<double>(card.experts_used) /
                       static_cast<double>(card.expert_count)
                 : of_cut;
    }
    bytes.push_back(sum);
  }
  return bytes;
}

}  // namespace

Result<std::vector<Range>> partition_layers(const ModelCard& card, std::span<const double> shares) {
  SHOAL_ASSIGN(const std::vector<double> part, normalised(shares));
  const std::vector<double> layers = read_bytes_of_layers(card);
  if (part.size() > 1 && !card.layers_stand_alone) {
    return fail(ErrorCode::kDoesNotFit,
                "layers of {} read what others made beside the residual stream; it cannot be cut "
                "by layers",
                card.name);
  }
  if (layers.size() < part.size()) {
    return fail(ErrorCode::kDoesNotFit, "{} layers cannot be cut into {} stages", layers.size(),
                part.size());
  }
  const double all =
      std::accumulate(layers.begin(), layers.end(), 0.0) + static_cast<double>(card.head_bytes);
  std::vector<Range> ranges;
  size_t end = 0;
  double before = 0;  // bytes of the layers up to `end`
  double wanted = 0;  // and what the stages so far should have
  for (size_t stage = 0; stage < part.size(); ++stage) {
    const size_t begin = end;
    const size_t last_end = layers.size() - (part.size() - 1 - stage);
    wanted += part[stage] * all;
    // The border nearest to it.
    while (end < last_end && (end == begin || before + layers[end] / 2 <= wanted))
      before += layers[end++];
    if (stage + 1 == part.size()) end = layers.size();
    ranges.push_back({static_cast<int64_t>(begin), static_cast<int64_t>(end)});
  }
  return ranges;
}

int64_t most_ranks(const ModelCard& card) {
  int64_t most = INT32_MAX;
  for (const CutFacts& facts : card.cuts) {
    if (facts.count > 0) most = std::min(most, unit_count(facts.count, facts.finest_unit));
  }
  return most;
}

Result<std::vector<RankCut>> partition(const ModelCard& card, std::span<const double> shares,
                                       Balance balance) {
  if (card.kv_head_count < 1 || card.head_count < card.kv_head_count ||
      card[CutKind::kHeads].count < 1 || card[CutKind::kVocabulary].count < 1) {
    return fail(ErrorCode::kInvalidArgument,
                "the model card of '{}' lacks the counts that a cut needs", card.name);
  }
  SHOAL_ASSIGN(std::vector<double> part, normalised(shares));
  const size_t ranks = part.size();
  const auto ranks_count = static_cast<int64_t>(ranks);
  double all_bytes = 0;
  for (const CutKind kind : kCutKinds) {
    const CutFacts& facts = card[kind];
    if (facts.count == 0) continue;
    if (unit_count(facts.count, facts.finest_unit) < ranks_count) {
      return fail(ErrorCode::kDoesNotFit, "{} {}{} cannot be cut over {} ranks", facts.count,
                  cut_kind_words(kind),
                  facts.finest_unit == 1 ? "" : fmt::format(" in units of {}", facts.finest_unit),
                  ranks);
    }
    all_bytes +=
        static_cast<double>(read_bytes_each(card, kind)) * static_cast<double>(facts.count);
  }
  std::vector<double> wanted_bytes;
  for (const double share : part) wanted_bytes.push_back(share * all_bytes);
  std::vector<double> given_bytes(ranks, 0.0);

  std::vector<RankCut> cuts(ranks);
  // From coarse to fine, so that under kTotal each makes up for the rounding of those before it.
  for (const CutKind kind : kCutKinds) {
    const CutFacts& facts = card[kind];
    if (facts.count == 0) continue;
    const bool enough = unit_count(facts.count, facts.unit) >= ranks_count;
    const int64_t unit = enough ? facts.unit : facts.finest_unit;
    const auto ranges =
        ranges_of(apportion(unit_count(facts.count, unit), part), unit, facts.count);
    give(given_bytes, ranges, read_bytes_each(card, kind));
    if (balance == Balance::kTotal) part = remaining_shares(wanted_bytes, given_bytes);
    for (size_t rank = 0; rank < ranks; ++rank) cuts[rank][kind] = ranges[rank];
  }
  return cuts;
}

}  // namespace shoal
