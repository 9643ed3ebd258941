#include "models/tensor_rules.h"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace shoal {
namespace {

std::string list_of_names(std::span<const TensorRule> rules) {
  std::string names;
  for (const TensorRule& rule : rules) {
    if (!names.empty()) names += ", ";
    names +=
        rule.per_layer() ? fmt::format("blk.N.{}", rule.name.substr(2)) : std::string(rule.name);
  }
  return names;
}

// The shape as in the file, without trailing ones: columns first.
std::vector<int64_t> trimmed(std::vector<int64_t> dimensions) {
  while (dimensions.size() > 1 && dimensions.back() == 1) dimensions.pop_back();
  return dimensions;
}

Status check_tensor(const gguf::File& file, const ModelDescription& model, const TensorRule& rule,
                    const gguf::TensorInfo& tensor) {
  const std::vector<int64_t> expected =
      trimmed({extent_size(rule.columns, model), extent_size(rule.rows, model)});
  if (trimmed(tensor.dimensions) != expected) {
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor {} has the shape [{}] where the metadata asks for [{}]",
                file.path(), gguf::printable(tensor.name), fmt::join(tensor.dimensions, ", "),
                fmt::join(expected, ", "));
  }
  SHOAL_ASSIGN(const TensorSource source,
               file.tensor(tensor.name));  // refuses types without kernels
  if (rule.use() == WeightUse::kVector && element_traits(source.type).block_elements != 1) {
    return fail(ErrorCode::kUnsupported,
                "{}: the tensor {} is a vector of type {}; vectors must be F32, F16 or BF16",
                file.path(), gguf::printable(tensor.name), element_traits(source.type).name);
  }
  return {};
}

Status check_name(const gguf::File& file, const ModelDescription& model,
                  std::span<const TensorRule> rules, const gguf::TensorInfo& tensor) {
  const auto match = match_rule(rules, tensor.name);
  if (!match) {
    return fail(ErrorCode::kUnsupported,
                "{}: the tensor {} is not one that Shoal knows in a model of the architecture {}; "
                "supported are {}",
                file.path(), gguf::printable(tensor.name), model.architecture,
                list_of_names(rules));
  }
  if (match->rule->per_layer() && match->layer >= model.layer_count) {
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor {} belongs to a layer beyond the {} that the metadata announces",
                file.path(), gguf::printable(tensor.name), model.layer_count);
  }
  return {};
}

}  // namespace

int64_t extent_size(Extent extent, const ModelDescription& model) {
  switch (extent) {
    case Extent::kOne:
      return 1;
    case Extent::kHidden:
      return model.hidden;
    case Extent::kQuery:
      return model.head_count * model.head_dimension;
    case Extent::kKeyValue:
      return model.kv_head_count * model.head_dimension;
    case Extent::kFeedForward:
      return model.feed_forward;
    case Extent::kVocabulary:
      return model.vocabulary_size;
    case Extent::kRopePairs:
      return model.rope.dimensions / 2;
  }
  SHOAL_CHECK(false);
  return 0;
}

std::vector<Range> extent_cut(Extent extent, const ModelDescription& model, const RankCut& cut) {
  const auto scaled = [](Range range, int64_t by) {
    return Range{range.begin * by, range.end * by};
  };
  const int64_t kv_columns = model.head_dimension;
  Range part{0, extent_size(extent, model)};
  if (extent == Extent::kQuery)
    part = scaled(cut.kv_heads, model.head_count / model.kv_head_count * kv_columns);
  if (extent == Extent::kKeyValue) part = scaled(cut.kv_heads, kv_columns);
  if (extent == Extent::kFeedForward) part = cut.feed_forward;
  if (extent == Extent::kVocabulary) part = cut.vocabulary;
  if (part.size() == extent_size(extent, model)) return {};
  return {part};
}

Part TensorRule::part() const {
  for (const Extent extent : {rows, columns}) {
    if (extent == Extent::kQuery || extent == Extent::kKeyValue) return Part::kAttention;
    if (extent == Extent::kFeedForward) return Part::kFeedForward;
    if (extent == Extent::kVocabulary) return Part::kVocabulary;
  }
  return Part::kReplicated;
}

std::string tensor_name(const TensorRule& rule, int64_t layer) {
  return rule.per_layer() ? fmt::format("blk.{}.{}", layer, rule.name.substr(2))
                          : std::string(rule.name);
}

std::optional<RuleMatch> match_rule(std::span<const TensorRule> rules, std::string_view tensor) {
  int64_t layer = -1;
  std::string_view rest = tensor;
  if (rest.starts_with("blk.")) {
    const char* end = rest.data() + rest.size();
    const auto [stop, error] = std::from_chars(rest.data() + 4, end, layer);
    if (error != std::errc() || stop == end || *stop != '.') return std::nullopt;
    rest = std::string_view(stop + 1, end);
    if (layer < 0 || tensor_name(TensorRule{"*.", Extent::kOne, Extent::kOne, true}, layer).size() +
                             rest.size() !=
                         tensor.size()) {
      return std::nullopt;  // "blk.-1." or "blk.01.": another name for the same layer
    }
  }
  for (const TensorRule& rule : rules) {
    if (rule.per_layer() != (layer >= 0)) continue;
    if (rest == (rule.per_layer() ? rule.name.substr(2) : rule.name))
      return RuleMatch{&rule, std::max<int64_t>(layer, 0)};
  }
  return std::nullopt;
}

bool has_tensor(const gguf::File& file, const TensorRule& rule) {
  return file.find_tensor(tensor_name(rule, 0)) != nullptr;
}

Status check_tensors(const gguf::File& file, const ModelDescription& model,
                     std::span<const TensorRule> rules) {
  for (const gguf::TensorInfo& tensor : file.tensors())
    SHOAL_TRY(check_name(file, model, rules, tensor));
  for (const TensorRule& rule : rules) {
    if (!rule.required && !has_tensor(file, rule)) {
      // Optional and absent from layer 0: any other layer that has it makes the model uneven.
      for (const gguf::TensorInfo& tensor : file.tensors()) {
        if (match_rule(rules, tensor.name)->rule != &rule) continue;
        return fail(ErrorCode::kCorrupt,
                    "{}: the tensor {} is there but its like in layer 0 is not", file.path(),
                    gguf::printable(tensor.name));
      }
      continue;
    }
    for (int64_t layer = 0; layer < (rule.per_layer() ? model.layer_count : 1); ++layer) {
      const std::string name = tensor_name(rule, layer);
      const gguf::TensorInfo* tensor = file.find_tensor(name);
      if (tensor == nullptr) {
        return fail(ErrorCode::kCorrupt,
                    "{}: the tensor \"{}\" is missing; the file is not a whole {} model",
                    file.path(), name, model.architecture);
      }
      SHOAL_TRY(check_tensor(file, model, rule, *tensor));
    }
  }
  return {};
}

int64_t kv_head_unit(int64_t head_count, int64_t kv_head_count, int64_t head_dimension) {
  const int64_t columns = head_count / kv_head_count * head_dimension;
  return std::min(kv_head_count, kCutUnit / std::gcd(columns, kCutUnit));
}

}  // namespace shoal
