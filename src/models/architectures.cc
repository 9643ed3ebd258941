#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "models/architecture.h"

namespace shoal {

namespace {

constexpr std::array kArchitectures = {
#define SHOAL_ARCHITECTURE(name) &name,
#include "models/architectures.inc"
#undef SHOAL_ARCHITECTURE
};

Status check_range(CutKind kind, const Range& range, int64_t total, int64_t unit) {
  if (total == 0 && range.size() == 0) return {};
  if (range.begin < 0 || range.begin >= range.end || range.end > total) {
    return fail(ErrorCode::kInvalidArgument,
                "the cut's {} {} to {} are not a part of the model's {}", cut_kind_words(kind),
                range.begin, range.end, total);
  }
  for (const int64_t border : {range.begin, range.end}) {
    if (border % unit != 0 && border != total) {
      return fail(ErrorCode::kInvalidArgument,
                  "the cut's {} {} to {} must begin and end on multiples of {}",
                  cut_kind_words(kind), range.begin, range.end, unit);
    }
  }
  return {};
}

Status read_heads(const Hyperparameters& keys, ModelDescription& model) {
  SHOAL_ASSIGN(model.head_count, keys.count("attention.head_count"));
  SHOAL_ASSIGN(model.kv_head_count, keys.count_or("attention.head_count_kv", model.head_count));
  if (model.head_count % model.kv_head_count != 0) {
    return keys.wrong(ErrorCode::kCorrupt, "attention.head_count_kv",
                      "{} KV heads cannot be shared evenly by {} heads", model.kv_head_count,
                      model.head_count);
  }
  if (!keys.has("attention.key_length") && model.hidden % model.head_count != 0) {
    return keys.wrong(ErrorCode::kCorrupt, "attention.head_count",
                      "{} heads do not divide the embedding length {}", model.head_count,
                      model.hidden);
  }
  SHOAL_ASSIGN(model.head_dimension,
               keys.count_or("attention.key_length", model.hidden / model.head_count));
  return {};
}

Result<ModelDescription> describe_common(const Hyperparameters& keys,
                                         const Architecture& architecture) {
  const gguf::File& file = keys.file();
  ModelDescription model;
  model.architecture = architecture.name;
  model.name = std::string(
      file.string("general.name").value_or(file.path().substr(file.path().find_last_of('/') + 1)));
  model.file_bytes = file.size_bytes();
  SHOAL_ASSIGN(model.layer_count, keys.count("block_count"));
  SHOAL_ASSIGN(model.unused_layers, keys.count_or_zero("nextn_predict_layers"));
  if (model.unused_layers >= model.layer_count) {
    return keys.wrong(ErrorCode::kCorrupt, "nextn_predict_layers", "{} of {} layers leave none",
                      model.unused_layers, model.layer_count);
  }
  model.layer_count -= model.unused_layers;
  const size_t tensors = file.tensors().size();  // before anything is sized by the layers
  if (model.layer_count > static_cast<int64_t>(tensors)) {
    return keys.wrong(ErrorCode::kCorrupt, "block_count", "{} layers in a file of {} tensors",
                      model.layer_count, tensors);
  }
  SHOAL_ASSIGN(model.hidden, keys.count("embedding_length"));
  SHOAL_ASSIGN(model.context_length, keys.count("context_length"));
  SHOAL_ASSIGN(model.norm_epsilon, keys.positive("attention.layer_norm_rms_epsilon"));
  if (!architecture.shapes_layers) {
    SHOAL_ASSIGN(model.feed_forward, keys.count("feed_forward_length"));
    SHOAL_TRY(read_heads(keys, model));
    model.attention_scale = 1 / std::sqrt(static_cast<float>(model.head_dimension));
  }
  model.tied_embedding = file.find_tensor("output.weight") == nullptr;
  return model;
}

Status read_vocabulary(const gguf::File& file, ModelDescription& model) {
  const gguf::TensorInfo* table = file.find_tensor("token_embd.weight");
  if (table == nullptr) {
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor \"token_embd.weight\" is missing; the file is not a whole model",
                file.path());
  }
  model.vocabulary_size = table->dimensions.size() > 1 ? table->dimensions[1] : 1;
  if (model.vocabulary_size > INT32_MAX) {
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor \"token_embd.weight\" has {} rows, more than token ids can count",
                file.path(), model.vocabulary_size);
  }
  const gguf::Value* tokens = file.find("tokenizer.ggml.tokens");
  const auto* list = tokens != nullptr ? std::get_if<gguf::Array>(tokens) : nullptr;
  if (list != nullptr && list->count != static_cast<uint64_t>(model.vocabulary_size)) {
    return fail(ErrorCode::kCorrupt,
                "{}: the metadata key \"tokenizer.ggml.tokens\" has {} tokens, the tensor "
                "\"token_embd.weight\" has {} rows",
                file.path(), list->count, model.vocabulary_size);
  }
  return {};
}

