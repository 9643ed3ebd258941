// What tensors an architecture has, as a table: from a rule follow a tensor's shape, its check
// against the file, how it is cut for a rank and under which heading its bytes count. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "models/model.h"
#include "tensor/cut.h"
#include "tensor/program.h"

namespace shoal {

// What a dimension of a tensor counts.
enum class Extent : uint8_t {
  kOne,     // as rows: the tensor is a vector
  kSingle,  // a matrix of one row
  kHidden,
  kHeads,
  kHeadDimension,
  kQuery,          // heads x head dimension
  kKeyValue,       // KV heads x head dimension
  kQueryKeyValue,  // all three, one below the other
  kFeedForward,
  kGateUp,  // gate above up
  kExpertCount,
  kExpertWidth,
  kExpertGateUp,  // gate above up
  kSharedWidth,
  kVocabulary,
  kRopePairs,
  kLayerInput,      // what each layer gets beside the stream,
  kLayerInputs,     // and that of all layers
  kQueryRank,       // of latent attention:
  kLatentQuery,     // heads x (nope + rope)
  kLatentAndRope,   // rank + rope
  kLatentRank,      // rank
  kLatentKeyValue,  // heads x (nope + value)
  kLatentNope,      // nope
  kLatentValue,     // value
  kLatentOutput,    // heads x value
};

int64_t extent_size(Extent extent, const ModelDescription& model, int64_t layer);
// The rank's part of it; empty for all of it.
std::vector<Range> extent_cut(Extent extent, const ModelDescription& model, const RankCut& cut,
                              int64_t layer);
// What divides it; nothing for what every rank holds whole.
std::optional<CutKind> extent_kind(Extent extent);

enum class Presence : uint8_t { kRequired, kOptional };  // optional: in all its layers or in none
// Tensors outside layers go by the first.
enum class InLayers : uint8_t {
  kEvery,
  kDense,
  kMixture,
  kKeys,    // that have keys of their own
  kValues,  // and values
  kInputs,  // of models whose layers have inputs of their own
};

struct TensorRule {
  std::string_view name;  // a leading "*." stands for "blk.N." in every layer
  Extent rows;
  Extent columns;
  Presence presence = Presence::kRequired;
  InLayers layers = InLayers::kEvery;
  Extent matrices = Extent::kOne;  // how many matrices lie one below the other; kOne: it is one

  bool per_layer() const { return name.starts_with("*."); }
  bool required() const { return presence == Presence::kRequired; }
  bool applies(const ModelDescription& model, int64_t layer) const;
  WeightUse use() const;
  std::optional<CutKind> kind() const;
  bool is_key_value() const { return rows == Extent::kKeyValue || columns == Extent::kKeyValue; }
};

std::string tensor_name(const TensorRule& rule, int64_t layer);
// The rule that a file's tensor falls under, and its layer; nullopt for a name that no rule has.
struct RuleMatch {
  const TensorRule* rule;
  int64_t layer;  // 0 for those outside layers
};
std::optional<RuleMatch> match_rule(std::span<const TensorRule> rules, std::string_view tensor);
// The names of the optional rules that the file follows: those whose first tensor it has.
std::vector<std::string> present_rules(const gguf::File& file, const ModelDescription& model,
                                       std::span<const TensorRule> rules);

// Every tensor of the file is known, in a layer that exists, of the right shape and of a type that
// can be computed with; every required one is there; optional ones are in all their layers or in
// none.
Status check_tensors(const gguf::File& file, const ModelDescription& model,
                     std::span<const TensorRule> rules);

// Whether a tensor that the table knows is of no use in its layer and left alone: that of a layer
// behind those that run, or keys and values where those of another layer are attended to.
bool is_unused(const ModelDescription& model, const TensorRule& rule, int64_t layer);

// How much of a kind the model has; 0: none.
int64_t cut_total(const ModelDescription& model, CutKind kind);

// Columns of quantised tensors are cut in blocks of so many.
inline constexpr int64_t kCutUnit = 32;
// The least number of heads of `width` columns, up to `head_count`, that fills the model's units.
int64_t head_unit(const ModelDescription& model, int64_t width, int64_t head_count);
// The width to fill those with: where heads of some layers are wider, what divides all.
int64_t head_columns(const ModelDescription& model);
// Query heads that lie between borders of KV heads in every layer.
int64_t whole_kv_queries(const ModelDescription& model);
// kCutUnit, or 1 for a model whose matrices have no blocks.
int64_t cut_unit_of(const gguf::File& file, const ModelDescription& model,
                    std::span<const TensorRule> rules);

}  // namespace shoal
