// Blocks of what stands beside the plain order of a layer: experts next to a feed-forward, and an
// input of its own for each layer.
#include <cmath>

#include "models/blocks.h"

namespace shoal {

// Both sums travel side by side, as each is normed before they are added.
void ProgramBuilder::feed_forward_beside_mixture(int64_t layer, Activation activation,
                                                 const BesideNorms& norms) {
  if (!holds(layer)) return;
  const int64_t hidden = model_.hidden;
  const BufferId residual = buffer("residual", hidden);
  const BufferId for_router = buffer("for the router", hidden);
  const BufferId for_experts = buffer("for experts", hidden);
  const BufferId of_experts = buffer("of experts", hidden);
  const BufferId router = buffer("router", model_.mixture.count);
  const BufferId both = buffer("both", 2 * hidden);
  begin_block(norms.both, layer);
  gated_product(layer, activation);
  add(RmsNorm{residual, weight(norms.router, layer), model_.norm_epsilon, for_router});
  add(Scale{for_router, 1 / std::sqrt(static_cast<float>(hidden))});
  add(Project{for_router, {{weight("*.ffn_gate_inp.weight", layer), std::nullopt, router}}});
  add(RmsNorm{residual, weight(norms.experts.before, layer), model_.norm_epsilon, for_experts});
  experts(layer, activation, for_experts, router, of_experts);
  const auto side = [&](BufferId part, int64_t at, std::string_view norm) {
    add(CopyParts{both, 2 * hidden, at, part, hidden, 0, hidden, 1});
    add(RmsNorm{part, weight(norm, layer), model_.norm_epsilon, part});
  };
  add(CopyParts{partial(), hidden, 0, both, 2 * hidden, 0, hidden, 1});
  add(CopyParts{of_experts, hidden, 0, both, 2 * hidden, hidden, hidden, 1});
  end_segment(both);
  side(partial(), 0, norms.feed_forward.after);
  side(of_experts, hidden, norms.experts.after);
  add(Add{.in = of_experts, .target = partial()});
}

void ProgramBuilder::embed_layer_inputs() {
  if (model_.layer_input == 0) return;
  const int64_t width = model_.layer_count * model_.layer_input;
  const BufferId residual = buffer("residual", model_.hidden);
  const BufferId inputs = buffer("layer inputs", width);
  const BufferId projected = buffer("projected inputs", width);
  add(Embed{weight("per_layer_token_embd.weight"), cut_[CutKind::kVocabulary].begin, inputs,
            std::sqrt(static_cast<float>(model_.layer_input))});
  end_segment(inputs);
  add(Project{residual, {{weight("per_layer_model_proj.weight"), std::nullopt, projected}}});
  add(Scale{projected, 1 / std::sqrt(static_cast<float>(model_.hidden))});
  add(RmsNorm{projected, weight("per_layer_proj_norm.weight"), model_.norm_epsilon, projected,
              static_cast<int>(model_.layer_count)});
  add(Add{.in = projected, .target = inputs});
  add(Scale{inputs, 1 / std::sqrt(2.0f)});
}

void ProgramBuilder::finish_layer(int64_t layer, Activation activation) {
  if (!holds(layer)) return;
  const BufferId residual = buffer("residual", model_.hidden);
  settle(residual);
  if (model_.layer_input > 0) {
    const int64_t width = model_.layer_count * model_.layer_input;
    const BufferId gate = buffer("input gate", model_.layer_input);
    const BufferId own = buffer("layer input", model_.layer_input);
    const BufferId added = buffer("added input", model_.hidden);
    add(Project{residual, {{weight("*.inp_gate.weight", layer), std::nullopt, gate}}});
    add(CopyParts{buffer("layer inputs", width), width, layer * model_.layer_input, own,
                  model_.layer_input, 0, model_.layer_input, 1});
    add(Gate{gate, own, gate, activation});
    add(Project{gate, {{weight("*.proj.weight", layer), std::nullopt, added}}});
    add(RmsNorm{added, weight("*.post_norm.weight", layer), model_.norm_epsilon, added});
    add(Add{.in = added, .target = residual});
  }
  if (has_rule("*.layer_output_scale.weight"))
    add(Scale{residual, 1, weight("*.layer_output_scale.weight", layer)});
}

}  // namespace shoal