// Angles are divided by these: a zero would turn whole heads into NaN.
Status check_rope_factors(const gguf::File& file, const std::string& name) {
  if (name.empty()) return {};
  SHOAL_ASSIGN(const TensorSource factors, file.tensor(name));
  if (factors.type != ElementType::kF32) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor \"{}\" must be F32, not {}", file.path(),
                name, element_traits(factors.type).name);
  }
  for (size_t at = 0; at < factors.bytes.size(); at += sizeof(float)) {
    float factor;
    std::memcpy(&factor, factors.bytes.data() + at, sizeof factor);
    if (std::isfinite(factor) && factor > 0) continue;
    return fail(ErrorCode::kCorrupt,
                "{}: the tensor \"{}\" holds {}, which is not a finite number above zero",
                file.path(), name, factor);
  }
  return {};
}

// Tensors that are of use only together.
Status check_sets(const gguf::File& file, const ModelDescription& model) {
  constexpr std::array<std::array<std::string_view, 3>, 4> kSets = {{
      {"*.attn_q_norm.weight", "*.attn_k_norm.weight", ""},
      {"*.attn_k_b.weight", "*.attn_v_b.weight", ""},
      {"rope_factors_long.weight", "rope_factors_short.weight", ""},
      {"*.ffn_gate_shexp.weight", "*.ffn_up_shexp.weight", "*.ffn_down_shexp.weight"},
  }};
  for (const auto& set : kSets) {
    std::string_view there, absent;
    for (const std::string_view rule : set) {
      if (!rule.empty()) (model.has(rule) ? there : absent) = rule;
    }
    const bool is_shared = set[2].size() > 0;
    const bool wanted = is_shared && model.mixture.shared_width > 0;
    if (absent.empty() || (there.empty() && !wanted)) continue;
    if (!is_shared && there.empty()) continue;
    return fail(ErrorCode::kCorrupt, "{}: {} without \"{}\"; the file is not a whole {} model",
                file.path(),
                there.empty() ? "the metadata speaks of a shared expert"
                              : fmt::format("there is \"{}\"", there),
                absent, model.architecture);
  }
  return {};
}

bool is_of_feed_forward(const TensorRule& rule) {
  return rule.kind() == CutKind::kFeedForward;
}

// Whether any layer has one: all may have experts instead.
bool has_feed_forward(const ModelDescription& model, std::span<const TensorRule> rules) {
  return std::ranges::any_of(rules, [&](const TensorRule& rule) {
    if (!is_of_feed_forward(rule)) return false;
    int64_t layer = 0;
    while (layer < model.layer_count && !rule.applies(model, layer)) ++layer;
    return layer < model.layer_count;
  });
}

