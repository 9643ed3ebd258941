// ModelCard: made from a file, sent as JSON, and the sums over it.
#include <algorithm>
#include <array>
#include <map>

#include "models/architecture.h"
#include "models/model.h"
#include "models/tensor_rules.h"

namespace shoal {
namespace {

uint64_t divided_up(uint64_t bytes, int64_t by) {
  return (bytes + static_cast<uint64_t>(by) - 1) / static_cast<uint64_t>(by);
}

struct CountField {
  const char* name;
  int64_t ModelCard::* member;
  int64_t least;
};
constexpr std::array kCounts = {
    CountField{"layer_count", &ModelCard::layer_count, 1},
    CountField{"hidden", &ModelCard::hidden, 1},
    CountField{"head_count", &ModelCard::head_count, 1},
    CountField{"kv_head_count", &ModelCard::kv_head_count, 1},
    CountField{"head_dimension", &ModelCard::head_dimension, 1},
    CountField{"context_length", &ModelCard::context_length, 1},
    CountField{"expert_count", &ModelCard::expert_count, 0},
    CountField{"experts_used", &ModelCard::experts_used, 0},
};

struct BytesField {
  const char* name;
  uint64_t ModelCard::* member;
};
constexpr std::array kBytes = {
    BytesField{"file_bytes", &ModelCard::file_bytes},
    BytesField{"parameter_count", &ModelCard::parameter_count},
    BytesField{"embedding_bytes", &ModelCard::embedding_bytes},
    BytesField{"head_bytes", &ModelCard::head_bytes},
    BytesField{"first_bytes", &ModelCard::first_bytes},
    BytesField{"last_bytes", &ModelCard::last_bytes},
    BytesField{"shared_bytes", &ModelCard::shared_bytes},
};
constexpr int64_t kMostLayers = 1 << 14;

// Sums over a card must not overflow, whoever sent it. Called before they are made.
Status check_sums(const ModelCard& card) {
  uint64_t total = 0;
  bool overflow = false;
  const auto count_in = [&](uint64_t bytes) {
    overflow |= __builtin_add_overflow(total, bytes, &total) || total > kBeyondAnyMachineBytes;
  };
  for (const uint16_t kind : card.layers) {
    const LayerFacts& layer = card.layer_kinds[kind];
    for (const uint64_t bytes : layer.bytes) count_in(bytes);
    count_in(layer.key_value_bytes);
    count_in(layer.replicated_bytes);
  }
  for (const uint64_t bytes : {card.embedding_bytes, card.head_bytes, card.first_bytes,
                               card.last_bytes, card.shared_bytes})
    count_in(bytes);
  for (const CacheFacts& cache : card.caches)
    overflow |= cache.head_dimension > 1 << 20 || cache.kv_heads > card.head_count;
  if (overflow)
    return fail(ErrorCode::kInvalidArgument, "the model card's sizes are too large to be true");
  return {};
}

Result<int64_t> count_field(const Json& json, const char* name, int64_t least) {
  SHOAL_ASSIGN(const auto count, json_field<int64_t>(json, name));
  if (count < least || count > INT32_MAX) {
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is {}, not between {} and {}", name,
                count, least, INT32_MAX);
  }
  return count;
}

Result<CutFacts> cut_facts_from_json(const Json& json) {
  CutFacts facts;
  SHOAL_ASSIGN(facts.count, count_field(json, "count", 1));
  SHOAL_ASSIGN(facts.unit, count_field(json, "unit", 1));
  SHOAL_ASSIGN(facts.finest_unit, count_field(json, "finest_unit", 1));
  return facts;
}

Json to_json(const LayerFacts& layer) {
  Json bytes = Json::object();
  for (const CutKind kind : kCutKinds) {
    const uint64_t of_kind = layer.bytes[static_cast<size_t>(kind)];
    if (of_kind > 0) bytes[std::string(cut_kind_name(kind))] = of_kind;
  }
  return {{"bytes", std::move(bytes)},
          {"key_value_bytes", layer.key_value_bytes},
          {"replicated_bytes", layer.replicated_bytes},
          {"cache", layer.cache}};
}

Result<LayerFacts> layer_facts_from_json(const Json& json, const ModelCard& card) {
  LayerFacts layer;
  SHOAL_ASSIGN(const Json bytes, json_field<Json>(json, "bytes"));
  for (const CutKind kind : kCutKinds) {
    const std::string name(cut_kind_name(kind));
    uint64_t& of_kind = layer.bytes[static_cast<size_t>(kind)];
    SHOAL_ASSIGN(of_kind, json_field_or<uint64_t>(bytes, name.c_str(), 0));
    if (of_kind > 0 && (card[kind].count == 0 || kind == CutKind::kVocabulary))
      return fail(ErrorCode::kInvalidArgument,
                  "a layer of the model card has bytes of '{}', which "
                  "it cannot have",
                  name);
  }
  SHOAL_ASSIGN(layer.key_value_bytes, json_field<uint64_t>(json, "key_value_bytes"));
  SHOAL_ASSIGN(layer.replicated_bytes, json_field<uint64_t>(json, "replicated_bytes"));
  SHOAL_ASSIGN(layer.cache, json_field<int64_t>(json, "cache"));
  if (layer.cache < -1 || layer.cache >= static_cast<int64_t>(card.caches.size()))
    return fail(ErrorCode::kInvalidArgument, "a layer of the model card names cache {} of {}",
                layer.cache, card.caches.size());
  return layer;
}

// The field 'layer_kinds', and in 'layers' which of those each layer is.
Status layers_from_json(const Json& json, ModelCard& card) {
  SHOAL_ASSIGN(const Json kinds, json_field<Json>(json, "layer_kinds"));
  SHOAL_ASSIGN(const Json layers, json_field<Json>(json, "layers"));
  if (!layers.is_array() || static_cast<int64_t>(layers.size()) != card.layer_count ||
      card.layer_count > kMostLayers) {
    return fail(ErrorCode::kInvalidArgument, "the field 'layers' must list {} of them, at most {}",
                card.layer_count, kMostLayers);
  }
  if (!kinds.is_array() || kinds.empty() || kinds.size() > layers.size())
    return fail(ErrorCode::kInvalidArgument, "the field 'layer_kinds' must list 1 to {} of them",
                layers.size());
  for (const Json& kind : kinds) {
    SHOAL_ASSIGN(card.layer_kinds.emplace_back(), layer_facts_from_json(kind, card));
  }
  for (const Json& layer : layers) {
    // A parser stores what is not negative as unsigned.
    if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= kinds.size())
      return fail(ErrorCode::kInvalidArgument,
                  "the field 'layers' must name one of the {} kinds "
                  "for each",
                  kinds.size());
    card.layers.push_back(static_cast<uint16_t>(layer.get<uint64_t>()));
  }
  return {};
}

