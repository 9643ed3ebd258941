// What a model is, from its file: one description per architecture, from which the program of
// layers, the cache groups and each rank's cut of each tensor follow. Pure once the file is open;
// any thread.
#pragma once

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

// Hyperparameters, checked against the tensors: after describe() every tensor that a program names
// exists with its shape.
struct ModelDescription {
  std::string architecture;  // "llama"
  std::string name;          // general.name, or the file's name
  int64_t layer_count;
  int64_t hidden;
  int64_t feed_forward;
  int64_t head_count;
  int64_t kv_head_count;
  int64_t head_dimension;
  int64_t vocabulary_size;
  int64_t context_length;  // trained
  float norm_epsilon;
  RopeSpec rope;                // frequency_factors unset here
  bool has_rope_factors;        // rope_freqs.weight
  bool tied_embedding;          // no output.weight
  bool has_query_bias = false;  // attn_q.bias, and so on; of all layers or of none
  bool has_key_bias = false;
  bool has_value_bias = false;
  uint64_t file_bytes;
};

Result<ModelDescription> describe(const gguf::File& file);
std::string supported_architectures();  // "llama", for sentences

// One rank's part: contiguous, in units that the model allows.
struct RankCut {
  Range kv_heads;      // with the query heads that use them
  Range feed_forward;  // columns of the hidden feed-forward layer, multiples of 32
  Range vocabulary;    // rows of the embedding and the head
  bool operator==(const RankCut&) const = default;
};
Json to_json(const RankCut& cut);
Result<RankCut> rank_cut_from_json(const Json& json);

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
  int64_t feed_forward = 0;
  int64_t head_count = 0;
  int64_t kv_head_count = 0;
  int64_t head_dimension = 0;
  int64_t vocabulary_size = 0;
  int64_t context_length = 0;
  bool tied_embedding = false;
  uint64_t attention_bytes_per_kv_head = 0;    // all layers, with the query heads that use it
  uint64_t feed_forward_bytes_per_column = 0;  // all layers: gate, up and down
  uint64_t vocabulary_bytes_per_row = 0;       // embedding and head; a tied table once
  uint64_t head_bytes_per_row = 0;  // of the above, what every step reads: the head, tied or not
  uint64_t replicated_bytes = 0;    // norms and the like, on every rank
  bool operator==(const ModelCard&) const = default;
};
ModelCard model_card(const gguf::File& file, const ModelDescription& description);
Json to_json(const ModelCard& card);
Result<ModelCard> model_card_from_json(const Json& json);

// What a cut keeps nearest to the shares.
enum class Balance {
  // Each kind of weight by itself. Every half layer ends in an all-reduce, for which the fast wait:
  // a rank that holds more
  // than its share of the heads is not helped by holding less of the feed-forward, so this is the
  // fastest.
  kEachKind,
  // The weights read per step in all: where KV heads are few and coarse, feed-forward and
  // vocabulary make up for them. For
  // ranks whose memory, not speed, sets the shares.
  kTotal,
};
// Cuts a model in proportion to `shares` (positive, one per rank), every rank with at least one
// unit of each kind: whole KV heads (several where their columns are no multiple of 32), 32
// feed-forward columns, 32 rows of the vocabulary; the last unit may be smaller. kDoesNotFit names
// the unit of which there are too few ("3 KV heads cannot be cut over 4 ranks").
Result<std::vector<RankCut>> partition(const ModelCard& card, std::span<const double> shares,
                                       Balance balance = Balance::kEachKind);

// Bytes of the weights that a rank with this cut holds.
uint64_t weight_bytes(const ModelCard& card, const RankCut& cut);
// KV cache bytes per position of a sequence on a rank with this cut.
uint64_t kv_bytes_per_token(const ModelCard& card, const RankCut& cut, KvType type);

// The program of the rank with this cut. The same for a group of one, whose cut is everything.
Result<Program> build_program(const ModelDescription& description, const RankCut& cut);
RankCut whole(const ModelCard& card);

}  // namespace shoal
