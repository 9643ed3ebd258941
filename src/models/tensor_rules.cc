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
                    int64_t layer, const gguf::TensorInfo& tensor) {
  const std::vector<int64_t> expected =
      trimmed({extent_size(rule.columns, model, layer), extent_size(rule.rows, model, layer),
               extent_size(rule.matrices, model, layer)});
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

// "blk.N.rest", apart.
struct LayerName {
  int64_t layer;
  std::string_view rest;
};
std::optional<LayerName> layer_of(std::string_view tensor) {
  if (!tensor.starts_with("blk.")) return std::nullopt;
  int64_t layer = -1;
  const char* end = tensor.data() + tensor.size();
  const auto [stop, error] = std::from_chars(tensor.data() + 4, end, layer);
  if (error != std::errc() || stop == end || *stop != '.') return std::nullopt;
  return LayerName{layer, std::string_view(stop + 1, end)};
}

// Of a layer behind those that run.
bool is_behind(const ModelDescription& model, std::string_view tensor) {
  const auto named = layer_of(tensor);
  return named && named->layer >= model.layer_count &&
         named->layer < model.layer_count + model.unused_layers;
}

// The first layer that a rule speaks of; the last where there is none.
int64_t first_layer(const TensorRule& rule, const ModelDescription& model) {
  int64_t layer = 0;
  while (layer + 1 < model.layer_count && !rule.applies(model, layer)) ++layer;
  return layer;
}

// Why a tensor cannot be where it is, after "which has".
std::string_view what_contradicts(InLayers layers) {
  switch (layers) {
    case InLayers::kEvery:
    case InLayers::kDense:
      return "experts";
    case InLayers::kMixture:
      return "no experts";
    case InLayers::kKeys:
      return "no keys";
    case InLayers::kValues:
      return "no values of its own";
    case InLayers::kInputs:
      return "no inputs of its own by the metadata";
  }
  SHOAL_CHECK(false);
  return "";
}

Status check_name(const gguf::File& file, const ModelDescription& model,
                  std::span<const TensorRule> rules, const gguf::TensorInfo& tensor) {
  const auto match = match_rule(rules, tensor.name);
  if (is_behind(model, tensor.name)) return {};
  if (!match) {
    return fail(ErrorCode::kUnsupported,
                "{}: the tensor {} is not one that Shoal knows in a model of the architecture {}; "
                "supported are {}",
                file.path(), gguf::printable(tensor.name), model.architecture,
                list_of_names(rules));
  }
  if (match->layer >= model.layer_count) {
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor {} belongs to a layer beyond the {} that the metadata announces",
                file.path(), gguf::printable(tensor.name), model.layer_count);
  }
  if (match->rule->applies(model, match->layer) || is_unused(model, *match->rule, match->layer))
    return {};
  return fail(ErrorCode::kCorrupt, "{}: the tensor {} does not belong in layer {}, which has {}",
              file.path(), gguf::printable(tensor.name), match->layer,
              what_contradicts(match->rule->layers));
}

}  // namespace

int64_t extent_size(Extent extent, const ModelDescription& model, int64_t layer) {
  const Latent& latent = model.latent;
  const LayerShape shape = model.shape(layer);
  const int64_t kv = shape.kv_head_count * shape.head_dimension;
  switch (extent) {
    case Extent::kOne:
    case Extent::kSingle:
      return 1;
    case Extent::kHidden:
      return model.hidden;
    case Extent::kHeads:
      return model.head_count;
    case Extent::kHeadDimension:
      return shape.head_dimension;
    case Extent::kQuery:
      return model.head_count * shape.head_dimension;
    case Extent::kKeyValue:
      return kv;
    case Extent::kQueryKeyValue:
      return model.head_count * shape.head_dimension + 2 * kv;
    case Extent::kFeedForward:
      return shape.feed_forward;
    case Extent::kGateUp:
      return 2 * shape.feed_forward;
    case Extent::kExpertCount:
      return model.mixture.count;
    case Extent::kExpertWidth:
      return model.mixture.width;
    case Extent::kExpertGateUp:
      return 2 * model.mixture.width;
    case Extent::kSharedWidth:
      return model.mixture.shared_width;
    case Extent::kVocabulary:
      return model.vocabulary_size;
    case Extent::kRopePairs:
      return model.rope.dimensions / 2;
    case Extent::kLayerInput:
      return model.layer_input;
    case Extent::kLayerInputs:
      return model.layer_count * model.layer_input;
    case Extent::kQueryRank:
      return latent.query_rank;
    case Extent::kLatentQuery:
      return model.head_count * (latent.nope + latent.rope);
    case Extent::kLatentAndRope:
      return latent.rank + latent.rope;
    case Extent::kLatentRank:
      return latent.rank;
    case Extent::kLatentKeyValue:
      return model.head_count * (latent.nope + latent.value);
    case Extent::kLatentNope:
      return latent.nope;
    case Extent::kLatentValue:
      return latent.value;
    case Extent::kLatentOutput:
      return model.head_count * latent.value;
  }
  SHOAL_CHECK(false);
  return 0;
}