Result<CacheFacts> cache_facts_from_json(const Json& json) {
  CacheFacts cache;
  SHOAL_ASSIGN(cache.head_dimension, count_field(json, "head_dimension", 1));
  SHOAL_ASSIGN(cache.window, count_field(json, "window", 0));
  SHOAL_ASSIGN(cache.latent, json_field<bool>(json, "latent"));
  SHOAL_ASSIGN(cache.kv_heads, count_field(json, "kv_heads", 0));
  return cache;
}

Result<Range> range_field(const Json& json, const char* name) {
  SHOAL_ASSIGN(const Json pair, json_field<Json>(json, name));
  if (!pair.is_array() || pair.size() != 2) {
    return fail(ErrorCode::kInvalidArgument, "the field '{}' must be [begin, end]", name);
  }
  Range range;
  for (int i = 0; i < 2; ++i) {
    const Json& number = pair[static_cast<size_t>(i)];
    // At most 2^31: also what a parser stores as unsigned compares right as a double.
    if (!number.is_number_integer() || number.get<double>() < 0 ||
        number.get<double>() > 2147483648.0) {
      return fail(ErrorCode::kInvalidArgument, "the field '{}' must be two counts", name);
    }
    (i == 0 ? range.begin : range.end) = number.get<int64_t>();
  }
  if (range.begin >= range.end)
    return fail(ErrorCode::kInvalidArgument, "the range '{}' is empty", name);
  return range;
}

}  // namespace

