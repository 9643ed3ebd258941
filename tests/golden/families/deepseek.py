"""DeepSeek V2 and V3: latent attention in both of its file forms, leading dense layers, shared experts, choice of experts by groups."""
import numpy as np

from . import blocks
from .model import Model

SOFTMAX, SIGMOID = 1, 2  # expert_gating_func


class RouterByLargest(blocks.Router):
    """V2 ranks a group by its largest score; V3 by the sum of its two largest."""
    by_largest = True

    def rank(self, grouped):
        return grouped.max(-1) if self.by_largest else super().rank(grouped)


class DeepSeek(Model):
    """One latent per token holds keys and values of all heads; a rotated part, shared by the heads, stands beside it.

    absorbed: the file has attn_k_b (transposed) and attn_v_b, and describes attention as it runs in latent space: one KV head whose key is
    the latent and the rotated part. Otherwise attn_kv_b, described as ordinary attention. The numbers are the same.
    """
    architecture, interleaved = "deepseek2", True
    names = {"attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_q_b": "self_attn.q_b_proj",
             "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm", "attn_kv_b": "self_attn.kv_b_proj",
             "attn_q": "self_attn.q_proj"}
    q_rank = None
    gating, select_bias = SOFTMAX, False

    def __init__(self, seed, absorbed, plain, turned, value, rank, dense, expert_count, used, shared, expert_ffn, factor=None, original=None, mscale=None, betas=None,
                 weights_scale=1.0, normalise=False, groups=1, groups_used=1, **shape):
        super().__init__(seed, kv_heads=shape["heads"], head_dim=plain + turned, **shape)
        self.plain, self.turned, self.value, self.rank, self.dense, self.absorbed = plain, turned, value, rank, dense, absorbed
        self.router = self.make_router(used, "sigmoid" if self.gating == SIGMOID else "softmax", normalise, weights_scale, groups, groups_used)
        self.describe_attention()
        self.scale_positions(turned, factor, original, mscale, betas)
        self.meta |= {"vocab_size": self.vocab, "attention.kv_lora_rank": rank, "rope.dimension_count": turned, "leading_dense_block_count": dense,
                      "expert_count": expert_count, "expert_used_count": used, "expert_shared_count": shared,
                      "expert_feed_forward_length": expert_ffn, "expert_weights_scale": weights_scale}
        del self.config["head_dim"]
        self.config |= {"qk_nope_head_dim": plain, "qk_rope_head_dim": turned, "v_head_dim": value, "kv_lora_rank": rank, "q_lora_rank": self.q_rank,
                        "n_routed_experts": expert_count, "num_experts_per_tok": used, "n_shared_experts": shared, "moe_intermediate_size": expert_ffn,
                        "first_k_dense_replace": dense, "routed_scaling_factor": weights_scale, "norm_topk_prob": normalise,
                        "n_group": groups, "topk_group": groups_used}
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.norm(prefix + "attn_norm", self.hidden)
            self.add_latent_attention(prefix)
            self.norm(prefix + "ffn_norm", self.hidden)
            if layer < dense:
                self.add_feed_forward(prefix, self.ffn)
            else:
                self.add_experts(prefix, expert_count, expert_ffn, "selection" if self.select_bias else None)
                self.add_feed_forward(prefix, shared * expert_ffn, "_shexp")

    def make_router(self, *how):
        return blocks.Router(*how)

    def scale_positions(self, turned, factor, original, mscale, betas):
        """YaRN or nothing. Where mscale equals mscale_all_dim the turned parts keep their length, and all scores are multiplied instead."""
        if not factor:
            self.rope, self.scale = blocks.Rope(blocks.frequencies(self.base, turned), True), self.head_dim ** -0.5
            return
        fast, slow = betas or (32.0, 1.0)
        self.rope = blocks.Rope(blocks.yarn_frequencies(self.base, turned, factor, original, fast, slow), True)
        self.scale = self.head_dim ** -0.5 * blocks.yarn_magnitude(factor, mscale) ** 2
        self.meta |= {"rope.scaling.type": "yarn", "rope.scaling.factor": float(factor), "rope.scaling.original_context_length": original,
                      "rope.scaling.yarn_log_multiplier": 0.1 * mscale}
        self.config["rope_parameters"] |= {"rope_type": "yarn", "factor": float(factor), "original_max_position_embeddings": original,
                                           "mscale": mscale, "mscale_all_dim": mscale, "beta_fast": fast, "beta_slow": slow}
        if betas:
            self.llama_cpp_differs = "YaRN's betas 32 and 1, whatever the file says"
            self.plain_betas_rope = blocks.Rope(blocks.yarn_frequencies(self.base, turned, factor, original), True)
            self.meta |= {"rope.scaling.yarn_beta_fast": fast, "rope.scaling.yarn_beta_slow": slow}

    def describe_attention(self):
        if self.absorbed:
            self.meta |= {"attention.head_count_kv": 1, "attention.key_length": self.rank + self.turned, "attention.value_length": self.rank,
                          "attention.key_length_mla": self.head_dim, "attention.value_length_mla": self.value}
        else:
            self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.value}
        if self.q_rank:
            self.meta |= {"attention.q_lora_rank": self.q_rank}

    def add_latent_attention(self, prefix):
        if self.q_rank:
            self.matrix(prefix + "attn_q_a", self.q_rank, self.hidden)
            self.norm(prefix + "attn_q_a_norm", self.q_rank)
            self.matrix(prefix + "attn_q_b", self.heads * self.head_dim, self.q_rank)
        else:
            self.matrix(prefix + "attn_q", self.heads * self.head_dim, self.hidden)
        self.matrix(prefix + "attn_kv_a_mqa", self.rank + self.turned, self.hidden)
        self.norm(prefix + "attn_kv_a_norm", self.rank)
        self.matrix(prefix + "attn_kv_b", self.heads * (self.plain + self.value), self.rank)
        self.matrix(prefix + "attn_output", self.hidden, self.heads * self.value)
        if self.absorbed:
            both = self.tensors.pop(prefix + "attn_kv_b.weight").reshape(self.heads, self.plain + self.value, self.rank)
            self.tensors[prefix + "attn_k_b.weight"] = both[:, :self.plain].swapaxes(1, 2)
            self.tensors[prefix + "attn_v_b.weight"] = both[:, self.plain:]

    def up_projections(self, layer):
        """Keys [heads, plain, rank] and values [heads, value, rank] from the latent."""
        if self.absorbed:
            return self.weight(layer, "attn_k_b").swapaxes(1, 2), self.weight(layer, "attn_v_b")
        both = self.weight(layer, "attn_kv_b").reshape(self.heads, self.plain + self.value, self.rank)
        return both[:, :self.plain], both[:, self.plain:]

    def rope_of_choice(self):
        return self.plain_betas_rope if self.like_llama_cpp and hasattr(self, "plain_betas_rope") else self.rope

    def latent_attention(self, layer, x):
        rope = self.rope_of_choice()
        if self.q_rank:
            q = self.linear(layer, "attn_q_b", self.normed(layer, "attn_q_a_norm", self.linear(layer, "attn_q_a", x)))
        else:
            q = self.linear(layer, "attn_q", x)
        q_plain, q_turned = np.split(q.reshape(len(x), self.heads, self.head_dim), [self.plain], -1)
        latent, k_turned = np.split(self.linear(layer, "attn_kv_a_mqa", x), [self.rank], -1)
        latent = self.normed(layer, "attn_kv_a_norm", latent)
        keys, values = self.up_projections(layer)
        k_turned = np.repeat(rope(k_turned[:, None]), self.heads, 1)
        k = np.concatenate([np.einsum("tr,hnr->thn", latent, keys), k_turned], -1)
        v = np.einsum("tr,hvr->thv", latent, values)
        out = blocks.attention(np.concatenate([q_plain, rope(q_turned)], -1), k, v, self.scale)
        return self.linear(layer, "attn_output", out)

    def layer(self, layer, x):
        x = x + self.latent_attention(layer, self.normed(layer, "attn_norm", x))
        n = self.normed(layer, "ffn_norm", x)
        if layer < self.dense:
            return x + self.gated(layer, n)
        return x + self.mixture(layer, n) + self.gated(layer, n, "_shexp")

    def halves(self, values):
        return values  # transformers has interleaved pairs here too

    def layer_state(self, layer):
        state = super().layer_state(layer)
        if self.absorbed:
            both = np.concatenate(self.up_projections(layer), 1)
            state["self_attn.kv_b_proj.weight"] = both.reshape(-1, self.rank)
        if layer >= self.dense and self.select_bias:
            state["mlp.gate.e_score_correction_bias"] = self.weight(layer, "exp_probs_b", "bias")
        return state