int64_t cut_total(const ModelDescription& model, CutKind kind) {
  switch (kind) {
    case CutKind::kHeads:
      return model.head_count;
    case CutKind::kExperts:
      return model.mixture.width;
    case CutKind::kSharedExpert:
      return model.mixture.shared_width;
    case CutKind::kFeedForward:
      return model.feed_forward;
    case CutKind::kVocabulary:
      return model.vocabulary_size;
  }
  SHOAL_CHECK(false);
  return 0;
}

std::optional<CutKind> extent_kind(Extent extent) {
  switch (extent) {
    case Extent::kHeads:
    case Extent::kQuery:
    case Extent::kKeyValue:
    case Extent::kQueryKeyValue:
    case Extent::kLatentQuery:
    case Extent::kLatentKeyValue:
    case Extent::kLatentOutput:
      return CutKind::kHeads;
    case Extent::kFeedForward:
    case Extent::kGateUp:
      return CutKind::kFeedForward;
    case Extent::kExpertWidth:
    case Extent::kExpertGateUp:
      return CutKind::kExperts;
    case Extent::kSharedWidth:
      return CutKind::kSharedExpert;
    case Extent::kVocabulary:
      return CutKind::kVocabulary;
    default:
      return std::nullopt;
  }
}

std::vector<Range> extent_cut(Extent extent, const ModelDescription& model, const RankCut& cut,
                              int64_t layer) {
  const std::optional<CutKind> kind = extent_kind(extent);
  if (!kind) return {};
  const auto scaled = [](Range range, int64_t by, int64_t from = 0) {
    return Range{from + range.begin * by, from + range.end * by};
  };
  const Range part = cut[*kind];
  const LayerShape shape = model.shape(layer);
  const Range kv = kv_heads_of(cut[CutKind::kHeads], model.head_count, shape.kv_head_count);
  const int64_t dimension = shape.head_dimension;
  const int64_t queries = model.head_count * dimension;
  const int64_t keys = shape.kv_head_count * dimension;
  std::vector<Range> ranges = {part};
  if (extent == Extent::kQuery) ranges = {scaled(part, dimension)};
  if (extent == Extent::kKeyValue) ranges = {scaled(kv, dimension)};
  if (extent == Extent::kQueryKeyValue) {
    ranges = {scaled(part, dimension), scaled(kv, dimension, queries),
              scaled(kv, dimension, queries + keys)};
  }
  if (extent == Extent::kExpertGateUp) ranges = {part, scaled(part, 1, model.mixture.width)};
  if (*kind == CutKind::kFeedForward && !model.shapes.empty())
    ranges = {scaled(part, shape.feed_forward / model.feed_forward)};
  if (extent == Extent::kGateUp) {
    ranges.push_back({shape.feed_forward + ranges[0].begin, shape.feed_forward + ranges[0].end});
  }
  if (extent == Extent::kLatentQuery)
    ranges = {scaled(part, model.latent.nope + model.latent.rope)};
  if (extent == Extent::kLatentOutput) ranges = {scaled(part, model.latent.value)};
  if (extent == Extent::kLatentKeyValue)
    ranges = {scaled(part, model.latent.nope + model.latent.value)};
  if (kept(ranges, 0) == extent_size(extent, model, layer)) return {};
  return ranges;
}

bool TensorRule::applies(const ModelDescription& model, int64_t layer) const {
  switch (layers) {
    case InLayers::kEvery:
      return true;
    case InLayers::kDense:
      return !model.is_mixture(layer);
    case InLayers::kMixture:
      return model.is_mixture(layer);
    case InLayers::kKeys:
      return model.has_keys(layer);
    case InLayers::kValues:
      return model.has_values(layer);
    case InLayers::kInputs:
      return model.layer_input > 0;
  }
  SHOAL_CHECK(false);
  return false;
}