Range kv_heads_of(Range heads, int64_t head_count, int64_t kv_head_count) {
  const int64_t queries = head_count / kv_head_count;
  return {heads.begin / queries, (heads.end + queries - 1) / queries};
}

std::string_view cut_kind_name(CutKind kind) {
  constexpr std::array<std::string_view, kCutKinds.size()> kNames = {
      "heads", "experts", "shared_expert", "feed_forward", "vocabulary"};
  return kNames[static_cast<size_t>(kind)];
}

std::string_view cut_kind_words(CutKind kind) {
  constexpr std::array<std::string_view, kCutKinds.size()> kWords = {
      "attention heads", "expert columns", "shared expert columns", "feed-forward columns",
      "vocabulary rows"};
  return kWords[static_cast<size_t>(kind)];
}

namespace {

// Where a tensor outside of layers counts: by its name, as architectures share these names.
uint64_t& end_bytes(ModelCard& card, const TensorRule& rule) {
  const bool at_end = rule.name.starts_with("output");
  if (rule.kind()) return at_end ? card.head_bytes : card.embedding_bytes;
  if (rule.name.starts_with("rope")) return card.shared_bytes;
  return at_end ? card.last_bytes : card.first_bytes;
}

uint64_t& layer_bytes(LayerFacts& layer, const TensorRule& rule) {
  const auto kind = rule.kind();
  if (!kind) return layer.replicated_bytes;
  return rule.is_key_value() ? layer.key_value_bytes : layer.bytes[static_cast<size_t>(*kind)];
}

// The bytes of each tensor to where they count; the type of most of them.
void count_bytes(const gguf::File& file, const ModelDescription& model, ModelCard& card,
                 std::vector<LayerFacts>& layers) {
  const Architecture* architecture = find_architecture(model.architecture);
  SHOAL_CHECK(architecture != nullptr);  // descriptions come from describe()
  std::map<uint32_t, uint64_t> bytes_of_type;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const auto match = match_rule(architecture->tensors, tensor.name);
    if (!match || is_unused(model, *match->rule, match->layer)) continue;
    uint64_t elements = 1;
    for (const int64_t dimension : tensor.dimensions) elements *= static_cast<uint64_t>(dimension);
    card.parameter_count += elements;
    bytes_of_type[tensor.type] += tensor.size_bytes;
    (match->rule->per_layer() ? layer_bytes(layers[static_cast<size_t>(match->layer)], *match->rule)
                              : end_bytes(card, *match->rule)) += tensor.size_bytes;
  }
  uint64_t most = 0;
  for (const auto& [type, size_bytes] : bytes_of_type) {
    if (size_bytes <= most) continue;
    most = size_bytes;
    card.quantisation = element_traits(type)->name;
  }
}

// Each kind of layer once.
void set_layers(const std::vector<LayerFacts>& layers, ModelCard& card) {
  for (const LayerFacts& layer : layers) {
    const auto known = std::ranges::find(card.layer_kinds, layer);
    card.layers.push_back(static_cast<uint16_t>(known - card.layer_kinds.begin()));
    if (known == card.layer_kinds.end()) card.layer_kinds.push_back(layer);
  }
}

bool stand_alone(const ModelDescription& model) {
  return model.layer_input == 0 &&
         std::ranges::find(model.without_keys, true) == model.without_keys.end();
}

// Counts and units; no bytes yet.
void set_cuts(const ModelDescription& model, ModelCard& card) {
  const int64_t width = head_columns(model);
  const int64_t queries = whole_kv_queries(model);
  CutFacts& heads = card[CutKind::kHeads];
  heads = {.count = model.head_count, .finest_unit = head_unit(model, width, model.head_count)};
  heads.unit = model.latent.rank > 0
                   ? heads.finest_unit
                   : queries * head_unit(model, queries * width, model.head_count / queries);
  for (const CutKind kind : kCutKinds) {
    const int64_t count = cut_total(model, kind);
    if (kind == CutKind::kHeads || count == 0) continue;
    card[kind] = {.count = count, .unit = kCutUnit, .finest_unit = model.cut_unit};
  }
}

