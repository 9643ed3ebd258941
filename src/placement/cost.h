// The cost model: what a rank holds and how fast a group of ranks would be. Linear functions of
// measured figures, so that a prediction can be explained. Pure; any thread.
#pragma once

#include <span>
#include <vector>

#include "models/model.h"
#include "placement/placement.h"

namespace shoal::placement {

// The prompt and the answer by which plans are compared: decoding is predicted at this length too,
// whatever the context, so that a plan with more room is not called slower for it.
inline constexpr int64_t kReferencePromptTokens = 512;
inline constexpr int64_t kReferenceAnswerTokens = 256;

// Repacked weights are a few percent larger than the file's (padding, scales widened).
inline constexpr double kRepackFactor = 1.05;
// Program, tokenizer, page tables, buffers of links.
inline constexpr uint64_t kRankFixedBytes = 64ull << 20;
// Share of the probe's bandwidth that quantised products reach in decode, where nobody has measured
// it.
inline constexpr double kDecodeEfficiency = 0.85;
// Bytes of weights per second that a node works through in decode.
double decode_speed(const NodeFacts& node);
// What a layer takes beside its bytes at one row: norms, rotation, quantising, barriers. Measured
// as the difference between the probe and SmolLM2-135M (30 layers), one and two threads: 45 to 70
// us.
inline constexpr double kLayerFixedSeconds = 50e-6;

// What a rank with this cut takes, in parts and in all.
struct RankNeed {
  uint64_t weight_bytes = 0;  // of the file's tensors
  uint64_t kv_bytes = 0;
  uint64_t activation_bytes = 0;
  uint64_t memory_bytes = 0;
};
RankNeed rank_need(const ModelCard& card, const RankCut& cut, int64_t context, int64_t sequences,
                   KvType kv_type);

// The slowest link of a group decides: every all-reduce waits for it.
struct GroupLink {
  double one_way_s = 0;
  double bytes_per_s = 0;  // 0: a group of one, no link
};

struct Prediction {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  double time_to_first_token_s = 0;
  // Of a prompt and an answer of the reference lengths: what plans are compared by.
  double answer_s() const;
};

// Ranks meet after attention, after the feed-forward and after the head, so the slowest rank of
// each part counts, not the slowest in all.
Prediction predict(const ModelCard& card, std::span<const NodeFacts* const> nodes,
                   std::span<const RankCut> cuts, const GroupLink& link, KvType kv_type);

}  // namespace shoal::placement
