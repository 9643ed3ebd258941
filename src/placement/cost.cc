#include "placement/cost.h"

#include <algorithm>

namespace shoal::placement {
namespace {

constexpr int64_t kStepRows = 512;
constexpr int64_t kWantedRows = 64;

// What a part of the program (attention, feed-forward, head) costs one rank.
struct PartCost {
  double read_bytes = 0;     // once per step
  double multiply_adds = 0;  // per row
};

int64_t query_heads_per_kv_head(const ModelCard& card) {
  return std::max<int64_t>(1, card.head_count / std::max<int64_t>(1, card.kv_head_count));
}

PartCost attention_cost(const ModelCard& card, const RankCut& cut, KvType kv_type) {
  const auto heads = static_cast<double>(cut.kv_heads.size());
  const auto queries = static_cast<double>(query_heads_per_kv_head(card));
  const auto history = static_cast<double>(kReferencePromptTokens);
  const double width = static_cast<double>(card.head_dimension) * heads * card.layer_count;
  PartCost cost;
  cost.read_bytes = heads * static_cast<double>(card.attention_bytes_per_kv_head) +
                    history * static_cast<double>(kv_bytes_per_token(card, cut, kv_type));
  cost.multiply_adds = width * (static_cast<double>(card.hidden) * (2 * queries + 2) +
                                history * queries);  // on average half the history, twice over it
  return cost;
}

PartCost feed_forward_cost(const ModelCard& card, const RankCut& cut) {
  const auto columns = static_cast<double>(cut.feed_forward.size());
  return {columns * static_cast<double>(card.feed_forward_bytes_per_column),
          columns * 3 * static_cast<double>(card.hidden) * card.layer_count};
}

PartCost head_cost(const ModelCard& card, const RankCut& cut) {
  const auto rows = static_cast<double>(cut.vocabulary.size());
  return {rows * static_cast<double>(card.head_bytes_per_row),
          rows * static_cast<double>(card.hidden)};
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

uint64_t kv_bytes(int64_t context, int64_t sequences, uint64_t bytes_per_token) {
  // A context and a card are somebody's word: what no machine has must not wrap around to little.
  constexpr double kBeyondAnyMachine = 0x1p60;
  const double bytes = static_cast<double>(context) * static_cast<double>(sequences) *
                       static_cast<double>(bytes_per_token);
  if (bytes >= kBeyondAnyMachine) return static_cast<uint64_t>(kBeyondAnyMachine);
  return static_cast<uint64_t>(context) * static_cast<uint64_t>(sequences) * bytes_per_token;
}

RankNeed rank_need(const ModelCard& card, const RankCut& cut, int64_t context, int64_t sequences,
                   KvType kv_type) {
  const auto queries = static_cast<uint64_t>(query_heads_per_kv_head(card));
  const auto head_width = static_cast<uint64_t>(card.head_dimension);
  const auto heads = static_cast<uint64_t>(cut.kv_heads.size());
  const uint64_t row_floats = 4 * static_cast<uint64_t>(card.hidden) +
                              heads * head_width * (2 * queries + 2) +
                              2 * static_cast<uint64_t>(cut.feed_forward.size());
  const uint64_t wanted_floats =
      static_cast<uint64_t>(card.hidden) + static_cast<uint64_t>(cut.vocabulary.size());
  RankNeed need;
  need.weight_bytes = weight_bytes(card, cut);
  need.kv_bytes = kv_bytes(context, sequences, kv_bytes_per_token(card, cut, kv_type));
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
