"""GLM 4 (dense: norms around each half layer, interleaved pairs) and GLM 4.5 on (experts chosen by sigmoid, halves). Half of each head is turned."""
import numpy as np

from . import blocks
from .model import Model


class Glm4(Model):
    """gate and up in one tensor; norms after attention and feed-forward too."""
    architecture, transformers_class, interleaved = "glm4", "Glm4", True
    names = {"post_attention_norm": "post_self_attn_layernorm", "ffn_up": "mlp.gate_up_proj", "post_ffw_norm": "post_mlp_layernorm"}

    def __init__(self, seed, turned, bias, **shape):
        super().__init__(seed, **shape)
        self.rope = blocks.Rope(blocks.frequencies(self.base, turned), True)
        self.meta |= {"rope.dimension_count": turned, "attention.key_length": self.head_dim, "attention.value_length": self.head_dim}
        self.config |= {"attention_bias": bias}
        self.config["rope_parameters"] |= {"partial_rotary_factor": turned / self.head_dim}
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix, bias=bias)
            self.norm(prefix + "post_attention_norm", self.hidden)
            self.norm(prefix + "ffn_norm", self.hidden)
            self.matrix(prefix + "ffn_up", 2 * self.ffn, self.hidden)
            self.matrix(prefix + "ffn_down", self.hidden, self.ffn)
            self.norm(prefix + "post_ffw_norm", self.hidden)

    def layer(self, layer, x):
        x = x + self.normed(layer, "post_attention_norm", self.attend(layer, self.normed(layer, "attn_norm", x), self.rope))
        gate, up = np.split(self.linear(layer, "ffn_up", self.normed(layer, "ffn_norm", x)), 2, -1)
        return x + self.normed(layer, "post_ffw_norm", self.linear(layer, "ffn_down", blocks.silu(gate) * up))

    def halves(self, values):
        return values  # transformers has interleaved pairs here too


class Glm4Moe(Model):
    """The last layers predict further tokens (nextn): they are counted in block_count and take no part."""
    architecture, transformers_class = "glm4moe", "Glm4Moe"
    names = {"post_attention_norm": "post_attention_layernorm"}

    def __init__(self, seed, turned, bias, head_norms, dense, expert_count, used, expert_ffn, shared, weights_scale, nextn, **shape):
        super().__init__(seed, **shape)
        self.dense = dense
        self.rope = blocks.Rope(blocks.frequencies(self.base, turned), False)
        self.router = blocks.Router(used, "sigmoid", normalise=True, scale=weights_scale)
        self.meta |= {"block_count": self.layers + nextn, "attention.key_length": self.head_dim, "attention.value_length": self.head_dim,
                      "rope.dimension_count": turned, "expert_count": expert_count, "expert_used_count": used,
                      "expert_feed_forward_length": expert_ffn, "expert_shared_count": shared, "leading_dense_block_count": dense,
                      "expert_gating_func": 2, "expert_weights_scale": weights_scale, "expert_weights_norm": True,
                      "expert_group_count": 1, "expert_group_used_count": 1}
        if nextn:
            self.meta |= {"nextn_predict_layers": nextn}
        self.config |= {"attention_bias": bias, "use_qk_norm": head_norms, "first_k_dense_replace": dense, "n_routed_experts": expert_count,
                        "num_experts_per_tok": used, "moe_intermediate_size": expert_ffn, "n_shared_experts": shared,
                        "routed_scaling_factor": weights_scale, "norm_topk_prob": True, "n_group": 1, "topk_group": 1}
        self.config["rope_parameters"] |= {"partial_rotary_factor": turned / self.head_dim}
        self.add_ends()
        for layer in range(self.layers + nextn):
            prefix = f"blk.{layer}."
            self.add_attention(prefix, bias=bias)
            if head_norms:
                self.add_head_norms(prefix)
            self.norm(prefix + "post_attention_norm", self.hidden)
            if layer < dense:
                self.add_feed_forward(prefix, self.ffn)
            else:
                self.add_experts(prefix, expert_count, expert_ffn, "selection")
                self.add_feed_forward(prefix, shared * expert_ffn, "_shexp")
            if layer >= self.layers:
                self.matrix(prefix + "nextn.eh_proj", self.hidden, 2 * self.hidden)
                for name in ("enorm", "hnorm", "shared_head_norm"):
                    self.norm(f"{prefix}nextn.{name}", self.hidden)

    def layer(self, layer, x):
        x = x + self.attend(layer, self.normed(layer, "attn_norm", x), self.rope)
        n = self.normed(layer, "post_attention_norm", x)
        if layer < self.dense:
            return x + self.gated(layer, n)
        return x + self.mixture(layer, n) + self.gated(layer, n, "_shexp")

    def layer_state(self, layer):
        state = super().layer_state(layer)
        if layer >= self.dense:
            state["mlp.gate.e_score_correction_bias"] = self.weight(layer, "exp_probs_b", "bias")
        return state


FIXTURES = {
    "glm4": lambda: Glm4(61, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=24, turned=8, bias=True, tied=True),
    "glm4moe": lambda: Glm4Moe(62, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=40, turned=8, bias=True, head_norms=False, dense=1,
                               expert_count=4, used=2, expert_ffn=12, shared=1, weights_scale=1.5, nextn=1, tied=True),
    "glm4moe_norms": lambda: Glm4Moe(65, layers=3, hidden=32, heads=4, kv_heads=1, head_dim=16, ffn=24, turned=8, bias=True, head_norms=True, dense=2,
                                     expert_count=4, used=2, expert_ffn=12, shared=1, weights_scale=2.5, nextn=0, base=1000000.0, tied=True),
}
HAS = {
    "glm4": "norms before and after each half layer, half of each head turned in interleaved pairs, biases on q, k and v, fused gate and up",
    "glm4moe": "half of each head turned in halves; sigmoid with a bias for the choice, normalised, scale 1.5; a shared expert; a dense layer first; a nextn layer last, which takes no part",
    "glm4moe_norms": "the variant with norms per head (355B), without a nextn layer; two dense layers",
}