// The kinds of cache, and which of them each layer fills.
std::vector<CacheFacts> caches_of(const ModelDescription& model, std::vector<LayerFacts>& layers) {
  const bool latent = model.latent.rank > 0;
  std::vector<CacheFacts> caches;
  for (const bool windowed : {false, true}) {
    CacheFacts cache{.window = windowed ? model.window : 0, .latent = latent};
    bool used = false;
    for (int64_t layer = 0; layer < model.layer_count; ++layer) {
      if (model.is_windowed(layer) != windowed || !model.has_keys(layer)) continue;
      const LayerShape shape = model.shape(layer);
      used = true;
      layers[static_cast<size_t>(layer)].cache = static_cast<int64_t>(caches.size());
      cache.head_dimension = latent ? model.latent.rank + model.latent.rope : shape.head_dimension;
      cache.kv_heads = model.shapes.empty() ? 0 : shape.kv_head_count;
    }
    if (used) caches.push_back(cache);
  }
  return caches;
}

// Makes the sums of `card` those of these layers of it.
void sum_layers(ModelCard& card, Range layers) {
  std::array<uint64_t, kCutKinds.size()> of_kind = {};
  uint64_t key_value = 0;
  card.replicated_bytes = card.shared_bytes;
  for (CacheFacts& cache : card.caches) cache.layer_count = 0;
  for (int64_t at = layers.begin; at < layers.end; ++at) {
    const LayerFacts& layer = card.layer_kinds[card.layers[static_cast<size_t>(at)]];
    for (size_t kind = 0; kind < of_kind.size(); ++kind) of_kind[kind] += layer.bytes[kind];
    key_value += layer.key_value_bytes;
    card.replicated_bytes += layer.replicated_bytes;
    if (layer.cache >= 0) ++card.caches[static_cast<size_t>(layer.cache)].layer_count;
  }
  const bool first = layers.begin == 0;
  const bool last = layers.end == static_cast<int64_t>(card.layers.size());
  const bool once = card.tied_embedding && first;
  of_kind[static_cast<size_t>(CutKind::kVocabulary)] +=
      (first ? card.embedding_bytes : 0) + (last && !once ? card.head_bytes : 0);
  card.replicated_bytes += (first ? card.first_bytes : 0) + (last ? card.last_bytes : 0);
  for (const CutKind kind : kCutKinds) {
    CutFacts& facts = card[kind];
    if (facts.count == 0) continue;
    facts.bytes_each = divided_up(of_kind[static_cast<size_t>(kind)], facts.count);
    facts.read_bytes_each = facts.bytes_each;
  }
  CutFacts& experts = card[CutKind::kExperts];
  if (experts.count > 0 && card.expert_count > 0) {
    experts.read_bytes_each = static_cast<uint64_t>(static_cast<double>(experts.bytes_each) *
                                                    static_cast<double>(card.experts_used) /
                                                    static_cast<double>(card.expert_count));
  }
  CutFacts& vocabulary = card[CutKind::kVocabulary];
  vocabulary.read_bytes_each =
      last ? std::min(divided_up(card.head_bytes, vocabulary.count), vocabulary.bytes_each) : 0;
  card.kv_weight_bytes_each = divided_up(key_value, card.kv_head_count);
}

}  // namespace

ModelCard model_card(const gguf::File& file, const ModelDescription& model) {
  ModelCard card;
  card.name = model.name;
  card.architecture = model.architecture;
  card.file_bytes = model.file_bytes;
  card.layer_count = model.layer_count;
  card.hidden = model.hidden;
  card.head_count = model.head_count;
  card.kv_head_count = model.kv_head_count;
  card.head_dimension = model.head_dimension;
  card.context_length = model.context_length;
  card.expert_count = model.mixture.count;
  card.experts_used = model.mixture.count > 0 ? model.mixture.routing.used : 0;
  card.tied_embedding = model.tied_embedding;
  card.layers_stand_alone = stand_alone(model);
  set_cuts(model, card);
  std::vector<LayerFacts> layers(static_cast<size_t>(model.layer_count));
  card.caches = caches_of(model, layers);
  count_bytes(file, model, card, layers);
  set_layers(layers, card);
  if (const gguf::TensorInfo* table = file.find_tensor("token_embd.weight");
      model.tied_embedding && table != nullptr) {
    card.head_bytes = table->size_bytes;
  }
  sum_up(card);
  return card;
}

