#include "placement/cost.h"

#include <algorithm>
#include <cmath>

namespace shoal::placement {
namespace {

constexpr int64_t kWantedRows = 64;

// What a part of the program (attention, feed-forward, head) costs one rank.
struct PartCost {
  double read_bytes = 0;           // once per step
  double multiply_adds = 0;        // per row, of quantised weights
  double float_multiply_adds = 0;  // per row, of plain floats, and what else takes as long
};

// Of layers. Files give tables of the vocabulary another type, which in a small model says much of
// the average; how many numbers those hold is known.
double weights_per_byte(const ModelCard& card) {
  const auto parameters = static_cast<double>(card.parameter_count);
  const auto bytes = static_cast<double>(std::max<uint64_t>(1, card.file_bytes));
  const double table = static_cast<double>(card[CutKind::kVocabulary].count * card.hidden);
  const double tables = card.tied_embedding ? table : 2 * table;
  const auto table_bytes = static_cast<double>(
      card.tied_embedding ? card.head_bytes : card.embedding_bytes + card.head_bytes);
  return parameters > tables && bytes > table_bytes && table_bytes > 0
             ? (parameters - tables) / (bytes - table_bytes)
             : parameters / bytes;
}

bool is_of_floats(const ModelCard& card) {
  return card.quantisation == "F32" || card.quantisation == "F16" || card.quantisation == "BF16";
}

void add_weights(const ModelCard& card, double bytes_per_row, PartCost& cost) {
  (is_of_floats(card) ? cost.float_multiply_adds : cost.multiply_adds) +=
      bytes_per_row * weights_per_byte(card);
}

// A norm, a residual and quantising its result are of the whole width on every rank, the rest of
// what it holds.
void add_values(const ModelCard& card, double values_of_rank, PartCost& cost) {
  cost.float_multiply_adds += kMultiplyAddsPerValue * static_cast<double>(card.layer_count) *
                              (3 * static_cast<double>(card.hidden) + values_of_rank);
}

// What a step consists of.
struct StepShape {
  double rows = 1;
  double sequences = 1;                      // whose histories are read
  int64_t history = kReferencePromptTokens;  // tokens in each
};

// Every kind of part is read once a step, of experts what the rows use; a row of a matrix of its
// costs as many multiplications as it has bytes, at the type's bits per weight.
PartCost part_cost(const ModelCard& card, const RankCut& cut, CutKind kind, double rows) {
  const auto count = static_cast<double>(cut[kind].size());
  const auto row_bytes = static_cast<double>(card[kind].read_bytes_each);
  const double read = kind == CutKind::kExperts
                          ? std::min(rows * row_bytes, static_cast<double>(card[kind].bytes_each))
                          : row_bytes;
  PartCost cost{.read_bytes = count * read};
  if (kind == CutKind::kVocabulary) {
    cost.multiply_adds = count * static_cast<double>(card.hidden);
  } else {
    add_weights(card, count * row_bytes, cost);
  }
  return cost;
}

PartCost attention_cost(const ModelCard& card, const RankCut& cut, const StepShape& step,
                        KvType kv_type) {
  PartCost cost = part_cost(card, cut, CutKind::kHeads, step.rows);
  const auto heads = static_cast<double>(cut[CutKind::kHeads].size());
  const auto kv_heads = static_cast<double>(
      kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count).size());
  const double kv_weights = kv_heads * static_cast<double>(card.kv_weight_bytes_each);
  const auto history = static_cast<double>(kv_bytes(card, cut, kv_type, step.history, kStepRows));
  cost.read_bytes += kv_weights + step.sequences * history;
  add_weights(card, kv_weights, cost);
  // Rotated, and of what attention gives quantised.
  add_values(card, static_cast<double>(card.head_dimension) * (2 * heads + kv_heads), cost);
  // On average half the history, once for scores and once for values.
  for (const CacheFacts& cache : card.caches) {
    cost.float_multiply_adds +=
        kAttentionFactor * heads * static_cast<double>(cache.head_dimension) *
        static_cast<double>(cache.layer_count) * static_cast<double>(step.history);
  }
  return cost;
}

// The slowest of these waits for nobody: experts, the shared one and the feed-forward of other
// layers are all between two meetings.
PartCost feed_forward_cost(const ModelCard& card, const RankCut& cut, double rows) {
  PartCost sum;
  for (const CutKind kind : {CutKind::kFeedForward, CutKind::kExperts, CutKind::kSharedExpert}) {
    const PartCost part = part_cost(card, cut, kind, rows);
    sum.read_bytes += part.read_bytes;
    sum.multiply_adds += part.multiply_adds;
    sum.float_multiply_adds += part.float_multiply_adds;
  }
  const auto width = [&](CutKind kind) { return static_cast<double>(cut[kind].size()); };
  const double gated = width(CutKind::kFeedForward) + width(CutKind::kSharedExpert) +
                       static_cast<double>(card.experts_used) * width(CutKind::kExperts);
  add_values(card, 2 * gated, sum);  // and quantised
  return sum;
}

double seconds(const PartCost& cost, const NodeFacts& node, double rows) {
  const double reading = cost.read_bytes / decode_speed(node);
  if (node.multiply_adds_per_s <= 0) return reading;
  return std::max(reading, rows * (cost.multiply_adds / node.multiply_adds_per_s +
                                   cost.float_multiply_adds / float_speed(node)));
}

struct StageTime {
  double layers_s = 0;
  double head_s = 0;    // 0 but in the last stage
  double links_s = 0;   // waiting for one another's sums
  double onward_s = 0;  // to the next stage
};

StageTime stage_time(const Stage& stage, const StepShape& step, KvType kv_type, Payload payload) {
  const ModelCard& card = stage.card;
  double attention = 0;
  double feed_forward = 0;
  double replicated = 0;
  StageTime time;
  for (size_t rank = 0; rank < stage.cuts.size(); ++rank) {
    const NodeFacts& node = *stage.nodes[rank];
    const RankCut& cut = stage.cuts[rank];
    attention =
        std::max(attention, seconds(attention_cost(card, cut, step, kv_type), node, step.rows));
    feed_forward =
        std::max(feed_forward, seconds(feed_forward_cost(card, cut, step.rows), node, step.rows));
    time.head_s = std::max(
        time.head_s,
        seconds(part_cost(card, cut, CutKind::kVocabulary, step.sequences), node, step.sequences));
    replicated =
        std::max(replicated, static_cast<double>(card.replicated_bytes) / node.read_bytes_per_s);
  }
  const auto layers = static_cast<double>(card.layer_count);
  time.layers_s = attention + feed_forward + replicated + layers * kLayerFixedSeconds;
  const double stream = step.rows * static_cast<double>(card.hidden) * payload_bytes_each(payload);
  // Two per layer, and one more for the embedding or for candidates where the stage has those.
  const double sums = 2 * layers + (card[CutKind::kVocabulary].bytes_each > 0 ? 1 : 0);
  time.links_s = sums * all_reduce_s(stage.cuts.size(), stream, stage.among);
  if (step.rows >= 2 * kPartRows) {
    // In two parts: a sum travels while the other part computes its attention or feed-forward.
    const double sum_s = all_reduce_s(stage.cuts.size(), stream / 2, stage.among);
    const double in_attention_s = std::max(0.0, sum_s - attention / (2 * layers));
    const double in_feed_forward_s = std::max(0.0, sum_s - feed_forward / (2 * layers));
    time.links_s = 2 * layers * (in_attention_s + in_feed_forward_s);
  }
  const double onward =
      step.rows * static_cast<double>(card.hidden) * payload_bytes_each(stream_payload(payload));
  time.onward_s = send_s(stage.onward_copies * onward, stage.onward);
  return time;
}

// From the first stage in to the last one out.
struct PassTime {
  double all_s = 0;
  double slowest_s = 0;  // stage, or link between two: what a following pass waits for
};

PassTime pass_time(std::span<const Stage> stages, const StepShape& step, KvType kv_type,
                   Payload payload, bool with_head, bool with_links) {
  PassTime pass;
  for (const Stage& stage : stages) {
    const StageTime time = stage_time(stage, step, kv_type, payload);
    const double own_s =
        time.layers_s + (with_head ? time.head_s : 0) + (with_links ? time.links_s : 0);
    const bool last = &stage == &stages.back();
    // Of the last stage only candidates come back, and only the lead waits for them.
    const double onward_s = !with_links          ? 0
                            : !last              ? time.onward_s
                            : stages.size() == 1 ? 0
                                                 : stage.onward.one_way_s;
    pass.all_s += own_s + onward_s;
    pass.slowest_s = std::max({pass.slowest_s, own_s, onward_s});
  }
  return pass;
}

double prompt_s(std::span<const Stage> stages, KvType kv_type, Payload payload, bool with_links) {
  constexpr int64_t kChunks = (kReferencePromptTokens + kStepRows - 1) / kStepRows;
  const StepShape chunk{static_cast<double>(kReferencePromptTokens) / kChunks, 1};
  const PassTime first = pass_time(stages, chunk, kv_type, payload, false, with_links);
  const double head_s = stage_time(stages.back(), {1, 1}, kv_type, payload).head_s;
  return first.all_s + static_cast<double>(kChunks - 1) * first.slowest_s + head_s;
}

// A token of every sequence: as many groups as stages, one in each, where there are enough.
double round_s(std::span<const Stage> stages, KvType kv_type, Payload payload, int64_t sequences,
               int64_t history) {
  const auto groups = static_cast<double>(std::min(static_cast<int64_t>(stages.size()), sequences));
  const double rows = static_cast<double>(sequences) / groups;
  const PassTime pass = pass_time(stages, {rows, rows, history}, kv_type, payload, true, true);
  return std::max(pass.all_s, groups * pass.slowest_s);
}

}  // namespace