Status check_values(const Hyperparameters& keys, const ModelDescription& model,
                    std::span<const TensorRule> rules) {
  if (model.latent.rank == 0 && model.shapes.empty()) {
    SHOAL_ASSIGN(const int64_t value_length,
                 keys.count_or("attention.value_length", model.head_dimension));
    if (value_length != model.head_dimension) {
      return keys.wrong(ErrorCode::kUnsupported, "attention.value_length",
                        "{} differs from the key length {}, which is not supported", value_length,
                        model.head_dimension);
    }
  }
  const bool finite =
      std::ranges::all_of(std::array{model.attention_scale, model.embedding_scale,
                                     model.residual_scale, model.logit_scale, model.query_growth,
                                     model.rope.amplitude, model.mixture.routing.scale},
                          [](float number) { return std::isfinite(number); }) &&
      std::ranges::all_of(model.rope.frequency_scales,
                          [](double number) { return std::isfinite(number); });
  if (!finite) {
    return fail(
        ErrorCode::kCorrupt,
        "{}: the metadata's factors (rope.scaling.*, *_scale) are too large or too small to "
        "compute with",
        keys.file().path());
  }
  const Mixture& mixture = model.mixture;
  if (mixture.count == 0) {
    const auto of_experts = [](const TensorRule& rule) {
      return rule.layers == InLayers::kMixture;
    };
    if (std::ranges::none_of(rules, of_experts) || std::ranges::any_of(rules, is_of_feed_forward))
      return {};
    return keys.wrong(ErrorCode::kCorrupt, "expert_count",
                      "it is absent or 0, and this architecture has nothing but experts");
  }
  const Routing& routing = mixture.routing;
  if (routing.used < 1 || routing.used > mixture.count) {
    return keys.wrong(ErrorCode::kCorrupt, "expert_used_count", "{} of {} experts cannot be used",
                      routing.used, mixture.count);
  }
  const int64_t group = routing.groups > 0 ? mixture.count / routing.groups : 0;
  if (routing.groups < 1 || mixture.count % routing.groups != 0 || routing.groups_used < 1 ||
      routing.groups_used > routing.groups || routing.groups_used * group < routing.used) {
    return keys.wrong(ErrorCode::kCorrupt, "expert_group_count",
                      "{} groups of which {} are used cannot be made of {} experts of which {} are",
                      routing.groups, routing.groups_used, mixture.count, routing.used);
  }
  int64_t first = mixture.dense_layers;
  while (first < model.layer_count && !model.is_mixture(first)) ++first;
  if (first >= model.layer_count) {
    return keys.wrong(ErrorCode::kCorrupt,
                      mixture.step > 1 ? "interleave_moe_layer_step" : "leading_dense_block_count",
                      "{} in {} layers leaves none for the experts",
                      mixture.step > 1 ? mixture.step : mixture.dense_layers, model.layer_count);
  }
  const auto has = [&](std::string_view name) {
    return keys.has_tensor(fmt::format("blk.{}.{}.weight", first, name));
  };
  if (has("ffn_gate_up_exps") != (has("ffn_gate_exps") && has("ffn_up_exps"))) return {};
  return fail(ErrorCode::kCorrupt,
              "{}: the experts of layer {} need \"ffn_gate_up_exps.weight\" or both of "
              "\"ffn_gate_exps.weight\" and \"ffn_up_exps.weight\"; the file is not a whole model",
              keys.file().path(), first);
}

// Files that lie beside models, and are taken for one.
Status refuse_companions(const gguf::File& file, std::string_view architecture) {
  const auto type = file.string("general.type");
  const std::string_view kind = type ? *type : "model";
  const auto base = file.string("general.base_model.0.name");
  const std::string of = base ? fmt::format(" (of {})", gguf::printable(*base)) : "";
  if (kind == "adapter") {
    return fail(
        ErrorCode::kUnsupported,
        "{}: the file is an adapter (LoRA){}: changes to a model's weights, not a model, and Shoal "
        "applies none; give a GGUF of the whole model, into which the adapter may have "
        "been merged",
        file.path(), of);
  }
  if (kind == "mmproj" || architecture == "clip") {
    return fail(
        ErrorCode::kUnsupported,
        "{}: the file is a multimodal projector{}: the part of a model that reads images or sound, "
        "not the model; give the language model's GGUF, which is published beside it "
        "without \"mmproj\" in its name",
        file.path(), of);
  }
  if (kind != "model") {
    return fail(ErrorCode::kUnsupported, "{}: the file holds {}, not a model", file.path(),
                gguf::printable(kind));
  }
  return {};
}

}  // namespace

void build_layers(ProgramBuilder& build, const ModelDescription& model, const LayerForm& form) {
  build.embed();
  for (int64_t layer = 0; layer < model.layer_count; ++layer) {
    build.attention(layer, form.attention, form.order);
    build.feed_forward_or_mixture(layer, form.activation, form.feed_forward);
  }
  build.head();
}

void build_decoder(ProgramBuilder& build, const ModelDescription& model) {
  build_layers(build, model, {});
}

