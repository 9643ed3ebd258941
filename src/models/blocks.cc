#include "models/blocks.h"

#include <algorithm>
#include <cmath>

namespace shoal {

ProgramBuilder::ProgramBuilder(const ModelDescription& model, const RankCut& cut,
                               std::span<const TensorRule> rules)
    : model_(model), cut_(cut), rules_(rules) {
  RopeSpec rope = model.rope;
  if (model.has_rope_factors) rope.frequency_factors = weight("rope_freqs.weight");
  program_.ropes.push_back(rope);
  program_.cache_groups.push_back({static_cast<int>(model.layer_count),
                                   static_cast<int>(cut.kv_heads.size()),
                                   static_cast<int>(model.head_dimension)});
  program_.vocabulary = cut.vocabulary;
  program_.vocabulary_size = model.vocabulary_size;
}

WeightId ProgramBuilder::weight(std::string_view rule_name, int64_t layer) {
  const auto rule = std::ranges::find(rules_, rule_name, &TensorRule::name);
  SHOAL_CHECK(rule != rules_.end());
  std::string tensor = tensor_name(*rule, layer);
  if (const auto known = weights_.find(tensor); known != weights_.end()) return known->second;
  const auto id = static_cast<WeightId>(program_.weights.size());
  weights_.emplace(tensor, id);
  program_.weights.push_back(
      {std::move(tensor),
       {extent_cut(rule->rows, model_, cut_), extent_cut(rule->columns, model_, cut_)},
       rule->use()});
  return id;
}

BufferId ProgramBuilder::buffer(std::string_view name, int64_t width, Rows rows) {
  if (const auto known = buffers_.find(name); known != buffers_.end()) return known->second;
  const auto id = static_cast<BufferId>(program_.buffers.size());
  program_.buffers.push_back({std::string(name), width, rows});
  buffers_.emplace(name, id);
  return id;
}

void ProgramBuilder::end_segment(std::optional<BufferId> all_reduce) {
  program_.segments.push_back({std::move(operations_), all_reduce});
  operations_.clear();
}

void ProgramBuilder::begin_block(std::string_view norm, int64_t layer) {
  const BufferId residual = buffer("residual", model_.hidden);
  if (pending_) add(Add{.in = buffer("partial", model_.hidden), .target = residual});
  pending_ = true;
  add(RmsNorm{residual, weight(norm, layer), model_.norm_epsilon,
              buffer("normalised", model_.hidden)});
}

Project::Output ProgramBuilder::output(std::string_view stem, int64_t layer, bool biased,
                                       BufferId out) {
  Project::Output output{weight(fmt::format("{}.weight", stem), layer), std::nullopt, out};
  if (biased) output.bias = weight(fmt::format("{}.bias", stem), layer);
  return output;
}

void ProgramBuilder::embed() {
  const BufferId residual = buffer("residual", model_.hidden);
  add(Embed{weight("token_embd.weight"), cut_.vocabulary.begin, residual});
  end_segment(residual);
}

void ProgramBuilder::attention(int64_t layer) {
  const auto kv_heads = static_cast<int>(cut_.kv_heads.size());
  const auto group = static_cast<int>(model_.head_count / model_.kv_head_count);
  const int heads = kv_heads * group;
  const auto dimension = static_cast<int>(model_.head_dimension);
  const BufferId q = buffer("query", int64_t{heads} * dimension);
  const BufferId k = buffer("key", int64_t{kv_heads} * dimension);
  const BufferId v = buffer("value", int64_t{kv_heads} * dimension);
  const BufferId attended = buffer("attended", int64_t{heads} * dimension);
  const BufferId partial = buffer("partial", model_.hidden);

  begin_block("*.attn_norm.weight", layer);
  add(Project{buffer("normalised", model_.hidden),
              {output("*.attn_q", layer, model_.has_query_bias, q),
               output("*.attn_k", layer, model_.has_key_bias, k),
               output("*.attn_v", layer, model_.has_value_bias, v)}});
  add(Rotate{q, heads, dimension, 0});
  add(Rotate{k, kv_heads, dimension, 0});
  Attend attend{0,  static_cast<int>(layer),
                q,  k,
                v,  attended,
                {}, 1 / std::sqrt(static_cast<float>(dimension))};
  for (int head = 0; head < heads; ++head) attend.query_to_kv.push_back(head / group);
  add(std::move(attend));
  add(Project{attended, {output("*.attn_output", layer, false, partial)}});
  end_segment(partial);
}

void ProgramBuilder::feed_forward(int64_t layer, Activation activation) {
  const BufferId gate = buffer("gate", cut_.feed_forward.size());
  const BufferId up = buffer("up", cut_.feed_forward.size());
  const BufferId gated = buffer("gated", cut_.feed_forward.size());
  const BufferId partial = buffer("partial", model_.hidden);

  begin_block("*.ffn_norm.weight", layer);
  add(Project{buffer("normalised", model_.hidden),
              {output("*.ffn_gate", layer, false, gate), output("*.ffn_up", layer, false, up)}});
  add(Gate{gate, up, gated, activation});
  add(Project{gated, {output("*.ffn_down", layer, false, partial)}});
  end_segment(partial);
}

void ProgramBuilder::head() {
  const BufferId residual = buffer("residual", model_.hidden);
  const BufferId wanted = buffer("wanted", model_.hidden, Rows::kWanted);
  program_.hidden = buffer("hidden", model_.hidden, Rows::kWanted);
  program_.logits = buffer("logits", cut_.vocabulary.size(), Rows::kWanted);
  if (pending_) add(Add{.in = buffer("partial", model_.hidden), .target = residual});
  pending_ = false;
  add(Gather{residual, wanted});
  add(RmsNorm{wanted, weight("output_norm.weight"), model_.norm_epsilon, program_.hidden});
  const WeightId table = weight(model_.tied_embedding ? "token_embd.weight" : "output.weight");
  add(Project{program_.hidden, {{table, std::nullopt, program_.logits}}});
  end_segment(std::nullopt);
}

}  // namespace shoal
