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
    BytesField{"kv_weight_bytes_each", &ModelCard::kv_weight_bytes_each},
    BytesField{"replicated_bytes", &ModelCard::replicated_bytes},
};

// Sums over a card must not overflow, whoever sent it.
Status check_sums(const ModelCard& card) {
  uint64_t total = card.replicated_bytes;
  bool overflow = total > kBeyondAnyMachineBytes || card.layer_count > 1 << 20;
  const auto count_in = [&](uint64_t bytes, int64_t count) {
    uint64_t product = 0;
    overflow |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(count), &product);
    overflow |= __builtin_add_overflow(total, product, &total) || total > kBeyondAnyMachineBytes;
  };
  for (const CutFacts& facts : card.cuts) {
    count_in(facts.bytes_each, facts.count);
    overflow |= facts.read_bytes_each > facts.bytes_each;
  }
  count_in(card.kv_weight_bytes_each, card.kv_head_count);
  for (const CacheFacts& cache : card.caches) {
    overflow |= cache.head_dimension > 1 << 20 || cache.kv_heads > card.head_count;
    count_in(static_cast<uint64_t>(8 * cache.layer_count), card.kv_head_count);
  }
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
  SHOAL_ASSIGN(facts.bytes_each, json_field<uint64_t>(json, "bytes_each"));
  SHOAL_ASSIGN(facts.read_bytes_each, json_field<uint64_t>(json, "read_bytes_each"));
  return facts;
}

Result<CacheFacts> cache_facts_from_json(const Json& json) {
  CacheFacts cache;
  SHOAL_ASSIGN(cache.layer_count, count_field(json, "layer_count", 1));
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

struct FileBytes {
  std::array<uint64_t, kCutKinds.size()> of_kind = {};
  uint64_t key_value = 0;
  uint64_t replicated = 0;
};

FileBytes count_bytes(const gguf::File& file, const ModelDescription& model, ModelCard& card) {
  const Architecture* architecture = find_architecture(model.architecture);
  SHOAL_CHECK(architecture != nullptr);  // descriptions come from describe()
  FileBytes bytes;
  std::map<uint32_t, uint64_t> bytes_of_type;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const auto match = match_rule(architecture->tensors, tensor.name);
    if (!match || is_unused(model, *match->rule, match->layer)) continue;
    uint64_t elements = 1;
    for (const int64_t dimension : tensor.dimensions) elements *= static_cast<uint64_t>(dimension);
    card.parameter_count += elements;
    bytes_of_type[tensor.type] += tensor.size_bytes;
    const auto kind = match->rule->kind();
    (!kind                         ? bytes.replicated
     : match->rule->is_key_value() ? bytes.key_value
                                   : bytes.of_kind[static_cast<size_t>(*kind)]) +=
        tensor.size_bytes;
  }
  uint64_t most = 0;
  for (const auto& [type, size_bytes] : bytes_of_type) {
    if (size_bytes <= most) continue;
    most = size_bytes;
    card.quantisation = element_traits(type)->name;
  }
  return bytes;
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

std::vector<CacheFacts> caches_of(const ModelDescription& model) {
  const bool latent = model.latent.rank > 0;
  std::vector<CacheFacts> caches;
  for (const bool windowed : {false, true}) {
    CacheFacts cache{.window = windowed ? model.window : 0, .latent = latent};
    for (int64_t layer = 0; layer < model.layer_count; ++layer) {
      if (model.is_windowed(layer) != windowed || !model.has_keys(layer)) continue;
      const LayerShape shape = model.shape(layer);
      ++cache.layer_count;
      cache.head_dimension = latent ? model.latent.rank + model.latent.rope : shape.head_dimension;
      cache.kv_heads = model.shapes.empty() ? 0 : shape.kv_head_count;
    }
    if (cache.layer_count > 0) caches.push_back(cache);
  }
  return caches;
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
  card.caches = caches_of(model);
  set_cuts(model, card);
  const FileBytes bytes = count_bytes(file, model, card);
  for (const CutKind kind : kCutKinds) {
    CutFacts& facts = card[kind];
    if (facts.count == 0) continue;
    facts.bytes_each = divided_up(bytes.of_kind[static_cast<size_t>(kind)], facts.count);
    facts.read_bytes_each = facts.bytes_each;
  }
  CutFacts& experts = card[CutKind::kExperts];
  if (experts.count > 0) {
    experts.read_bytes_each = experts.bytes_each * static_cast<uint64_t>(card.experts_used) /
                              static_cast<uint64_t>(card.expert_count);
  }
  const gguf::TensorInfo* head =
      file.find_tensor(model.tied_embedding ? "token_embd.weight" : "output.weight");
  card[CutKind::kVocabulary].read_bytes_each =
      head != nullptr ? std::min(divided_up(head->size_bytes, model.vocabulary_size),
                                 card[CutKind::kVocabulary].bytes_each)
                      : 0;
  card.kv_weight_bytes_each = divided_up(bytes.key_value, model.kv_head_count);
  card.replicated_bytes = bytes.replicated;
  return card;
}

Json to_json(const ModelCard& card) {
  Json json = {{"name", card.name},
               {"architecture", card.architecture},
               {"quantisation", card.quantisation},
               {"tied_embedding", card.tied_embedding}};
  for (const CountField& field : kCounts) json[field.name] = card.*field.member;
  for (const BytesField& field : kBytes) json[field.name] = card.*field.member;
  Json cuts = Json::object();
  for (const CutKind kind : kCutKinds) {
    const CutFacts& facts = card[kind];
    if (facts.count == 0) continue;
    cuts[std::string(cut_kind_name(kind))] = {{"count", facts.count},
                                              {"unit", facts.unit},
                                              {"finest_unit", facts.finest_unit},
                                              {"bytes_each", facts.bytes_each},
                                              {"read_bytes_each", facts.read_bytes_each}};
  }
  json["cuts"] = std::move(cuts);
  Json caches = Json::array();
  for (const CacheFacts& cache : card.caches) {
    caches.push_back({{"layer_count", cache.layer_count},
                      {"head_dimension", cache.head_dimension},
                      {"window", cache.window},
                      {"latent", cache.latent},
                      {"kv_heads", cache.kv_heads}});
  }
  json["caches"] = std::move(caches);
  return json;
}

Result<ModelCard> model_card_from_json(const Json& json) {
  ModelCard card;
  SHOAL_ASSIGN(card.name, json_field<std::string>(json, "name"));
  SHOAL_ASSIGN(card.architecture, json_field<std::string>(json, "architecture"));
  SHOAL_ASSIGN(card.quantisation, json_field<std::string>(json, "quantisation"));
  SHOAL_ASSIGN(card.tied_embedding, json_field<bool>(json, "tied_embedding"));
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
  SHOAL_TRY(check_sums(card));
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

uint64_t weight_bytes(const ModelCard& card, const RankCut& cut) {
  uint64_t bytes = card.replicated_bytes;
  for (const CutKind kind : kCutKinds)
    bytes += card[kind].bytes_each * static_cast<uint64_t>(cut[kind].size());
  const Range kv = kv_heads_of(cut[CutKind::kHeads], card.head_count, card.kv_head_count);
  return bytes + card.kv_weight_bytes_each * static_cast<uint64_t>(kv.size());
}

uint64_t kv_bytes(const ModelCard& card, const RankCut& cut, KvType type, int64_t positions,
                  int64_t step_rows) {
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
