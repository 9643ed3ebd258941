// The building blocks that architectures share: each appends the operations of a part of a
// transformer to a program. Buffers are made on first use and shared by all layers. One thread, one
// program.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "models/tensor_rules.h"
#include "tensor/program.h"

namespace shoal {

// The RMS norms around a block, by their rules; empty: none.
struct BlockNorms {
  std::string_view before;
  std::string_view after = "";  // of what the block adds
};
inline constexpr BlockNorms kAttentionNorms = {"*.attn_norm.weight"};
inline constexpr BlockNorms kFeedForwardNorms = {"*.ffn_norm.weight"};

class ProgramBuilder {
 public:
  ProgramBuilder(const ModelDescription& model, const RankCut& cut,
                 std::span<const TensorRule> rules, int64_t context);

  // Segments, in this order: embed, then attention and feed_forward or mixture for each layer, then
  // head. Of a rank that holds some of the layers, calls for the others add nothing. What a block
  // adds to the residual stream is a partial sum until the all-reduce that ends its segment; the
  // next block begins by adding it.
  void embed();
  // Queries, keys and values by tensors of their own or by one fused tensor, with biases where the
  // model has them; normed per head, or over all heads, where it has such weights
  // ("*.attn_q_norm"); rotated; over the layer's window or everything, of its own keys and values
  // or those of a layer before; with sinks where it has them.
  struct AttentionOrder {
    bool norm_after_rotation = false;
    bool norm_rotated = false;  // queries and keys of layers that rotate, after it, weightless
    bool norm_values = false;   // per head, weightless
  };
  void attention(int64_t layer, BlockNorms norms = kAttentionNorms) {
    attention(layer, norms, AttentionOrder{});
  }
  void attention(int64_t layer, BlockNorms norms, AttentionOrder order);
  void latent_attention(int64_t layer, BlockNorms norms = kAttentionNorms);
  // Gated, by tensors of their own or with gate and up fused.
  void feed_forward(int64_t layer, Activation activation, BlockNorms norms = kFeedForwardNorms);
  // By what the layer has.
  void feed_forward_or_mixture(int64_t layer, Activation activation,
                               BlockNorms norms = kFeedForwardNorms);
  // Experts, and the shared one where there is one.
  void mixture(int64_t layer, Activation activation, BlockNorms norms = kFeedForwardNorms);
  // A feed-forward, and experts beside it that read the stream by norms of their own. What each
  // adds is normed, then their sum.
  struct BesideNorms {
    BlockNorms both;
    BlockNorms feed_forward;  // `before` is that of both
    BlockNorms experts;
    std::string_view router;  // before the router, whose input is then divided by sqrt(hidden)
  };
  void feed_forward_beside_mixture(int64_t layer, Activation activation, const BesideNorms& norms);
  // What each layer gets beside the stream: by a token's own table, and by its embedding. After
  // embed.
  void embed_layer_inputs();
  // Ends a layer: adds its input, let through by the stream, and scales the stream by the layer's
  // own weight, each where the model has it.
  void finish_layer(int64_t layer, Activation activation);
  void head();

  Program finish() && { return std::move(program_); }

 private:
  struct Heads {  // of this rank
    int count;
    int kv_count;
    int dimension;
    BufferId q, k, v;
  };

  template <typename Operation>
  void add(Operation operation) {
    operations_.emplace_back(std::move(operation));
  }
  bool holds(int64_t layer) const { return layers_.begin <= layer && layer < layers_.end; }
  bool has_rule(std::string_view rule) const;
  // The rank's part of a tensor, by its rule's name; the same tensor and part give the same weight.
  WeightId weight(std::string_view rule, int64_t layer = 0);
  // Some of its rows only; of kMatrices, of each of those in `kept`.
  WeightId weight_part(std::string_view rule, int64_t layer, std::string_view part, Cut cut,
                       Range kept = {}, bool transposed = false);
  std::optional<WeightId> bias(std::string_view stem, int64_t layer);
  // Of a product whose partial sums are added over the ranks: the first rank alone adds it.
  std::optional<WeightId> bias_of_sum(std::string_view stem, int64_t layer, CutKind kind);
  BufferId buffer(std::string_view name, int64_t width, Rows rows = Rows::kAll);
  BufferId normalised() { return buffer("normalised", model_.hidden); }
  BufferId partial() { return buffer("partial", model_.hidden); }

  void add_ropes(int64_t context);
  void add_cache_groups();
  void end_segment(std::optional<BufferId> all_reduce);
  void begin_block(BlockNorms norms, int64_t layer);  // adds what is pending, then normalises
  void settle(BufferId residual);                     // adds what is pending
  void project_heads(int64_t layer, const Heads& heads);
  void norm_heads(int64_t layer, const Heads& heads);
  void norm_all_heads(int64_t layer, const Heads& heads);
  void rotate_heads(int64_t layer, const Heads& heads);
  void norm_weightless(BufferId data, int parts);
  void attend(int64_t layer, const Attend& shape);
  void gated_product(int64_t layer, Activation activation);  // of "normalised", into "partial"
  void experts(int64_t layer, Activation activation, BufferId in, BufferId router, BufferId out);
  void shared_expert(int64_t layer, Activation activation);

  const ModelDescription& model_;
  const RankCut& cut_;
  Range layers_;  // of this rank
  std::span<const TensorRule> rules_;
  Program program_;
  std::vector<Operation> operations_;
  std::map<std::string, WeightId, std::less<>> weights_;
  std::map<std::string, BufferId, std::less<>> buffers_;
  struct Place {
    int group;
    int layer;
  };
  std::vector<Place> places_;             // of each layer's cache
  bool pending_ = false;                  // the buffer "partial" awaits its addition to "residual",
  std::optional<WeightId> pending_norm_;  // normed by this
};

}  // namespace shoal