Status read_mixture(const Hyperparameters& keys, ModelDescription& model, Routing routing) {
  Mixture& mixture = model.mixture;
  SHOAL_ASSIGN(mixture.count, keys.count_or_zero("expert_count"));
  if (mixture.count == 0) {
    mixture = {};
    return {};
  }
  SHOAL_ASSIGN(const int64_t used, keys.count("expert_used_count"));
  routing.used = static_cast<int>(used);
  SHOAL_ASSIGN(mixture.width, keys.count_or("expert_feed_forward_length", model.feed_forward));
  SHOAL_ASSIGN(const int64_t shared, keys.count_or_zero("expert_shared_count"));
  if (shared > 1024) {
    return keys.wrong(ErrorCode::kCorrupt, "expert_shared_count", "{} is more than 1024", shared);
  }
  if (mixture.shared_width == 0) mixture.shared_width = shared * mixture.width;
  SHOAL_ASSIGN(const int64_t score, keys.count_or_zero("expert_gating_func"));
  if (score == 1) routing.score = Routing::Score::kSoftmax;
  if (score == 2) routing.score = Routing::Score::kSigmoid;
  if (score == 3) routing.score = Routing::Score::kSoftmaxOfChosen;
  if (score > 3) {
    return keys.wrong(ErrorCode::kUnsupported, "expert_gating_func",
                      "{}; supported are 1 (softmax), 2 (sigmoid) and 3 (softmax of the chosen)",
                      score);
  }
  SHOAL_ASSIGN(routing.normalised, keys.flag_or("expert_weights_norm", routing.normalised));
  SHOAL_ASSIGN(const float scale, keys.number_or("expert_weights_scale", 1.0f));
  if (scale != 0) routing.scale = scale;
  SHOAL_ASSIGN(const int64_t groups, keys.count_or_zero("expert_group_count"));
  if (groups > 1) {
    SHOAL_ASSIGN(const int64_t groups_used, keys.count("expert_group_used_count"));
    routing.groups = static_cast<int>(groups);
    routing.groups_used = static_cast<int>(groups_used);
  }
  mixture.routing = routing;
  return {};
}

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture* known : kArchitectures) {
    if (known->name == name) return known;
  }
  return nullptr;
}

bool ModelDescription::has(std::string_view optional_rule) const {
  return std::ranges::find(present, optional_rule) != present.end();
}

std::string supported_architectures() {
  std::string names;
  for (const Architecture* known : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += known->name;
  }
  return names;
}

Result<ModelDescription> describe(const gguf::File& file) {
  const auto name = file.string("general.architecture");
  SHOAL_TRY(refuse_companions(file, name ? *name : ""));
  if (!name)
    return fail(ErrorCode::kCorrupt, "{}; the file does not say what model it holds",
                name.error().message);
  const Architecture* architecture = find_architecture(*name);
  if (architecture == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "{}: the architecture {} is not supported; supported are: {}", file.path(),
                gguf::printable(*name), supported_architectures());
  }
  if (file.tensors().empty()) {
    return fail(
        ErrorCode::kUnsupported,
        "{}: the file holds no tensors, only a vocabulary; it can be tokenised with but not run",
        file.path());
  }
  const Hyperparameters keys(file, architecture->name);
  SHOAL_ASSIGN(ModelDescription model, describe_common(keys, *architecture));
  SHOAL_TRY(architecture->describe(keys, model));
  if (!has_feed_forward(model, architecture->tensors)) model.feed_forward = 0;
  SHOAL_TRY(check_values(keys, model, architecture->tensors));
  SHOAL_TRY(read_vocabulary(file, model));
  for (const std::string& factors : {model.rope_factors, model.long_rope_factors})
    SHOAL_TRY(check_rope_factors(file, factors));
  model.present = present_rules(file, model, architecture->tensors);
  SHOAL_TRY(check_sets(file, model));
  SHOAL_TRY(check_tensors(file, model, architecture->tensors));
  model.cut_unit = cut_unit_of(file, model, architecture->tensors);
  return model;
}

Result<Program> build_program(const ModelDescription& model, const RankCut& cut, int64_t context) {
  const Architecture* architecture = find_architecture(model.architecture);
  if (architecture == nullptr) {
    return fail(ErrorCode::kUnsupported, "the architecture {} is not supported; supported are: {}",
                gguf::printable(model.architecture), supported_architectures());
  }
  const int64_t width = head_columns(model);
  for (const CutKind kind : kCutKinds) {
    const int64_t unit = kind == CutKind::kHeads        ? head_unit(model, width, model.head_count)
                         : kind == CutKind::kVocabulary ? 1
                                                        : model.cut_unit;
    SHOAL_TRY(check_range(kind, cut[kind], cut_total(model, kind), unit));
  }
  const Range layers = layers_of(cut, model.layer_count);
  if (layers.begin < 0 || layers.end > model.layer_count) {
    return fail(ErrorCode::kInvalidArgument, "layers {} to {} of a model of {} cannot be",
                layers.begin, layers.end, model.layer_count);
  }
  if (layers.size() < model.layer_count && !model.layers_stand_alone()) {
    return fail(ErrorCode::kUnsupported,
                "the layers of this model ({}) use what others have computed, so it cannot be cut "
                "by layers; cut it by heads and columns",
                model.architecture);
  }
  ProgramBuilder builder(model, cut, architecture->tensors, context);
  architecture->build(builder, model);
  return std::move(builder).finish();
}

}  // namespace shoal