void sum_up(ModelCard& card) {
  sum_layers(card, {0, static_cast<int64_t>(card.layers.size())});
}

ModelCard card_of_layers(const ModelCard& card, Range layers) {
  const auto count = static_cast<int64_t>(card.layers.size());
  layers.end = std::clamp<int64_t>(layers.end, 0, count);
  layers.begin = std::clamp<int64_t>(layers.begin, 0, layers.end);
  ModelCard part = card;
  sum_layers(part, layers);
  part.layer_count = layers.size();
  if (layers.begin > 0) part.embedding_bytes = 0;
  part.layers_stand_alone = false;
  part.layers.clear();
  part.layer_kinds.clear();
  return part;
}

Json to_json(const ModelCard& card) {
  Json json = {{"name", card.name},
               {"architecture", card.architecture},
               {"quantisation", card.quantisation},
               {"tied_embedding", card.tied_embedding},
               {"layers_stand_alone", card.layers_stand_alone}};
  for (const CountField& field : kCounts) json[field.name] = card.*field.member;
  for (const BytesField& field : kBytes) json[field.name] = card.*field.member;
  Json cuts = Json::object();
  for (const CutKind kind : kCutKinds) {
    const CutFacts& facts = card[kind];
    if (facts.count == 0) continue;
    cuts[std::string(cut_kind_name(kind))] = {
        {"count", facts.count}, {"unit", facts.unit}, {"finest_unit", facts.finest_unit}};
  }
  json["cuts"] = std::move(cuts);
  Json caches = Json::array();
  for (const CacheFacts& cache : card.caches) {
    caches.push_back({{"head_dimension", cache.head_dimension},
                      {"window", cache.window},
                      {"latent", cache.latent},
                      {"kv_heads", cache.kv_heads}});
  }
  json["caches"] = std::move(caches);
  Json kinds = Json::array();
  for (const LayerFacts& kind : card.layer_kinds) kinds.push_back(to_json(kind));
  json["layer_kinds"] = std::move(kinds);
  json["layers"] = card.layers;
  return json;
}

Result<ModelCard> model_card_from_json(const Json& json) {
  ModelCard card;
  SHOAL_ASSIGN(card.name, json_field<std::string>(json, "name"));
  SHOAL_ASSIGN(card.architecture, json_field<std::string>(json, "architecture"));
  SHOAL_ASSIGN(card.quantisation, json_field<std::string>(json, "quantisation"));
  SHOAL_ASSIGN(card.tied_embedding, json_field<bool>(json, "tied_embedding"));
  SHOAL_ASSIGN(card.layers_stand_alone, json_field<bool>(json, "layers_stand_alone"));
  for (const CountField& field : kCounts) {
    SHOAL_ASSIGN(card.*field.member, count_field(json, field.name, field.least));
  }
  for (const BytesField& field : kBytes) {
    SHOAL_ASSIGN(card.*field.member, json_field<uint64_t>(json, field.name));
  }
  if (card.head_count % card.kv_head_count != 0) {
    return fail(ErrorCode::kInvalidArgument, "{} KV heads cannot be shared evenly by {} heads",
                card.kv_head_count, card.head_count);
  }
  SHOAL_ASSIGN(const Json cuts, json_field<Json>(json, "cuts"));
  for (const CutKind kind : kCutKinds) {
    const std::string name(cut_kind_name(kind));
    if (!cuts.is_object() || !cuts.contains(name)) continue;
    SHOAL_ASSIGN(card[kind], cut_facts_from_json(cuts[name]));
  }
  if (card[CutKind::kHeads].count != card.head_count || card[CutKind::kVocabulary].count == 0) {
    return fail(ErrorCode::kInvalidArgument, "the model card's cuts lack heads or vocabulary");
  }
  SHOAL_ASSIGN(const Json caches, json_field<Json>(json, "caches"));
  if (!caches.is_array() || caches.empty() || caches.size() > 16)
    return fail(ErrorCode::kInvalidArgument, "the field 'caches' must list 1 to 16 of them");
  for (const Json& cache : caches) {
    SHOAL_ASSIGN(CacheFacts facts, cache_facts_from_json(cache));
    if (facts.kv_heads > 0 && card.head_count % facts.kv_heads != 0) {
      return fail(ErrorCode::kInvalidArgument, "{} KV heads cannot be shared evenly by {} heads",
                  facts.kv_heads, card.head_count);
    }
    card.caches.push_back(facts);
  }
  SHOAL_TRY(layers_from_json(json, card));
  SHOAL_TRY(check_sums(card));
  sum_up(card);
  return card;
}