class DeepSeekLite(DeepSeek):
    """V2-Lite: no latent for queries, no groups; its files do not name the gating function: softmax."""
    transformers_class = "DeepseekV2"
    residual_gain = 0.3

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.config |= {"topk_method": "greedy"}


class DeepSeekV2(DeepSeek):
    transformers_class = "DeepseekV2"
    q_rank = 20
    llama_cpp_differs = "a group's rank is the sum of its two largest scores"

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.config |= {"topk_method": "group_limited_greedy"}
        self.meta |= {"expert_group_count": shape["groups"], "expert_group_used_count": shape["groups_used"]}

    def make_router(self, *how):
        return RouterByLargest(*how)

    def forward(self, tokens):
        self.router.by_largest = not self.like_llama_cpp
        return super().forward(tokens)


class DeepSeekV3(DeepSeek):
    transformers_class = "DeepseekV3"
    q_rank = 20
    gating, select_bias = SIGMOID, True

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"expert_gating_func": SIGMOID, "expert_weights_norm": True,
                      "expert_group_count": shape["groups"], "expert_group_used_count": shape["groups_used"]}


class GlmFlash(DeepSeekV3):
    """GLM 4.7 Flash has this architecture too: no groups, no scaling of positions, and a nextn layer that converters may leave out."""
    transformers_class = "Glm4MoeLite"


