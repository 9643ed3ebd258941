// ModelCard: made from a file, sent as JSON, and the sums over it.
#include <array>
#include <map>

#include "models/architecture.h"
#include "models/model.h"

namespace shoal {
namespace {

uint64_t divided_up(uint64_t bytes, int64_t by) {
  return (bytes + static_cast<uint64_t>(by) - 1) / static_cast<uint64_t>(by);
}

struct CountField {
  const char* name;
  int64_t ModelCard::* member;
};
constexpr std::array kCounts = {
    CountField{"layer_count", &ModelCard::layer_count},
    CountField{"hidden", &ModelCard::hidden},
    CountField{"feed_forward", &ModelCard::feed_forward},
    CountField{"head_count", &ModelCard::head_count},
    CountField{"kv_head_count", &ModelCard::kv_head_count},
    CountField{"head_dimension", &ModelCard::head_dimension},
    CountField{"vocabulary_size", &ModelCard::vocabulary_size},
    CountField{"context_length", &ModelCard::context_length},
};

struct BytesField {
  const char* name;
  uint64_t ModelCard::* member;
};
constexpr std::array kBytes = {
    BytesField{"file_bytes", &ModelCard::file_bytes},
    BytesField{"parameter_count", &ModelCard::parameter_count},
    BytesField{"attention_bytes_per_kv_head", &ModelCard::attention_bytes_per_kv_head},
    BytesField{"feed_forward_bytes_per_column", &ModelCard::feed_forward_bytes_per_column},
    BytesField{"vocabulary_bytes_per_row", &ModelCard::vocabulary_bytes_per_row},
    BytesField{"head_bytes_per_row", &ModelCard::head_bytes_per_row},
    BytesField{"replicated_bytes", &ModelCard::replicated_bytes},
};

// Sums over a card must not overflow, whoever sent it.
Status check_sums(const ModelCard& card) {
  constexpr uint64_t kLimit = uint64_t{1} << 60;
  uint64_t total = card.replicated_bytes;
  const std::array<std::pair<uint64_t, int64_t>, 4> products = {{
      {card.attention_bytes_per_kv_head, card.kv_head_count},
      {card.feed_forward_bytes_per_column, card.feed_forward},
      {card.vocabulary_bytes_per_row, card.vocabulary_size},
      {uint64_t{8} * static_cast<uint64_t>(card.layer_count) *
           static_cast<uint64_t>(card.kv_head_count),
       card.head_dimension},
  }};
  bool overflow = card.head_bytes_per_row > card.vocabulary_bytes_per_row || total > kLimit ||
                  card.layer_count > 1 << 20 || card.kv_head_count > 1 << 24;
  for (const auto& [bytes, count] : products) {
    uint64_t product = 0;
    overflow |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(count), &product);
    overflow |= __builtin_add_overflow(total, product, &total) || total > kLimit;
  }
  if (overflow)
    return fail(ErrorCode::kInvalidArgument, "the model card's sizes are too large to be true");
  return {};
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

ModelCard model_card(const gguf::File& file, const ModelDescription& model) {
  ModelCard card;
  card.name = model.name;
  card.architecture = model.architecture;
  card.file_bytes = model.file_bytes;
  card.layer_count = model.layer_count;
  card.hidden = model.hidden;
  card.feed_forward = model.feed_forward;
  card.head_count = model.head_count;
  card.kv_head_count = model.kv_head_count;
  card.head_dimension = model.head_dimension;
  card.vocabulary_size = model.vocabulary_size;
  card.context_length = model.context_length;
  card.tied_embedding = model.tied_embedding;

  const Architecture* architecture = find_architecture(model.architecture);
  SHOAL_CHECK(architecture != nullptr);  // descriptions come from describe()
  std::map<uint32_t, uint64_t> bytes_of_type;
  std::map<Part, uint64_t> bytes_of_part;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    uint64_t elements = 1;
    for (const int64_t dimension : tensor.dimensions) elements *= static_cast<uint64_t>(dimension);
    card.parameter_count += elements;
    bytes_of_type[tensor.type] += tensor.size_bytes;
    const auto match = match_rule(architecture->tensors, tensor.name);
    bytes_of_part[match ? match->rule->part() : Part::kReplicated] += tensor.size_bytes;
  }
  uint64_t most = 0;
  for (const auto& [type, bytes] : bytes_of_type) {
    if (bytes <= most) continue;
    most = bytes;
    card.quantisation = element_traits(type)->name;
  }
  card.attention_bytes_per_kv_head =
      divided_up(bytes_of_part[Part::kAttention], card.kv_head_count);
  card.feed_forward_bytes_per_column =
      divided_up(bytes_of_part[Part::kFeedForward], card.feed_forward);
  card.vocabulary_bytes_per_row =
      divided_up(bytes_of_part[Part::kVocabulary], card.vocabulary_size);
  const gguf::TensorInfo* head =
      file.find_tensor(model.tied_embedding ? "token_embd.weight" : "output.weight");
  card.head_bytes_per_row =
      head != nullptr ? divided_up(head->size_bytes, card.vocabulary_size) : 0;
  card.replicated_bytes = bytes_of_part[Part::kReplicated];
  return card;
}

Json to_json(const ModelCard& card) {
  Json json = {{"name", card.name},
               {"architecture", card.architecture},
               {"quantisation", card.quantisation},
               {"tied_embedding", card.tied_embedding}};
  for (const CountField& field : kCounts) json[field.name] = card.*field.member;
  for (const BytesField& field : kBytes) json[field.name] = card.*field.member;
  return json;
}

Result<ModelCard> model_card_from_json(const Json& json) {
  ModelCard card;
  SHOAL_ASSIGN(card.name, json_field<std::string>(json, "name"));
  SHOAL_ASSIGN(card.architecture, json_field<std::string>(json, "architecture"));
  SHOAL_ASSIGN(card.quantisation, json_field<std::string>(json, "quantisation"));
  SHOAL_ASSIGN(card.tied_embedding, json_field<bool>(json, "tied_embedding"));
  for (const CountField& field : kCounts) {
    SHOAL_ASSIGN(card.*field.member, json_field<int64_t>(json, field.name));
    if (card.*field.member < 1 || card.*field.member > INT32_MAX) {
      return fail(ErrorCode::kInvalidArgument, "the field '{}' is {}, not between 1 and {}",
                  field.name, card.*field.member, INT32_MAX);
    }
  }
  for (const BytesField& field : kBytes) {
    SHOAL_ASSIGN(card.*field.member, json_field<uint64_t>(json, field.name));
  }
  if (card.head_count % card.kv_head_count != 0) {
    return fail(ErrorCode::kInvalidArgument, "{} KV heads cannot be shared evenly by {} heads",
                card.kv_head_count, card.head_count);
  }
  SHOAL_TRY(check_sums(card));
  return card;
}

Json to_json(const RankCut& cut) {
  const auto pair = [](const Range& range) { return Json::array({range.begin, range.end}); };
  return {{"kv_heads", pair(cut.kv_heads)},
          {"feed_forward", pair(cut.feed_forward)},
          {"vocabulary", pair(cut.vocabulary)}};
}

Result<RankCut> rank_cut_from_json(const Json& json) {
  RankCut cut;
  SHOAL_ASSIGN(cut.kv_heads, range_field(json, "kv_heads"));
  SHOAL_ASSIGN(cut.feed_forward, range_field(json, "feed_forward"));
  SHOAL_ASSIGN(cut.vocabulary, range_field(json, "vocabulary"));
  return cut;
}

RankCut whole(const ModelCard& card) {
  return {{0, card.kv_head_count}, {0, card.feed_forward}, {0, card.vocabulary_size}};
}

uint64_t weight_bytes(const ModelCard& card, const RankCut& cut) {
  return card.attention_bytes_per_kv_head * static_cast<uint64_t>(cut.kv_heads.size()) +
         card.feed_forward_bytes_per_column * static_cast<uint64_t>(cut.feed_forward.size()) +
         card.vocabulary_bytes_per_row * static_cast<uint64_t>(cut.vocabulary.size()) +
         card.replicated_bytes;
}

uint64_t kv_bytes_per_token(const ModelCard& card, const RankCut& cut, KvType type) {
  return 2 * static_cast<uint64_t>(card.layer_count) * static_cast<uint64_t>(cut.kv_heads.size()) *
         kv_head_bytes(type, card.head_dimension);
}

}  // namespace shoal