Json to_json(const RankCut& cut) {
  Json json = Json::object();
  for (const CutKind kind : kCutKinds) {
    if (cut[kind].size() > 0)
      json[std::string(cut_kind_name(kind))] = Json::array({cut[kind].begin, cut[kind].end});
  }
  if (cut.layers.size() > 0) json["layers"] = Json::array({cut.layers.begin, cut.layers.end});
  return json;
}

Result<RankCut> rank_cut_from_json(const Json& json) {
  RankCut cut;
  for (const CutKind kind : kCutKinds) {
    const std::string name(cut_kind_name(kind));
    const bool required = kind == CutKind::kHeads || kind == CutKind::kVocabulary;
    if (!required && json.is_object() && !json.contains(name)) continue;
    SHOAL_ASSIGN(cut[kind], range_field(json, name.c_str()));
  }
  if (json.is_object() && json.contains("layers")) {
    SHOAL_ASSIGN(cut.layers, range_field(json, "layers"));
  }
  return cut;
}

RankCut whole(const ModelCard& card) {
  RankCut cut;
  for (const CutKind kind : kCutKinds) cut[kind] = {0, card[kind].count};
  return cut;
}

namespace {

RankCut without_layers(RankCut cut) {
  cut.layers = {};
  return cut;
}

}  // namespace

uint64_t weight_bytes(const ModelCard& card, const RankCut& cut) {
  if (cut.layers.size() > 0)
    return weight_bytes(card_of_layers(card, cut.layers), without_layers(cut));
  uint64_t bytes = card.replicated_bytes;
  for (const CutKind kind : kCutKinds)
    bytes += card[kind].bytes_each * static_cast<uint64_t>(cut[kind].size());
  const Range kv = kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count);
  return bytes + card.kv_weight_bytes_each * static_cast<uint64_t>(kv.size());
}

uint64_t kv_bytes(const ModelCard& card, const RankCut& cut, KvType type, int64_t positions,
                  int64_t step_rows) {
  if (cut.layers.size() > 0) {
    return kv_bytes(card_of_layers(card, cut.layers), without_layers(cut), type, positions,
                    step_rows);
  }
  double bytes = 0;  // what no machine has must not wrap around to little
  for (const CacheFacts& cache : card.caches) {
    const Range kv = kv_heads_of(cut[CutKind::kHeads], card.head_count,
                                 cache.kv_heads > 0 ? cache.kv_heads : card.kv_head_count);
    const int64_t kept =
        cache.window > 0 ? std::min(positions, cache.window + step_rows) : positions;
    const auto heads = static_cast<double>(cache.latent ? 1 : 2 * kv.size());
    bytes += heads * static_cast<double>(cache.layer_count) *
             static_cast<double>(kv_head_bytes(type, cache.head_dimension)) *
             static_cast<double>(kept);
  }
  return bytes >= static_cast<double>(kBeyondAnyMachineBytes) ? kBeyondAnyMachineBytes
                                                              : static_cast<uint64_t>(bytes);
}

}  // namespace shoal
