// What a model is, from its file: one description per architecture, from which the program of
// layers, the cache groups and each rank's cut of each tensor follow. Pure once the file is open;
// any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "gguf/gguf.h"
#include "tensor/backend.h"
#include "tensor/program.h"

namespace shoal {

// A mixture of experts in the feed-forward part of layers. count 0: none.
struct Mixture {
  int64_t count = 0;
  int64_t width = 0;         // feed-forward columns of an expert
  int64_t shared_width = 0;  // of the expert that every row goes to; 0: none
  int64_t dense_layers = 0;  // the first layers, which have a feed-forward of their own instead
  int64_t step = 1;          // of the others, counted from the first layer, every so many-th has
                             // experts
  Routing routing;           // selection_bias unset here
};

// Multi-head latent attention (DeepSeek-AI, DeepSeek-V2, 2024). rank 0: none.
struct Latent {
  int64_t rank = 0;        // of what is cached of keys and values
  int64_t query_rank = 0;  // 0: queries are projected at once
  int64_t nope = 0;        // elements of a head that are not rotated
  int64_t rope = 0;        // those that are; one such key is shared by all heads
  int64_t value = 0;       // elements of a head's value
};

// What may differ from layer to layer.
struct LayerShape {
  int64_t head_dimension = 0;
  int64_t kv_head_count = 0;
  int64_t feed_forward = 0;  // a whole multiple of the least, so that all are cut alike
};

// Hyperparameters, checked against the tensors: after describe() every tensor that a program names
// exists with its shape.
struct ModelDescription {
  std::string architecture;  // "llama"
  std::string name;          // general.name, or the file's name
  int64_t layer_count = 0;
  int64_t unused_layers = 0;  // behind those, for drafting: their tensors are left alone
  int64_t hidden = 0;
  int64_t feed_forward = 0;  // of layers without experts; 0: there are none
  int64_t head_count = 0;
  int64_t kv_head_count = 0;
  int64_t head_dimension = 0;
  std::vector<LayerShape> shapes;  // by layer; empty: all are alike, as above. Otherwise the above
                                   // are the most heads and widths, and the least feed-forward
  std::vector<bool> without_keys;  // by layer, which then attends to what the last layer before it
                                   // with keys, windowed like itself, has kept; empty: none
  std::vector<bool> without_values;  // by layer, whose values are its keys before their norm and
                                     // rotation; empty: none
  int64_t layer_input = 0;  // floats per token that each layer gets beside the stream; 0: none
  int64_t vocabulary_size = 0;
  int64_t context_length = 0;  // trained
  float norm_epsilon = 0;
  RopeSpec rope;                       // frequency_factors unset here
  std::optional<RopeSpec> local_rope;  // of layers with a window, where it differs
  std::string rope_factors;            // the tensor that holds frequency factors; empty: none
  std::string long_rope_factors;       // that for contexts over the original length
  int64_t original_context = 0;
  int64_t window = 0;           // of the layers that have one
  bool chunked = false;         // it does not slide (tensor/program.h)
  std::vector<bool> windowed;   // by layer; empty: none
  std::vector<bool> unrotated;  // by layer; empty: none
  float attention_scale = 0;    // of scores
  float attention_cap = 0;      // soft cap of scores; 0: none
  // Of queries with each original context, by its logarithm: in layers that are rotated, or in the
  // others, and as if the first position were another.
  float query_growth = 0;
  bool unrotated_grow = false;
  int64_t query_growth_offset = 0;
  float logit_cap = 0;               // soft cap of logits
  float embedding_scale = 1;         // of embeddings,
  float residual_scale = 1;          // of what a block adds
  float logit_scale = 1;             // and of logits
  bool tied_embedding = false;       // no output.weight
  std::vector<std::string> present;  // the names of optional tensor rules that the file follows
  Mixture mixture;
  Latent latent;
  int64_t cut_unit = 32;  // columns are cut on its multiples: 1 where no matrix has blocks
  uint64_t file_bytes = 0;