bool is_unused(const ModelDescription& model, const TensorRule& rule, int64_t layer) {
  if (!rule.per_layer()) return false;
  if (layer >= model.layer_count) return layer < model.layer_count + model.unused_layers;
  const bool of_keys = rule.layers == InLayers::kKeys || rule.layers == InLayers::kValues;
  return of_keys && !model.has_keys(layer);
}

WeightUse TensorRule::use() const {
  if (matrices != Extent::kOne) return WeightUse::kMatrices;
  return rows == Extent::kOne || name.ends_with(".bias") ? WeightUse::kVector : WeightUse::kMatrix;
}

std::optional<CutKind> TensorRule::kind() const {
  for (const Extent extent : {rows, columns, matrices}) {
    if (const auto divides = extent_kind(extent)) return divides;
  }
  return std::nullopt;
}

std::string tensor_name(const TensorRule& rule, int64_t layer) {
  return rule.per_layer() ? fmt::format("blk.{}.{}", layer, rule.name.substr(2))
                          : std::string(rule.name);
}

std::optional<RuleMatch> match_rule(std::span<const TensorRule> rules, std::string_view tensor) {
  int64_t layer = -1;
  std::string_view rest = tensor;
  if (rest.starts_with("blk.")) {
    const auto named = layer_of(tensor);
    if (!named) return std::nullopt;
    layer = named->layer;
    rest = named->rest;
    if (layer < 0 ||
        tensor_name(TensorRule{"*.", Extent::kOne, Extent::kOne}, layer).size() + rest.size() !=
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

std::vector<std::string> present_rules(const gguf::File& file, const ModelDescription& model,
                                       std::span<const TensorRule> rules) {
  std::vector<std::string> names;
  for (const TensorRule& rule : rules) {
    if (rule.required()) continue;
    if (file.find_tensor(tensor_name(rule, first_layer(rule, model))) != nullptr)
      names.emplace_back(rule.name);
  }
  return names;
}

Status check_tensors(const gguf::File& file, const ModelDescription& model,
                     std::span<const TensorRule> rules) {
  for (const gguf::TensorInfo& tensor : file.tensors())
    SHOAL_TRY(check_name(file, model, rules, tensor));
  for (const TensorRule& rule : rules) {
    if (!rule.required() && !model.has(rule.name)) {
      // Optional and absent from its first layer: another that has it makes the model uneven.
      for (const gguf::TensorInfo& tensor : file.tensors()) {
        const auto match = match_rule(rules, tensor.name);
        if (!match || match->rule != &rule || is_behind(model, tensor.name)) continue;
        return fail(ErrorCode::kCorrupt,
                    "{}: the tensor {} is there but its like in layer {} is not", file.path(),
                    gguf::printable(tensor.name), first_layer(rule, model));
      }
      continue;
    }
    for (int64_t layer = 0; layer < (rule.per_layer() ? model.layer_count : 1); ++layer) {
      if (!rule.applies(model, layer)) continue;
      const std::string name = tensor_name(rule, layer);
      const gguf::TensorInfo* tensor = file.find_tensor(name);
      if (tensor == nullptr) {
        return fail(ErrorCode::kCorrupt,
                    "{}: the tensor \"{}\" is missing; the file is not a whole {} model",
                    file.path(), name, model.architecture);
      }
      SHOAL_TRY(check_tensor(file, model, rule, layer, *tensor));
    }
  }
  return {};
}

int64_t head_unit(const ModelDescription& model, int64_t width, int64_t head_count) {
  return std::min(head_count, model.cut_unit / std::gcd(width, model.cut_unit));
}

int64_t head_columns(const ModelDescription& model) {
  if (model.latent.rank > 0) return model.latent.value;
  int64_t columns = model.head_dimension;
  for (const LayerShape& shape : model.shapes) columns = std::gcd(columns, shape.head_dimension);
  return columns;
}

int64_t whole_kv_queries(const ModelDescription& model) {
  int64_t queries = model.head_count / model.kv_head_count;
  for (const LayerShape& shape : model.shapes)
    queries = std::lcm(queries, model.head_count / shape.kv_head_count);
  return queries;
}

int64_t cut_unit_of(const gguf::File& file, const ModelDescription& model,
                    std::span<const TensorRule> rules) {
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const auto match = match_rule(rules, tensor.name);
    if (!match || is_unused(model, *match->rule, match->layer)) continue;
    if (element_traits(tensor.type)->block_elements != 1) return kCutUnit;
  }
  return 1;
}

}  // namespace shoal