double packed_factor(std::string_view quantisation) {
  if (quantisation == "Q4_K") return 2368.0 / 2304;
  if (quantisation == "Q5_K") return 2880.0 / 2816;
  if (quantisation == "IQ4_XS") return 2208.0 / 2176;
  return 1;
}

double decode_speed(const NodeFacts& node) {
  return node.decode_bytes_per_s > 0 ? node.decode_bytes_per_s
                                     : node.read_bytes_per_s * kDecodeEfficiency;
}

double float_speed(const NodeFacts& node) {
  return node.float_multiply_adds_per_s > 0 ? node.float_multiply_adds_per_s
                                            : node.multiply_adds_per_s;
}

double payload_bytes_each(Payload payload) {
  switch (payload) {
    case Payload::kF32:
      return 4;
    case Payload::kBf16:
      return 2;
    case Payload::kInt8:
      return 34.0 / 32;
  }
  SHOAL_CHECK(false);
  return 0;
}

double payload_handicap(Payload payload) {
  switch (payload) {
    case Payload::kF32:
      return 1;
    case Payload::kBf16:
      return 1 / 0.95;
    case Payload::kInt8:
      return 1 / (0.95 * 0.8);
  }
  SHOAL_CHECK(false);
  return 1;
}

double node_handicap(size_t nodes) {
  return std::pow(1 / 0.97, static_cast<double>(nodes) - 1);
}