  bool has(std::string_view optional_rule) const;
  bool is_windowed(int64_t layer) const {
    return !windowed.empty() && windowed[static_cast<size_t>(layer)];
  }
  bool is_mixture(int64_t layer) const {
    return mixture.count > 0 && layer >= mixture.dense_layers && (layer + 1) % mixture.step == 0;
  }
  bool is_rotated(int64_t layer) const {
    return unrotated.empty() || !unrotated[static_cast<size_t>(layer)];
  }
  bool has_keys(int64_t layer) const {
    return without_keys.empty() || !without_keys[static_cast<size_t>(layer)];
  }
  // Whether layers take nothing of each other but the residual stream, so that they can be cut over
  // stages.
  bool layers_stand_alone() const {
    return layer_input == 0 && std::ranges::find(without_keys, true) == without_keys.end();
  }
  bool has_values(int64_t layer) const {
    return has_keys(layer) &&
           (without_values.empty() || !without_values[static_cast<size_t>(layer)]);
  }
  LayerShape shape(int64_t layer) const {
    return shapes.empty() ? LayerShape{head_dimension, kv_head_count, feed_forward}
                          : shapes[static_cast<size_t>(layer)];
  }
  int64_t queries_per_kv_head(int64_t layer) const {
    return head_count / shape(layer).kv_head_count;
  }
};

Result<ModelDescription> describe(const gguf::File& file);
std::string supported_architectures();  // "llama, qwen2", for sentences

// What a model is divided by.
enum class CutKind : uint8_t {
  kHeads,         // query heads, with the KV heads that they read
  kExperts,       // columns inside each expert
  kSharedExpert,  // columns of the expert that every row goes to
  kFeedForward,   // columns of the hidden feed-forward layer
  kVocabulary,    // rows of the embedding and the head
};
inline constexpr std::array kCutKinds = {CutKind::kHeads, CutKind::kExperts, CutKind::kSharedExpert,
                                         CutKind::kFeedForward, CutKind::kVocabulary};
std::string_view cut_kind_name(CutKind kind);   // "heads", "experts": the names in JSON
std::string_view cut_kind_words(CutKind kind);  // "attention heads", for sentences

// One rank's part: a contiguous range of each kind, empty only where the model has none of it, of a
// contiguous range of layers. The ranks of the first layers embed, those of the last hold the head.
struct RankCut {
  std::array<Range, kCutKinds.size()> ranges = {};
  Range layers = {};  // empty: all
  Range& operator[](CutKind kind) { return ranges[static_cast<size_t>(kind)]; }
  const Range& operator[](CutKind kind) const { return ranges[static_cast<size_t>(kind)]; }
  bool operator==(const RankCut&) const = default;
};
inline Range layers_of(const RankCut& cut, int64_t layer_count) {
  return cut.layers.size() > 0 ? cut.layers : Range{0, layer_count};
}
Json to_json(const RankCut& cut);
Result<RankCut> rank_cut_from_json(const Json& json);

// One kind of part, as far as cutting it goes.
struct CutFacts {
  int64_t count = 0;             // 0: the model has none
  int64_t unit = 1;              // borders fall on its multiples, or at the end
  int64_t finest_unit = 1;       // where there are too few units: KV heads are then held twice, and
                                 // columns of numbers without blocks cut anywhere
  uint64_t bytes_each = 0;       // of the file's tensors, all layers of the card
  uint64_t read_bytes_each = 0;  // of these what a step of one row reads on average
  bool operator==(const CutFacts&) const = default;
};

// Layers that keep the same kind of history (tensor/program.h).
struct CacheFacts {
  int64_t layer_count = 0;  // of the card
  int64_t head_dimension = 0;
  int64_t window = 0;    // 0: everything is kept
  bool latent = false;   // one key on every rank, no values
  int64_t kv_heads = 0;  // 0: as many as the card says
  bool operator==(const CacheFacts&) const = default;
};

// What one layer weighs, in bytes of the file's tensors.
struct LayerFacts {
  std::array<uint64_t, kCutKinds.size()> bytes = {};  // by what divides them; keys and values not
  uint64_t key_value_bytes = 0;
  uint64_t replicated_bytes = 0;  // norms and the like
  int64_t cache = -1;             // of the card's; -1: keeps nothing of its own
  bool operator==(const LayerFacts&) const = default;
};

// No machine has so many bytes; sums of sizes stop here, and stay exact.
inline constexpr uint64_t kBeyondAnyMachineBytes = uint64_t{1} << 60;

// What placement and `inspect` need to know of a model, small enough to send to every node. Sizes
// are those of the file's tensors; a backend's repacked weights differ by a few percent.
struct ModelCard {
  std::string name;
  std::string architecture;
  std::string quantisation;  // the type that holds most bytes, "Q4_1"
  uint64_t file_bytes = 0;
  uint64_t parameter_count = 0;
  int64_t layer_count = 0;
  int64_t hidden = 0;
  int64_t head_count = 0;
  int64_t kv_head_count = 0;
  int64_t head_dimension = 0;
  int64_t context_length = 0;
  int64_t expert_count = 0;  // 0: none
  int64_t experts_used = 0;
  bool tied_embedding = false;
  bool layers_stand_alone = true;  // none reads what another made but the residual stream: only
                                   // such a model is cut by layers
  std::vector<LayerFacts> layer_kinds;  // each once
  std::vector<uint16_t> layers;         // by layer: which of those it is
  uint64_t embedding_bytes = 0;         // where the first layers are
  uint64_t head_bytes = 0;    // where the last ones are; tied: the embedding's table, once where
                              // both are
  uint64_t first_bytes = 0;   // what else is at the first layers, on every rank,
  uint64_t last_bytes = 0;    // at the last ones,
  uint64_t shared_bytes = 0;  // and at all
  std::array<CutFacts, kCutKinds.size()> cuts = {};
  std::vector<CacheFacts> caches;
  // Sums over the layers of the card, as are the bytes of the cuts and the layers of the caches.
  uint64_t kv_weight_bytes_each = 0;  // of key and value weights, per KV head; where some layers
                                      // have fewer, a cut between those holds a little more
  uint64_t replicated_bytes = 0;      // norms and the like, on every rank
  const CutFacts& operator[](CutKind kind) const { return cuts[static_cast<size_t>(kind)]; }
  CutFacts& operator[](CutKind kind) { return cuts[static_cast<size_t>(kind)]; }
  bool operator==(const ModelCard&) const = default;
};
ModelCard model_card(const gguf::File& file, const ModelDescription& description);
// The part of a model that is in these layers, as a card whose sums are theirs: with the embedding
// where they begin the model and the head (else no byte of the vocabulary is read) where they end
// it. Cuts of it have no `layers`. It cannot be cut by layers again.
ModelCard card_of_layers(const ModelCard& card, Range layers);
// Makes the sums of a card from its layers and ends; what model_card() and JSON do.
void sum_up(ModelCard& card);
Json to_json(const ModelCard& card);
Result<ModelCard> model_card_from_json(const Json& json);

// The KV heads that a range of query heads reads.
Range kv_heads_of(Range heads, int64_t head_count, int64_t kv_head_count);

// What a cut keeps nearest to the shares.
enum class Balance {
  // Each kind of weight by itself. Every half layer ends in an all-reduce, for which the fast wait:
  // a rank that holds more than its share of the heads is not helped by holding less of the
  // feed-forward, so this is the fastest.
  kEachKind,
  // The weights read per step in all: where heads are few and coarse, feed-forward and vocabulary
  // make up for them. For ranks whose memory, not speed, sets the shares.
  kTotal,
};
// Cuts a model in proportion to `shares` (positive, one per rank), every rank with at least one
// unit of each kind that the model has. kDoesNotFit names the unit of which there are too few ("2
// attention heads cannot be cut over 4 ranks").
Result<std::vector<RankCut>> partition(const ModelCard& card, std::span<const double> shares,
                                       Balance balance = Balance::kEachKind);
// How many ranks the tensors of a model can be cut over at most.
int64_t most_ranks(const ModelCard& card);
// Cuts a model by layers in proportion to `shares` (positive, one per stage, in the stages' order):
// contiguous, at least one layer each, by the weights that a step reads, which at the last stage
// include the head. kDoesNotFit for more stages than layers, or layers that do not stand alone.
Result<std::vector<Range>> partition_layers(const ModelCard& card, std::span<const double> shares);

// Bytes of the weights that a rank with this cut holds: of its layers, where it names them.
uint64_t weight_bytes(const ModelCard& card, const RankCut& cut);
// KV cache bytes of one sequence of `positions` on a rank with this cut; at most 2^60. Layers with
// a window keep no more than it and `step_rows` positions.
uint64_t kv_bytes(const ModelCard& card, const RankCut& cut, KvType type, int64_t positions,
                  int64_t step_rows);

// The program of the rank with this cut, to run with this context. The same for a group of one,
// whose cut is everything.
Result<Program> build_program(const ModelDescription& description, const RankCut& cut,
                              int64_t context);
RankCut whole(const ModelCard& card);

}  // namespace shoal
