// The cost model: what a rank holds and how fast a plan would be. Linear functions of measured
// figures, so that a prediction can be explained. Pure; any thread.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "placement/placement.h"

namespace shoal::placement {

// The prompt and the answer by which plans are compared: decoding is predicted at this length too,
// whatever the context, so that a plan with more room is not called slower for it.
inline constexpr int64_t kReferencePromptTokens = 512;
inline constexpr int64_t kReferenceAnswerTokens = 256;

// Bytes of memory for each of the file's, where most of these have this type: some are packed with
// wider scales (docs/formats/weight-layouts.md).
double packed_factor(std::string_view quantisation);
// Of every rank: the program and its libraries, heap, buffers of links. 21 to 31 MiB of two and
// three ranks over shared memory.
inline constexpr uint64_t kRankFixedBytes = 32ull << 20;
// Of the lead, for each token of the vocabulary: the tokenizer, as it is made. 400 of SmolLM2, 460
// of Llama 3, 560 of Gemma 3.
inline constexpr uint64_t kLeadBytesPerToken = 512;
// Share of the probe's bandwidth that quantised products reach in decode, where nobody has measured
// it.
inline constexpr double kDecodeEfficiency = 0.85;
// Bytes of weights per second that a node works through in decode.
double decode_speed(const NodeFacts& node);
// Products of plain floats per second, as attention computes them too.
double float_speed(const NodeFacts& node);
// Attention takes so much longer than products of as many plain floats, for its exponentials and
// for pages that become floats: 1.4 in the profiles of a 1.24 B model and of SmolLM2.
inline constexpr double kAttentionFactor = 1.4;
// What a value between products takes (norms, rotation, gates, residuals, quantising), as so many
// multiplications of plain floats: of prefill's profile, 20 for residuals to 56 for gates, 38 on
// average of a 1.24 B model's.
inline constexpr double kMultiplyAddsPerValue = 40;
// What a layer takes beside its bytes at one row: norms, rotation, quantising, barriers. Measured
// as the difference between the probe and SmolLM2-135M (30 layers), one and two threads: 45 to 70
// us.
inline constexpr double kLayerFixedSeconds = 50e-6;

// What a rank with this cut takes, in parts and in all. Steps that are in flight together in a
// pipeline share its buffers. The lead is the rank with the first rows of the vocabulary, where the
// first layers are.
struct RankNeed {
  uint64_t weight_bytes = 0;  // of the file's tensors
  uint64_t kv_bytes = 0;
  uint64_t activation_bytes = 0;
  uint64_t lead_bytes = 0;  // 0 on others
  uint64_t memory_bytes = 0;
};
RankNeed rank_need(const ModelCard& card, const RankCut& cut, int64_t context, int64_t sequences,
                   KvType kv_type);

// A link, or the slowest of several: whoever waits for all of them waits for it.
struct GroupLink {
  double one_way_s = 0;
  double bytes_per_s = 0;  // 0: no link, no time
};

// Bytes that a number takes on a link.
double payload_bytes_each(Payload payload);
// Time until every rank has the sum of everybody's `bytes`: each sends all of it to each other, or
// a part of the sum is made by each and then gathered; the sooner of the two.
double all_reduce_s(size_t ranks, double bytes, const GroupLink& link);
double send_s(double bytes, const GroupLink& link);

// What rounding a payload is deemed to cost, as a factor of the time of an answer: bf16 has to save
// 5% of it against f32, int8 another 20% against bf16, which it does only where bf16 mostly waits.
double payload_handicap(Payload payload);
// And what a plan's nodes beyond the first are: each has to save 3%, for it can fail, is not free
// for another model, and predictions are not better than that.
double node_handicap(size_t nodes);

// Ranks that hold the same layers, each a part of every tensor.
struct Stage {
  ModelCard card;  // of its layers
  std::vector<const NodeFacts*> nodes;
  std::vector<RankCut> cuts;  // of that card
  GroupLink among;            // its ranks
  GroupLink onward;           // to the next stage; of the last one: back to the first
  double onward_copies = 1;   // that a rank sends, where the next stage has more ranks
};

struct Prediction {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double all_decode_tokens_per_s = 0;  // of all sequences together
  double time_to_first_token_s = 0;
  double token_links_s = 0;        // of a token's time, what it would be shorter without links
  double first_token_links_s = 0;  // the same of the time to the first
  // Of a prompt and an answer of the reference lengths: what plans are compared by.
  double answer_s() const;
};

// Ranks of a stage meet after attention and after the feed-forward, so the slowest rank of each
// part counts, not the slowest in all. A sequence's token passes all stages one after another;
// chunks of a prompt, and groups of sequences, follow each other through them as fast as the
// slowest. Decoding reads `history` tokens of each sequence.
Prediction predict(std::span<const Stage> stages, KvType kv_type, Payload payload,
                   int64_t sequences, int64_t history = kReferencePromptTokens);

}  // namespace shoal::placement