double send_s(double bytes, const GroupLink& link) {
  return link.bytes_per_s > 0 ? link.one_way_s + bytes / link.bytes_per_s : 0;
}

double all_reduce_s(size_t ranks, double bytes, const GroupLink& link) {
  if (ranks < 2) return 0;
  const auto others = static_cast<double>(ranks - 1);
  const double direct = send_s(others * bytes, link);
  const double scattered = 2 * send_s(others / static_cast<double>(ranks) * bytes, link);
  return std::min(direct, scattered);
}

RankNeed rank_need(const ModelCard& card, const RankCut& cut, int64_t context, int64_t sequences,
                   KvType kv_type) {
  if (cut.layers.size() > 0) {
    RankCut inside = cut;
    inside.layers = {};
    return rank_need(card_of_layers(card, cut.layers), inside, context, sequences, kv_type);
  }
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
  const bool has_head = card[CutKind::kVocabulary].read_bytes_each > 0;
  const uint64_t wanted_floats =
      has_head ? static_cast<uint64_t>(card.hidden) + width(CutKind::kVocabulary) : 0;
  RankNeed need;
  need.weight_bytes = weight_bytes(card, cut);
  const uint64_t each = kv_bytes(card, cut, kv_type, context, kStepRows);
  need.kv_bytes =
      std::min(kBeyondAnyMachineBytes / static_cast<uint64_t>(std::max<int64_t>(1, sequences)),
               each) *
      static_cast<uint64_t>(sequences);
  need.activation_bytes = sizeof(float) * (kStepRows * row_floats + kWantedRows * wanted_floats);
  const bool leads = card.embedding_bytes > 0 && cut[CutKind::kVocabulary].begin == 0 &&
                     cut[CutKind::kVocabulary].size() > 0;
  if (leads)
    need.lead_bytes = kLeadBytesPerToken * static_cast<uint64_t>(card[CutKind::kVocabulary].count);
  const auto packed = static_cast<uint64_t>(packed_factor(card.quantisation) *
                                            static_cast<double>(need.weight_bytes));
  need.memory_bytes =
      packed + need.kv_bytes + need.activation_bytes + need.lead_bytes + kRankFixedBytes;
  return need;
}

double Prediction::answer_s() const {
  return time_to_first_token_s + (kReferenceAnswerTokens - 1) / decode_tokens_per_s;
}

Prediction predict(std::span<const Stage> stages, KvType kv_type, Payload payload,
                   int64_t sequences, int64_t history) {
  const StepShape token{1, 1, history};
  const double token_s = pass_time(stages, token, kv_type, payload, true, true).all_s;
  const double first_token_s = prompt_s(stages, kv_type, payload, true);
  Prediction prediction;
  prediction.decode_tokens_per_s = 1 / token_s;
  prediction.all_decode_tokens_per_s =
      static_cast<double>(sequences) / round_s(stages, kv_type, payload, sequences, history);
  prediction.prefill_tokens_per_s = kReferencePromptTokens / first_token_s;
  prediction.time_to_first_token_s = first_token_s;
  prediction.token_links_s =
      token_s - pass_time(stages, token, kv_type, payload, true, false).all_s;
  prediction.first_token_links_s = first_token_s - prompt_s(stages, kv_type, payload, false);
  return prediction;
}

}  // namespace shoal::placement
