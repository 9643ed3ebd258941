#include "models/blocks.h"

#include <algorithm>

namespace shoal {
namespace {

Range kv_heads(const ModelDescription& model, const RankCut& cut, int64_t layer) {
  return kv_heads_of(cut[CutKind::kHeads], model.head_count, model.shape(layer).kv_head_count);
}

// For each query head of the rank the KV head, among the rank's, that it reads.
std::vector<int> readers(const ModelDescription& model, const RankCut& cut, int64_t layer) {
  const Range heads = cut[CutKind::kHeads];
  std::vector<int> reads;
  for (int64_t head = heads.begin; head < heads.end; ++head) {
    reads.push_back(static_cast<int>(head / model.queries_per_kv_head(layer) -
                                     kv_heads(model, cut, layer).begin));
  }
  return reads;
}

}  // namespace

ProgramBuilder::ProgramBuilder(const ModelDescription& model, const RankCut& cut,
                               std::span<const TensorRule> rules, int64_t context)
    : model_(model), cut_(cut), layers_(layers_of(cut, model.layer_count)), rules_(rules) {
  add_ropes(context);
  add_cache_groups();
  program_.vocabulary = cut[CutKind::kVocabulary];
  program_.vocabulary_size = model.vocabulary_size;
}

void ProgramBuilder::add_ropes(int64_t context) {
  RopeSpec rope = model_.rope;
  const bool is_long = !model_.long_rope_factors.empty() && context > model_.original_context;
  const std::string& factors = is_long ? model_.long_rope_factors : model_.rope_factors;
  if (!factors.empty()) rope.frequency_factors = weight(factors);
  program_.ropes.push_back(rope);
  if (model_.local_rope) program_.ropes.push_back(*model_.local_rope);
}

void ProgramBuilder::add_cache_groups() {
  const bool latent = model_.latent.rank > 0;
  std::map<bool, int> group_of;  // by whether there is a window
  std::map<bool, Place> latest;  // likewise
  for (int64_t layer = 0; layer < model_.layer_count; ++layer) {
    const bool windowed = model_.is_windowed(layer);
    if (!model_.has_keys(layer)) {
      places_.push_back(latest.at(windowed));
      continue;
    }
    const auto [known, is_new] =
        group_of.emplace(windowed, static_cast<int>(program_.cache_groups.size()));
    if (is_new) {
      const int64_t width = model_.shape(layer).head_dimension;
      program_.cache_groups.push_back(
          {.layer_count = 0,
           .kv_heads = latent ? 1 : static_cast<int>(kv_heads(model_, cut_, layer).size()),
           .head_dimension =
               static_cast<int>(latent ? model_.latent.rank + model_.latent.rope : width),
           .window = windowed ? model_.window : 0,
           .chunked = windowed && model_.chunked,
           .value_in_key = latent ? static_cast<int>(model_.latent.rank) : 0});
    }
    CacheGroupSpec& group = program_.cache_groups[static_cast<size_t>(known->second)];
    places_.push_back({known->second, group.layer_count});
    if (holds(layer)) ++group.layer_count;
    latest[windowed] = places_.back();
  }
}

bool ProgramBuilder::has_rule(std::string_view name) const {
  const auto rule = std::ranges::find(rules_, name, &TensorRule::name);
  return rule != rules_.end() && (rule->required() || model_.has(name));
}

WeightId ProgramBuilder::weight(std::string_view rule_name, int64_t layer) {
  const auto rule = std::ranges::find(rules_, rule_name, &TensorRule::name);
  SHOAL_CHECK(rule != rules_.end());
  Cut cut{extent_cut(rule->rows, model_, cut_, layer),
          extent_cut(rule->columns, model_, cut_, layer)};
  return weight_part(rule_name, layer, "", std::move(cut));
}

WeightId ProgramBuilder::weight_part(std::string_view rule_name, int64_t layer,
                                     std::string_view part, Cut cut, Range kept, bool transposed) {
  const auto rule = std::ranges::find(rules_, rule_name, &TensorRule::name);
  SHOAL_CHECK(rule != rules_.end());
  std::string tensor = tensor_name(*rule, layer);
  const std::string key = fmt::format("{} {}", tensor, part);
  if (const auto known = weights_.find(key); known != weights_.end()) return known->second;
  const auto id = static_cast<WeightId>(program_.weights.size());
  weights_.emplace(key, id);
  const int64_t matrices = rule->use() == WeightUse::kMatrices
                               ? extent_size(rule->matrices, model_, layer)
                               : (kept.size() > 0 ? model_.head_count : 1);
  program_.weights.push_back({std::move(tensor), std::move(cut),
                              matrices > 1 || kept.size() > 0 ? WeightUse::kMatrices : rule->use(),
                              matrices, kept, transposed});
  return id;
}

std::optional<WeightId> ProgramBuilder::bias(std::string_view stem, int64_t layer) {
  const std::string rule = fmt::format("{}.bias", stem);
  if (!has_rule(rule)) return std::nullopt;
  return weight(rule, layer);
}

std::optional<WeightId> ProgramBuilder::bias_of_sum(std::string_view stem, int64_t layer,
                                                    CutKind kind) {
  if (cut_[kind].begin != 0) return std::nullopt;
  return bias(stem, layer);
}

BufferId ProgramBuilder::buffer(std::string_view name, int64_t width, Rows rows) {
  const std::string key = fmt::format("{} of {}", name, width);  // widths may differ by layer
  if (const auto known = buffers_.find(key); known != buffers_.end()) return known->second;
  const auto id = static_cast<BufferId>(program_.buffers.size());
  program_.buffers.push_back({std::string(name), width, rows});
  buffers_.emplace(key, id);
  return id;
}

void ProgramBuilder::end_segment(std::optional<BufferId> all_reduce) {
  program_.segments.push_back({std::move(operations_), all_reduce});
  operations_.clear();
}

void ProgramBuilder::settle(BufferId residual) {
  if (!pending_) return;
  if (pending_norm_) add(RmsNorm{partial(), *pending_norm_, model_.norm_epsilon, partial()});
  add(Add{.in = partial(), .target = residual, .scale = model_.residual_scale});
  pending_ = false;
}

void ProgramBuilder::begin_block(BlockNorms norms, int64_t layer) {
  const BufferId residual = buffer("residual", model_.hidden);
  settle(residual);
  if (norms.before.empty()) {
    add(CopyParts{residual, model_.hidden, 0, normalised(), model_.hidden, 0, model_.hidden, 1});
  } else {
    add(RmsNorm{residual, weight(norms.before, layer), model_.norm_epsilon, normalised()});
  }
  pending_ = true;
  pending_norm_.reset();
  if (!norms.after.empty()) pending_norm_ = weight(norms.after, layer);
}

void ProgramBuilder::embed() {
  const BufferId residual = buffer("residual", model_.hidden);
  if (!holds(0)) {
    program_.received = residual;
    return;
  }
  add(Embed{weight("token_embd.weight"), cut_[CutKind::kVocabulary].begin, residual,
            model_.embedding_scale});
  end_segment(residual);
}

void ProgramBuilder::project_heads(int64_t layer, const Heads& heads) {
  if (has_rule("*.attn_q.weight")) {
    Project project{normalised(),
                    {{weight("*.attn_q.weight", layer), bias("*.attn_q", layer), heads.q}}};
    const auto output = [&](std::string_view stem, BufferId out) {
      const WeightId matrix = weight(fmt::format("{}.weight", stem), layer);
      project.outputs.push_back({matrix, bias(stem, layer), out});
    };
    if (model_.has_keys(layer)) output("*.attn_k", heads.k);
    if (model_.has_values(layer)) output("*.attn_v", heads.v);
    add(std::move(project));
    if (model_.has_keys(layer) && !model_.has_values(layer)) {
      const int64_t width = int64_t{heads.kv_count} * heads.dimension;
      add(CopyParts{heads.k, width, 0, heads.v, width, 0, width, 1});
    }
    return;
  }
  const Range kv = kv_heads(model_, cut_, layer);
  int64_t from = 0;
  const auto part = [&](std::string_view name, Range range, int64_t all) {
    const Range rows{from + range.begin * model_.head_dimension,
                     from + range.end * model_.head_dimension};
    from += all * model_.head_dimension;
    return weight_part("*.attn_qkv.weight", layer, name, {{rows}, {}});
  };
  const WeightId q = part("q", cut_[CutKind::kHeads], model_.head_count);
  const WeightId k = part("k", kv, model_.kv_head_count);
  const WeightId v = part("v", kv, model_.kv_head_count);
  add(Project{
      normalised(),
      {{q, std::nullopt, heads.q}, {k, std::nullopt, heads.k}, {v, std::nullopt, heads.v}}});
}

void ProgramBuilder::norm_heads(int64_t layer, const Heads& heads) {
  if (!has_rule("*.attn_q_norm.weight")) return;
  const auto rule = std::ranges::find(rules_, "*.attn_q_norm.weight", &TensorRule::name);
  if (rule->columns != Extent::kHeadDimension) return norm_all_heads(layer, heads);
  add(RmsNorm{heads.q, weight("*.attn_q_norm.weight", layer), model_.norm_epsilon, heads.q,
              heads.count});
  if (!model_.has_keys(layer)) return;
  add(RmsNorm{heads.k, weight("*.attn_k_norm.weight", layer), model_.norm_epsilon, heads.k,
              heads.kv_count});
}

void ProgramBuilder::norm_weightless(BufferId data, int parts) {
  add(RmsNorm{data, std::nullopt, model_.norm_epsilon, data, parts});
}

// The mean is over the heads of all ranks, whose sums of squares travel.
void ProgramBuilder::norm_all_heads(int64_t layer, const Heads& heads) {
  const BufferId squares = buffer("squares", 2);
  // A KV head that several ranks hold is counted by the one that holds its first query head.
  const Range mine = cut_[CutKind::kHeads];
  const Range kv = kv_heads(model_, cut_, layer);
  const int64_t queries = model_.queries_per_kv_head(layer);
  const int64_t first = (mine.begin + queries - 1) / queries;
  const Range counted{(std::min(first, kv.end) - kv.begin) * heads.dimension,
                      kv.size() * heads.dimension};
  add(SumSquares{heads.q, squares, 0, {0, int64_t{heads.count} * heads.dimension}});
  add(SumSquares{heads.k, squares, 1, counted});
  end_segment(squares);
  add(ScaleBySquares{heads.q, squares, 0, model_.head_count * heads.dimension, model_.norm_epsilon,
                     weight("*.attn_q_norm.weight", layer)});
  add(ScaleBySquares{heads.k, squares, 1, model_.kv_head_count * heads.dimension,
                     model_.norm_epsilon, weight("*.attn_k_norm.weight", layer)});
}

void ProgramBuilder::rotate_heads(int64_t layer, const Heads& heads) {
  if (model_.is_rotated(layer)) {
    const RopeId rope = model_.is_windowed(layer) && model_.local_rope ? 1 : 0;
    add(Rotate{heads.q, heads.count, heads.dimension, rope});
    if (model_.has_keys(layer)) add(Rotate{heads.k, heads.kv_count, heads.dimension, rope});
  }
  if (model_.query_growth != 0 && model_.is_rotated(layer) != model_.unrotated_grow) {
    add(GrowByPosition{heads.q, model_.query_growth, model_.original_context,
                       model_.query_growth_offset});
  }
}

void ProgramBuilder::attend(int64_t layer, const Attend& shape) {
  Attend attend = shape;
  attend.group = places_[static_cast<size_t>(layer)].group;
  attend.layer = places_[static_cast<size_t>(layer)].layer;
  attend.scale = model_.attention_scale;
  attend.soft_cap = model_.attention_cap;
  attend.appends = model_.has_keys(layer);
  if (has_rule("*.attn_sinks.weight")) attend.sinks = weight("*.attn_sinks.weight", layer);
  add(std::move(attend));
}

void ProgramBuilder::attention(int64_t layer, BlockNorms norms, AttentionOrder order) {
  if (!holds(layer)) return;
  Heads heads{.count = static_cast<int>(cut_[CutKind::kHeads].size()),
              .kv_count = static_cast<int>(kv_heads(model_, cut_, layer).size()),
              .dimension = static_cast<int>(model_.shape(layer).head_dimension)};
  heads.q = buffer("query", int64_t{heads.count} * heads.dimension);
  heads.k = buffer("key", int64_t{heads.kv_count} * heads.dimension);
  heads.v = buffer("value", int64_t{heads.kv_count} * heads.dimension);
  const BufferId attended = buffer("attended", int64_t{heads.count} * heads.dimension);

  begin_block(norms, layer);
  project_heads(layer, heads);
  if (!order.norm_after_rotation) norm_heads(layer, heads);
  rotate_heads(layer, heads);
  if (order.norm_after_rotation) norm_heads(layer, heads);
  if (order.norm_rotated && model_.is_rotated(layer)) {
    norm_weightless(heads.q, heads.count);
    norm_weightless(heads.k, heads.kv_count);
  }
  if (order.norm_values && model_.has_keys(layer)) norm_weightless(heads.v, heads.kv_count);
  attend(layer, {.q = heads.q,
                 .k = heads.k,
                 .v = heads.v,
                 .out = attended,
                 .query_to_kv = readers(model_, cut_, layer)});
  add(Project{attended,
              {{weight("*.attn_output.weight", layer),
                bias_of_sum("*.attn_output", layer, CutKind::kHeads), partial()}}});
  end_segment(partial());
}

// Queries are taken into the space of what is cached: a head's scores are (W_k^T q_nope) . latent +
// q_rope . k_rope, and its output is W_v times the attended latent.
void ProgramBuilder::latent_attention(int64_t layer, BlockNorms norms) {
  if (!holds(layer)) return;
  const Latent& latent = model_.latent;
  const Range heads = cut_[CutKind::kHeads];
  const auto count = static_cast<int>(heads.size());
  const int64_t query_width = latent.nope + latent.rope;
  const int64_t key_width = latent.rank + latent.rope;
  const BufferId q = buffer("query", count * query_width);
  const BufferId latent_q = buffer("latent query", count * key_width);
  const BufferId key = buffer("latent key", key_width);
  const BufferId latent_out = buffer("latent attended", count * latent.rank);
  const BufferId attended = buffer("attended", count * latent.value);

  begin_block(norms, layer);
  const Project::Output keys{weight("*.attn_kv_a_mqa.weight", layer), std::nullopt, key};
  if (latent.query_rank > 0) {
    const BufferId low = buffer("low query", latent.query_rank);
    add(Project{normalised(), {{weight("*.attn_q_a.weight", layer), std::nullopt, low}, keys}});
    add(RmsNorm{low, weight("*.attn_q_a_norm.weight", layer), model_.norm_epsilon, low});
    add(Project{low, {{weight("*.attn_q_b.weight", layer), std::nullopt, q}}});
  } else {
    add(Project{normalised(), {{weight("*.attn_q.weight", layer), std::nullopt, q}, keys}});
  }
  add(RmsNorm{.in = key,
              .weight = weight("*.attn_kv_a_norm.weight", layer),
              .epsilon = model_.norm_epsilon,
              .out = key,
              .width = latent.rank});
  add(Rotate{q, count, static_cast<int>(query_width), 0, static_cast<int>(latent.nope)});
  add(Rotate{key, 1, static_cast<int>(key_width), 0, static_cast<int>(latent.rank)});
  if (model_.query_growth != 0)
    add(GrowByPosition{q, model_.query_growth, model_.original_context});

  const bool split = has_rule("*.attn_k_b.weight");
  const WeightId to_latent =
      split ? weight_part("*.attn_k_b.weight", layer, "", {}, heads)
            : weight_part("*.attn_kv_b.weight", layer, "k", {{{0, latent.nope}}, {}}, heads, true);
  const WeightId from_latent =
      split ? weight_part("*.attn_v_b.weight", layer, "", {}, heads)
            : weight_part("*.attn_kv_b.weight", layer, "v",
                          {{{latent.nope, latent.nope + latent.value}}, {}}, heads);
  add(ProjectParts{q, query_width, latent.nope, to_latent, latent_q, key_width, latent.rank});
  add(CopyParts{q, query_width, latent.nope, latent_q, key_width, latent.rank, latent.rope, count});
  attend(layer, {.q = latent_q,
                 .k = key,
                 .v = key,
                 .out = latent_out,
                 .query_to_kv = std::vector<int>(static_cast<size_t>(count), 0)});
  add(ProjectParts{latent_out, latent.rank, latent.rank, from_latent, attended, latent.value,
                   latent.value});
  add(Project{attended, {{weight("*.attn_output.weight", layer), std::nullopt, partial()}}});
  end_segment(partial());
}

void ProgramBuilder::feed_forward(int64_t layer, Activation activation, BlockNorms norms) {
  if (!holds(layer)) return;
  begin_block(norms, layer);
  gated_product(layer, activation);
  end_segment(partial());
}

void ProgramBuilder::gated_product(int64_t layer, Activation activation) {
  const int64_t wider = model_.shape(layer).feed_forward / model_.feed_forward;
  const Range columns{cut_[CutKind::kFeedForward].begin * wider,
                      cut_[CutKind::kFeedForward].end * wider};
  const BufferId gate = buffer("gate", columns.size());
  const BufferId up = buffer("up", columns.size());
  if (has_rule("*.ffn_gate.weight")) {
    add(Project{normalised(),
                {{weight("*.ffn_gate.weight", layer), std::nullopt, gate},
                 {weight("*.ffn_up.weight", layer), std::nullopt, up}}});
  } else {
    const int64_t all = model_.shape(layer).feed_forward;
    const Range above{all + columns.begin, all + columns.end};
    add(Project{
        normalised(),
        {{weight_part("*.ffn_up.weight", layer, "gate", {{columns}, {}}), std::nullopt, gate},
         {weight_part("*.ffn_up.weight", layer, "up", {{above}, {}}), std::nullopt, up}}});
  }
  add(Gate{gate, up, gate, activation});
  add(Project{gate, {{weight("*.ffn_down.weight", layer), std::nullopt, partial()}}});
}

void ProgramBuilder::feed_forward_or_mixture(int64_t layer, Activation activation,
                                             BlockNorms norms) {
  model_.is_mixture(layer) ? mixture(layer, activation, norms)
                           : feed_forward(layer, activation, norms);
}

void ProgramBuilder::mixture(int64_t layer, Activation activation, BlockNorms norms) {
  if (!holds(layer)) return;
  const BufferId router = buffer("router", model_.mixture.count);
  begin_block(norms, layer);
  add(Project{normalised(),
              {{weight("*.ffn_gate_inp.weight", layer), bias("*.ffn_gate_inp", layer), router}}});
  experts(layer, activation, normalised(), router, partial());
  if (model_.mixture.shared_width > 0) shared_expert(layer, activation);
  end_segment(partial());
}

void ProgramBuilder::experts(int64_t layer, Activation activation, BufferId in, BufferId router,
                             BufferId out) {
  const Mixture& mixture = model_.mixture;
  const bool fused = has_rule("*.ffn_gate_up_exps.weight");
  const Range columns = cut_[CutKind::kExperts];
  const Range above{mixture.width + columns.begin, mixture.width + columns.end};
  const auto half = [&](std::string_view name, std::string_view own, Range rows) {
    if (!fused) return weight(own, layer);
    return weight_part("*.ffn_gate_up_exps.weight", layer, name, {{rows}, {}});
  };
  Experts experts{.in = in,
                  .router = router,
                  .out = out,
                  .routing = mixture.routing,
                  .gate = half("gate", "*.ffn_gate_exps.weight", columns),
                  .up = half("up", "*.ffn_up_exps.weight", above),
                  .down = weight("*.ffn_down_exps.weight", layer),
                  .gate_bias = bias("*.ffn_gate_exps", layer),
                  .up_bias = bias("*.ffn_up_exps", layer),
                  .down_bias = bias_of_sum("*.ffn_down_exps", layer, CutKind::kExperts),
                  .width = cut_[CutKind::kExperts].size(),
                  .activation = activation};
  if (has_rule("*.exp_probs_b.bias"))
    experts.routing.selection_bias = weight("*.exp_probs_b.bias", layer);
  if (has_rule("*.ffn_down_exps.scale"))
    experts.routing.expert_scales = weight("*.ffn_down_exps.scale", layer);
  add(experts);
}

void ProgramBuilder::shared_expert(int64_t layer, Activation activation) {
  const int64_t columns = cut_[CutKind::kSharedExpert].size();
  const BufferId gate = buffer("shared gate", columns);
  const BufferId up = buffer("shared up", columns);
  const BufferId shared = buffer("shared", model_.hidden);
  Project inner{normalised(),
                {{weight("*.ffn_gate_shexp.weight", layer), std::nullopt, gate},
                 {weight("*.ffn_up_shexp.weight", layer), std::nullopt, up}}};
  const bool weighed = has_rule("*.ffn_gate_inp_shexp.weight");
  const BufferId share = weighed ? buffer("share", 1) : 0;
  if (weighed)
    inner.outputs.push_back({weight("*.ffn_gate_inp_shexp.weight", layer), std::nullopt, share});
  add(std::move(inner));
  add(Gate{gate, up, gate, activation});
  add(Project{gate, {{weight("*.ffn_down_shexp.weight", layer), std::nullopt, shared}}});
  if (weighed) add(SigmoidScale{share, shared});
  add(Add{.in = shared, .target = partial()});
}

void ProgramBuilder::head() {
  const BufferId residual = buffer("residual", model_.hidden);
  if (!holds(model_.layer_count - 1)) {
    settle(residual);
    end_segment(std::nullopt);
    program_.sent = residual;
    return;
  }
  const BufferId wanted = buffer("wanted", model_.hidden, Rows::kWanted);
  program_.hidden = buffer("hidden", model_.hidden, Rows::kWanted);
  program_.logits = buffer("logits", cut_[CutKind::kVocabulary].size(), Rows::kWanted);
  settle(residual);
  add(Gather{residual, wanted});
  add(RmsNorm{wanted, weight("output_norm.weight"), model_.norm_epsilon, program_.hidden});
  const WeightId table = weight(model_.tied_embedding ? "token_embd.weight" : "output.weight");
  add(Project{program_.hidden, {{table, std::nullopt, program_.logits}}});
  if (model_.logit_scale != 1) add(Scale{program_.logits, model_.logit_scale});
  if (model_.logit_cap > 0) add(SoftCap{program_.logits, model_.logit_cap});
  end_segment(std::nullopt);
}

}  // namespace shoal
