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
enum class Extent { kOne, kHidden, kQuery, kKeyValue, kFeedForward, kVocabulary, kRopePairs };

int64_t extent_size(Extent extent, const ModelDescription& model);
// The rank's part of it; empty for all of it.
std::vector<Range> extent_cut(Extent extent, const ModelDescription& model, const RankCut& cut);

// What a cut divides, and so what a tensor's bytes belong to.
enum class Part { kReplicated, kAttention, kFeedForward, kVocabulary };

struct TensorRule {
  std::string_view name;  // a leading "*." stands for "blk.N." in every layer
  Extent rows;            // kOne: a vector
  Extent columns;
  bool required;

  bool per_layer() const { return name.starts_with("*."); }
  WeightUse use() const { return rows == Extent::kOne ? WeightUse::kVector : WeightUse::kMatrix; }
  Part part() const;
};

std::string tensor_name(const TensorRule& rule, int64_t layer);
// The rule that a file's tensor falls under, and its layer; nullopt for a name that no rule has.
struct RuleMatch {
  const TensorRule* rule;
  int64_t layer;  // 0 for those outside layers
};
std::optional<RuleMatch> match_rule(std::span<const TensorRule> rules, std::string_view tensor);
// An optional rule applies when the file has its tensor (in layer 0).
bool has_tensor(const gguf::File& file, const TensorRule& rule);

// Every tensor of the file is known, in a layer that exists, of the right shape and of a type that
// can be computed with; every required one is there; optional ones are in all layers or in none.
Status check_tensors(const gguf::File& file, const ModelDescription& model,
                     std::span<const TensorRule> rules);

// KV heads are cut in units that give the attention's output whole groups of 32 columns.
inline constexpr int64_t kCutUnit = 32;
int64_t kv_head_unit(int64_t head_count, int64_t kv_head_count, int64_t head_dimension);

}  // namespace shoal
