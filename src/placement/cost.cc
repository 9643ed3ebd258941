#include "placement/cost.h"

#include <algorithm>

namespace shoal::placement {
namespace {

constexpr int64_t kWantedRows = 64;

// What a part of the program (attention, feed-forward, head) costs one rank.
struct PartCost {
  double read_bytes = 0;     // once per step
  double multiply_adds = 0;  // per row
};

double weights_per_byte(const ModelCard& card) {
  return static_cast<double>(card.parameter_count) /
         static_cast<double>(std::max<uint64_t>(1, card.file_bytes));
}

// Every kind of part is read once a step; a row of a matrix of its costs as many multiplications as
// it has bytes, at the type's bits per weight.
PartCost part_cost(const ModelCard& card, const RankCut& cut, CutKind kind) {
  const auto count = static_cast<double>(cut[kind].size());
  const double read = count * static_cast<double>(card[kind].read_bytes_each);
  return {read, read * weights_per_byte(card)};
}

PartCost attention_cost(const ModelCard& card, const RankCut& cut, KvType kv_type) {
  PartCost cost = part_cost(card, cut, CutKind::kHeads);
  const auto kv_heads = static_cast<double>(
      kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count).size());
  const double kv_weights = kv_heads * static_cast<double>(card.kv_weight_bytes_each);
  cost.read_bytes += kv_weights + static_cast<double>(kv_bytes(card, cut, kv_type,
                                                               kReferencePromptTokens, kStepRows));
  cost.multiply_adds += kv_weights * weights_per_byte(card);
  // On average half the history, once for scores and once for values.
  for (const CacheFacts& cache : card.caches) {
    cost.multiply_adds += static_cast<double>(cut[CutKind::kHeads].size()) *
                          static_cast<double>(cache.head_dimension) *
                          static_cast<double>(cache.layer_count) *
                          static_cast<double>(kReferencePromptTokens);
  }
  return cost;
}

// The slowest of these waits for nobody: experts, the shared one and the feed-forward of other
// layers are all between two meetings.
PartCost feed_forward_cost(const ModelCard& card, const RankCut& cut) {
  PartCost sum;
  for (const CutKind kind : {CutKind::kFeedForward, CutKind::kExperts, CutKind::kSharedExpert}) {
    const PartCost part = part_cost(card, cut, kind);
    sum.read_bytes += part.read_bytes;
    sum.multiply_adds += part.multiply_adds;
  }
  return sum;
}

PartCost head_cost(const ModelCard& card, const RankCut& cut) {
  return part_cost(card, cut, CutKind::kVocabulary);
}

double seconds(const PartCost& cost, const NodeFacts& node, double rows) {
  const double reading = cost.read_bytes / decode_speed(node);
  if (node.multiply_adds_per_s <= 0) return reading;
  return std::max(reading, rows * cost.multiply_adds / node.multiply_adds_per_s);
}

struct StepTime {
  double layers_s = 0;
  double head_s = 0;
};

StepTime step_time(const ModelCard& card, std::span<const NodeFacts* const> nodes,
                   std::span<const RankCut> cuts, const GroupLink& link, KvType kv_type,
                   double rows) {
  double attention = 0;
  double feed_forward = 0;
  double head = 0;
  double replicated = 0;
  for (size_t rank = 0; rank < cuts.size(); ++rank) {
    const NodeFacts& node = *nodes[rank];
    attention = std::max(attention, seconds(attention_cost(card, cuts[rank], kv_type), node, rows));
    feed_forward = std::max(feed_forward, seconds(feed_forward_cost(card, cuts[rank]), node, rows));
    head = std::max(head, seconds(head_cost(card, cuts[rank]), node, 1));
    replicated =
        std::max(replicated, static_cast<double>(card.replicated_bytes) / node.read_bytes_per_s);
  }
  const auto layers = static_cast<double>(card.layer_count);
  StepTime time;
  time.layers_s = attention + feed_forward + replicated + layers * kLayerFixedSeconds;
  time.head_s = head;
  if (cuts.size() > 1) {
    // Direct exchange of fp32 rows: every rank sends to every other (docs/formats/control-plane.md
    // has the figures' source).
    const double payload = rows * static_cast<double>(card.hidden) * sizeof(float);
    const double reduce =
        link.one_way_s + static_cast<double>(cuts.size() - 1) * payload / link.bytes_per_s;
    time.layers_s += (2 * layers + 2) * reduce;
  }
  return time;
}

}  // namespace

double decode_speed(const NodeFacts& node) {
  return node.decode_bytes_per_s > 0 ? node.decode_bytes_per_s
                                     : node.read_bytes_per_s * kDecodeEfficiency;
}

RankNeed rank_need(const ModelCard& card, const RankCut& cut, int64_t context, int64_t sequences,
                   KvType kv_type) {
  const auto width = [&](CutKind kind) { return static_cast<uint64_t>(cut[kind].size()); };
  const auto head_width = static_cast<uint64_t>(card.head_dimension);
  const auto kv_heads = static_cast<uint64_t>(
      kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count).size());
  const auto used = static_cast<uint64_t>(card.experts_used);
  const uint64_t row_floats =
      4 * static_cast<uint64_t>(card.hidden) +
      head_width * (2 * width(CutKind::kHeads) + 2 * kv_heads) +
      2 * (width(CutKind::kFeedForward) + width(CutKind::kSharedExpert)) +
      used * (2 * width(CutKind::kExperts) + static_cast<uint64_t>(card.hidden));
  const uint64_t wanted_floats = static_cast<uint64_t>(card.hidden) + width(CutKind::kVocabulary);
  RankNeed need;
  need.weight_bytes = weight_bytes(card, cut);
  const uint64_t each = kv_bytes(card, cut, kv_type, context, kStepRows);
  need.kv_bytes =
      std::min(kBeyondAnyMachineBytes / static_cast<uint64_t>(std::max<int64_t>(1, sequences)),
               each) *
      static_cast<uint64_t>(sequences);
  need.activation_bytes = sizeof(float) * (kStepRows * row_floats + kWantedRows * wanted_floats);
  need.memory_bytes =
      static_cast<uint64_t>(kRepackFactor * static_cast<double>(need.weight_bytes)) +
      need.kv_bytes + need.activation_bytes + kRankFixedBytes;
  return need;
}

double Prediction::answer_s() const {
  return time_to_first_token_s + (kReferenceAnswerTokens - 1) / decode_tokens_per_s;
}

Prediction predict(const ModelCard& card, std::span<const NodeFacts* const> nodes,
                   std::span<const RankCut> cuts, const GroupLink& link, KvType kv_type) {
  const StepTime decode = step_time(card, nodes, cuts, link, kv_type, 1);
  const StepTime prompt = step_time(card, nodes, cuts, link, kv_type, kReferencePromptTokens);
  Prediction prediction;
  prediction.decode_tokens_per_s = 1 / (decode.layers_s + decode.head_s);
  prediction.prefill_tokens_per_s = kReferencePromptTokens / (prompt.layers_s + prompt.head_s);
  prediction.time_to_first_token_s = prompt.layers_s + prompt.head_s;
  return prediction;
}

}  // namespace shoal::placement