COMMON = dict(hidden=32, heads=3, plain=16, turned=8, value=12, rank=24, epsilon=1e-6, dense=1)
# llama.cpp knows V2-Lite by its 27 layers.
LITE = COMMON | dict(layers=27, hidden=16, heads=2, plain=8, turned=4, value=4, rank=8, dense=25, ffn=4, expert_count=4, used=2, shared=2,
                     expert_ffn=8, factor=8.0, original=32, mscale=0.707)
V2 = COMMON | dict(layers=2, heads=4, ffn=24, expert_count=12, used=3, shared=1, expert_ffn=8, factor=4.0, original=48, mscale=0.707,
                   groups=4, groups_used=2, weights_scale=4.0, tied=True)
V3 = COMMON | dict(layers=2, ffn=24, expert_count=8, used=3, shared=1, expert_ffn=12, factor=40.0, original=256, mscale=1.0, betas=(1.0, 1.0),
                   groups=4, groups_used=2, weights_scale=2.5, normalise=True)
FLASH = COMMON | dict(layers=2, heads=4, ffn=40, expert_count=6, used=2, shared=1, expert_ffn=12, groups=1, groups_used=1, weights_scale=1.8, normalise=True,
                      base=1000000.0, tied=True)
FIXTURES = {
    "deepseek2_lite": lambda: DeepSeekLite(51, absorbed=False, **LITE),
    "deepseek2_v2": lambda: DeepSeekV2(52, absorbed=True, **V2),
    "deepseek2_v3": lambda: DeepSeekV3(53, absorbed=True, **V3),
    "deepseek2_glm": lambda: GlmFlash(54, absorbed=True, **FLASH),
    "deepseek2_v3_kv_b": lambda: DeepSeekV3(53, absorbed=False, **V3),
}
HAS = {
    "deepseek2_lite": "`attn_kv_b`, no latent queries, softmax not normalised, 2 shared experts, YaRN with mscale 0.707; values narrower than keys; 25 of 27 layers dense",
    "deepseek2_v2": "latent queries; 2 of 4 groups ranked by their largest score, softmax, scale 4",
    "deepseek2_v3": "latent queries; sigmoid with a bias for the choice, 2 of 4 groups ranked by their two largest, normalised, scale 2.5, YaRN with mscale 1 and both betas 1 as Kimi K2 has; one dense layer; 3 heads",
    "deepseek2_glm": "as GLM 4.7 Flash uses it: no scaling of positions, no groups, scale 1.8",
    "deepseek2_v3_kv_b": "the same numbers with `attn_kv_b`",
}
