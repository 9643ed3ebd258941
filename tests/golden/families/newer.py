"""Newer families that differ from the others by a few lines each."""
import numpy as np

from . import blocks
from .deepseek import DeepSeek
from .llama import Llama
from .model import Model
from .qwen import Qwen2, Qwen3


class SeedOss(Qwen2):
    """Qwen 2 with heads of their own width; the norm before the feed-forward has another name."""
    architecture, transformers_class = "seed_oss", "SeedOss"
    names = {"post_attention_norm": "post_attention_layernorm"}
    before_feed = "post_attention_norm"

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim}
        self.config |= {"attention_bias": True, "attention_out_bias": False}


class Qwen3Vl(Qwen3):
    """The text part of Qwen3-VL: for text its three-part positions are equal, so that it computes what Qwen 3 does."""
    architecture = "qwen3vl"

    def __init__(self, seed, sections, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"rope.dimension_sections": sections + [0], "n_deepstack_layers": 1}


class MiniMaxM2(Model):
    """Norms over all of q and all of k; part of each head turned; all layers with experts chosen by sigmoid and bias."""
    architecture, transformers_class = "minimax-m2", "MiniMaxM2"
    norms_of_q_and_k = "whole"

    def __init__(self, seed, turned, expert_count, used, **shape):
        super().__init__(seed, **shape)
        self.rope = blocks.Rope(blocks.frequencies(self.base, turned), False)
        self.router = blocks.Router(used, "sigmoid", normalise=True)
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim, "rope.dimension_count": turned,
                      "expert_count": expert_count, "expert_used_count": used, "expert_feed_forward_length": self.ffn, "expert_gating_func": 2}
        self.config |= {"num_local_experts": expert_count, "num_experts_per_tok": used}
        self.config["rope_parameters"] |= {"partial_rotary_factor": turned / self.head_dim}
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix)
            self.add_whole_norms(prefix)
            self.norm(prefix + "ffn_norm", self.hidden)
            self.add_experts(prefix, expert_count, self.ffn, "selection")

    def layer(self, layer, x):
        x = x + self.attend(layer, self.normed(layer, "attn_norm", x), self.rope)
        return x + self.mixture(layer, self.normed(layer, "ffn_norm", x))

    def layer_state(self, layer):
        return super().layer_state(layer) | {"mlp.e_score_correction_bias": self.weight(layer, "exp_probs_b", "bias")}


class SmolLM3(Llama):
    """Every fourth layer has no positions."""
    architecture, transformers_class = "smollm3", "SmolLM3"

    def rope_of(self, layer):
        return None if layer % 4 == 3 else self.rope


class Mistral3(Llama):
    """Ministral 3: YaRN without a magnitude, queries that grow with their position."""
    architecture, transformers_class = "mistral3", "Ministral3"

    def __init__(self, seed, factor, original, beta, **shape):
        super().__init__(seed, **shape)
        self.original, self.beta = original, beta
        self.rope = blocks.Rope(blocks.yarn_frequencies(self.base, self.head_dim, factor, original), True)
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim, "attention.temperature_scale": beta,
                      "rope.scaling.type": "yarn", "rope.scaling.factor": factor, "rope.scaling.original_context_length": original,
                      "rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0, "rope.scaling.yarn_log_multiplier": 1.0}
        self.config["rope_parameters"] |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, "beta_fast": 32.0,
                                           "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": beta}

    def tempered(self, q):
        return q * (1 + self.beta * np.log(1 + np.arange(len(q)) // self.original))[:, None, None]


class Mistral4(DeepSeek):
    """Latent attention; softmax, normalised; gate and up of the experts in one tensor.

    Queries grow with every 8192 positions, but files do not say so, nor does llama.cpp do it: the model is told not to.
    """
    architecture, transformers_class = "mistral4", "Mistral4"
    q_rank = 20

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"expert_weights_norm": True}
        self.config["head_dim"] = self.head_dim
        self.config["rope_parameters"] |= {"llama_4_scaling_beta": 0.0, "partial_rotary_factor": self.turned / self.head_dim}

    def add_experts(self, prefix, count, width, router_bias=None):
        super().add_experts(prefix, count, width)
        gate, up = (self.tensors.pop(f"{prefix}ffn_{name}_exps.weight") for name in ("gate", "up"))
        self.tensors[prefix + "ffn_gate_up_exps.weight"] = np.concatenate([gate, up], 1)


class Llama4(Llama):
    """Three layers of four turn q and k, then norm them without weights (unless there are 128 experts), and see chunks of positions; the fourth does
    nothing of it, and its queries grow with their position. One expert, whose input is scaled.

    Both chunk and period are 8192 in published models, whose files name neither. Smaller ones stand under the keys that other families have.
    """
    architecture, transformers_class, config_class = "llama4", "Llama4", "Llama4TextConfig"
    names = {"ffn_gate": "feed_forward.gate_proj", "ffn_up": "feed_forward.up_proj", "ffn_down": "feed_forward.down_proj",
             "ffn_gate_inp": "feed_forward.router", "ffn_gate_shexp": "feed_forward.shared_expert.gate_proj",
             "ffn_up_shexp": "feed_forward.shared_expert.up_proj", "ffn_down_shexp": "feed_forward.shared_expert.down_proj"}

    def __init__(self, seed, expert_count, expert_ffn, step, chunk=8192, period=8192, growth=0.1, factors=None, **shape):
        self.expert_count, self.expert_ffn, self.step = expert_count, expert_ffn, step
        self.chunk, self.period, self.growth, self.grows, self.norms = chunk, period, growth, False, expert_count != 128
        super().__init__(seed, **shape)
        self.router = blocks.Router(1, "sigmoid")
        self.meta |= {"expert_count": expert_count, "expert_used_count": 1, "expert_feed_forward_length": expert_ffn, "interleave_moe_layer_step": step}
        self.config |= {"intermediate_size": expert_ffn, "intermediate_size_mlp": self.ffn, "num_local_experts": expert_count,
                        "num_experts_per_tok": 1, "interleave_moe_layer_step": step, "use_qk_norm": self.norms,
                        "attention_chunk_size": chunk, "floor_scale": period, "attn_scale": growth}
        if chunk != 8192:
            self.llama_cpp_differs = "chunk and period are always 8192"
            self.meta |= {"attention.sliding_window": chunk, "attention.temperature_length": period, "attention.temperature_scale": growth}
        if factors:
            file = blocks.llama3_factors(self.base, self.head_dim, **factors).astype(np.float32).astype(np.float64)
            self.tensors["rope_freqs.weight"] = file
            self.rope = blocks.Rope(blocks.frequencies(self.base, self.head_dim) / file, True)
            self.config["rope_parameters"] |= {"rope_type": "llama3", "factor": factors["factor"], "low_freq_factor": factors["low"],
                                               "high_freq_factor": factors["high"], "original_max_position_embeddings": factors["original"]}

    def has_experts(self, layer):
        return (layer + 1) % self.step == 0

    def add_layer(self, prefix):
        if not self.has_experts(int(prefix.split(".")[1])):
            return self.add_feed_forward(prefix, self.ffn)
        self.add_experts(prefix, self.expert_count, self.expert_ffn)
        self.add_feed_forward(prefix, self.expert_ffn, "_shexp")

    def rope_of(self, layer):
        if layer % 4 == 3:
            return None
        return (lambda heads: blocks.rms_norm(self.rope(heads), 1, self.epsilon)) if self.norms else self.rope

    def tempered(self, q):
        if not self.grows:
            return q
        growth, period = (0.1, 8192) if self.like_llama_cpp else (self.growth, self.period)
        return q * (1 + growth * np.log(1 + (np.arange(len(q)) + 1) // period))[:, None, None]

    def layer(self, layer, x):
        rope = self.rope_of(layer)
        self.grows = rope is None
        x = x + self.attend(layer, self.normed(layer, "attn_norm", x), rope, chunk=None if rope is None or self.like_llama_cpp else self.chunk)
        return x + self.feed(layer, self.normed(layer, "ffn_norm", x))

    def feed(self, layer, x):
        if not self.has_experts(layer):
            return self.gated(layer, x)
        gate, up, down = (self.weight(layer, f"ffn_{name}_exps") for name in ("gate", "up", "down"))
        ids, weights = self.router(self.linear(layer, "ffn_gate_inp", x))
        scaled = x * weights
        routed = blocks.experts(scaled, ids, np.ones_like(weights), lambda i, row: down[i] @ (blocks.silu(gate[i] @ row) * (up[i] @ row)))
        return routed + self.gated(layer, x, "_shexp")

    def halves(self, values):
        return values  # transformers has interleaved pairs here too

    def layer_state(self, layer):
        return {f"feed_forward.{name.removeprefix('mlp.')}": values.swapaxes(1, 2) for name, values in super().layer_state(layer).items()}


class Granite(Llama):
    """Four multipliers: of embeddings, of scores instead of 1/sqrt(width), of what each half layer adds, and a divisor of logits."""
    architecture, transformers_class = "granite", "Granite"

    def __init__(self, seed, embedding, scores, added, logits, **shape):
        super().__init__(seed, **shape)
        self.embedding, self.scores, self.added, self.logits = embedding, scores, added, logits
        self.meta |= {"embedding_scale": embedding, "attention.scale": scores, "residual_scale": added, "logit_scale": logits}
        self.config |= {"embedding_multiplier": embedding, "attention_multiplier": scores, "residual_multiplier": added, "logits_scaling": logits}

    def embed(self, tokens):
        return super().embed(tokens) * self.embedding

    def layer(self, layer, x):
        x = x + self.added * self.attend(layer, self.normed(layer, "attn_norm", x), self.rope, self.scores)
        return x + self.added * self.feed(layer, self.normed(layer, "ffn_norm", x))

    def head(self, x):
        return super().head(x) / self.logits


class GraniteMoe(Granite):
    architecture, transformers_class = "granitemoe", "GraniteMoe"
    names = {"ffn_gate_inp": "block_sparse_moe.router"}

    def __init__(self, seed, expert_count, used, **shape):
        self.expert_count = expert_count
        super().__init__(seed, **shape)
        self.router = blocks.Router(used, "softmax_of_chosen")
        self.meta |= {"expert_count": expert_count, "expert_used_count": used}
        self.config |= {"num_local_experts": expert_count, "num_experts_per_tok": used}

    def add_layer(self, prefix):
        self.add_experts(prefix, self.expert_count, self.ffn)

    def feed(self, layer, x):
        return self.mixture(layer, x)

    def layer_state(self, layer):
        return {name.replace("mlp.", "block_sparse_moe."): values for name, values in super().layer_state(layer).items()}


class Ernie(Llama):
    """Interleaved in transformers too."""
    architecture, transformers_class = "ernie4_5", "Ernie4_5"

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        del self.meta["vocab_size"], self.meta["rope.dimension_count"]

    def halves(self, values):
        return values


class ErnieMoe(Ernie):
    """Softmax with a bias for the choice, normalised; shared experts in one; a dense layer first."""
    architecture, transformers_class = "ernie4_5-moe", "Ernie4_5_Moe"

    def __init__(self, seed, dense, expert_count, used, expert_ffn, shared, **shape):
        self.dense, self.expert_count, self.expert_ffn, self.shared = dense, expert_count, expert_ffn, shared
        super().__init__(seed, **shape)
        self.router = blocks.Router(used, normalise=True)
        self.meta |= {"expert_count": expert_count, "expert_used_count": used, "interleave_moe_layer_step": 1, "leading_dense_block_count": dense,
                      "expert_feed_forward_length": expert_ffn, "expert_shared_count": shared, "expert_shared_feed_forward_length": shared * expert_ffn}
        self.config |= {"moe_num_experts": expert_count, "moe_k": used, "moe_intermediate_size": expert_ffn, "moe_num_shared_experts": shared,
                        "moe_layer_start_index": dense, "moe_layer_end_index": self.layers - 1, "moe_layer_interval": 1}

    def add_layer(self, prefix):
        if int(prefix.split(".")[1]) < self.dense:
            return self.add_feed_forward(prefix, self.ffn)
        self.add_experts(prefix, self.expert_count, self.expert_ffn, "selection")
        self.add_feed_forward(prefix, self.shared * self.expert_ffn, "_shexp")

    def feed(self, layer, x):
        if layer < self.dense:
            return self.gated(layer, x)
        return self.mixture(layer, x) + self.gated(layer, x, "_shexp")

    def layer_state(self, layer):
        state = super().layer_state(layer)
        if layer >= self.dense:
            state["mlp.gate.moe_statics.e_score_correction_bias"] = self.weight(layer, "exp_probs_b", "bias")[None]
        return state


class HunyuanDense(Qwen3):
    """Norms per head after the rotation; a base that grows with alpha, which files have already applied."""
    architecture, transformers_class = "hunyuan-dense", "HunYuanDenseV1"
    names = {"attn_q_norm": "self_attn.query_layernorm", "attn_k_norm": "self_attn.key_layernorm"}
    norms_of_q_and_k = "after"

    def __init__(self, seed, theta, alpha, **shape):
        base = float(np.float32(theta * alpha ** (shape["head_dim"] / (shape["head_dim"] - 2))))
        super().__init__(seed, base=base, **shape)
        self.meta |= {"rope.scaling.type": "none", "rope.scaling.factor": 1.0, "rope.scaling.original_context_length": self.context}
        self.config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": theta, "alpha": float(alpha), "factor": 1.0}


class Olmo2(Model):
    """Norms only after each half layer, and over all of q and k."""
    architecture, transformers_class = "olmo2", "Olmo2"
    norms_of_q_and_k = "whole"
    names = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix)
            del self.tensors[prefix + "attn_norm.weight"]
            self.add_norms(prefix)
            self.norm(prefix + "post_attention_norm", self.hidden)
            self.add_feed_forward(prefix, self.ffn)
            self.norm(prefix + "post_ffw_norm", self.hidden)

    def add_norms(self, prefix):
        self.add_whole_norms(prefix)

    def attend_layer(self, layer, x):
        return self.attend(layer, x, self.rope)

    def layer(self, layer, x):
        x = x + self.normed(layer, "post_attention_norm", self.attend_layer(layer, x))
        return x + self.normed(layer, "post_ffw_norm", self.gated(layer, x))


class Olmo3(Olmo2):
    """Under olmo2 too: three layers of four have a window and plain positions, the fourth YaRN."""
    transformers_class = "Olmo3"

    def __init__(self, seed, window, factor, original, **shape):
        super().__init__(seed, **shape)
        self.window = window
        self.global_rope = blocks.Rope(blocks.yarn_frequencies(self.base, self.head_dim, factor, original), False, blocks.yarn_magnitude(factor))
        sliding = [layer % 4 != 3 for layer in range(self.layers)]
        self.meta |= {"attention.sliding_window": window, "attention.sliding_window_pattern": sliding, "rope.scaling.type": "yarn",
                      "rope.scaling.factor": factor, "rope.scaling.original_context_length": original}
        self.config |= {"sliding_window": window, "layer_types": ["sliding_attention" if s else "full_attention" for s in sliding],
                        "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": self.base}, "full_attention": {
                            "rope_type": "yarn", "rope_theta": self.base, "factor": factor, "original_max_position_embeddings": original}}}

    def attend_layer(self, layer, x):
        return self.attend(layer, x, self.global_rope) if layer % 4 == 3 else self.attend(layer, x, self.rope, window=self.window)


class Exaone4(Olmo2):
    """Norms after each half layer, and per head. The large model has windows and global layers without positions."""
    architecture, transformers_class = "exaone4", "Exaone4"
    norms_of_q_and_k = "before"

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim, "vocab_size": self.vocab}
        self.config |= {"sliding_window": None, "layer_types": ["full_attention"] * self.layers}

    def add_norms(self, prefix):
        self.add_head_norms(prefix)


MULTIPLIERS = dict(embedding=12.0, scores=0.09375, added=0.5, logits=6.0)
FIXTURES = {
    "seed_oss": lambda: SeedOss(71, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=24, base=1000000.0, epsilon=1e-6),
    "minimax_m2": lambda: MiniMaxM2(72, layers=2, hidden=32, heads=6, kv_heads=3, head_dim=16, ffn=12, turned=8, expert_count=5, used=2, base=500000.0),
    "smollm3": lambda: SmolLM3(73, layers=4, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=50000.0, tied=True),
    "mistral3": lambda: Mistral3(74, layers=2, hidden=32, heads=4, kv_heads=1, head_dim=16, ffn=40, base=1000000.0, factor=4.0, original=32, beta=0.25,
                                 tied=True),
    "mistral4": lambda: Mistral4(85, layers=2, hidden=32, heads=4, ffn=24, absorbed=True, plain=8, turned=8, value=16, rank=24, dense=0, expert_count=4,
                                 used=2, shared=1, expert_ffn=16, factor=8.0, original=32, mscale=1.0, normalise=True, epsilon=1e-6, tied=True),
    "llama4": lambda: Llama4(86, layers=4, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=500000.0, expert_count=4, expert_ffn=12, step=2, tied=True),
    "llama4_chunks": lambda: Llama4(87, layers=4, hidden=32, heads=6, kv_heads=2, head_dim=16, ffn=24, base=500.0, expert_count=3, expert_ffn=8, step=1,
                                    chunk=24, period=16, growth=0.25, factors=dict(factor=8.0, low=1.0, high=4.0, original=64), tied=True),
    "llama4_maverick": lambda: Llama4(88, layers=4, hidden=16, heads=4, kv_heads=1, head_dim=8, ffn=24, base=500000.0, expert_count=128, expert_ffn=4,
                                      step=4, tied=True),
    "granite": lambda: Granite(75, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, tied=True, **MULTIPLIERS),
    "granitemoe": lambda: GraniteMoe(76, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=16, expert_count=4, used=3, tied=True, **MULTIPLIERS),
    "ernie4_5": lambda: Ernie(77, layers=2, hidden=32, heads=4, kv_heads=1, head_dim=16, ffn=24, base=500000.0, tied=True),
    "ernie4_5_moe": lambda: ErnieMoe(78, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=24, dense=1, expert_count=6, used=2, expert_ffn=12,
                                     shared=2, base=500000.0, tied=True),
    "hunyuan_dense": lambda: HunyuanDense(79, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=24, theta=10000.0, alpha=50.0, tied=True),
    "olmo2": lambda: Olmo2(80, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=500000.0, epsilon=1e-6),
    "olmo3": lambda: Olmo3(81, layers=4, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=500000.0, epsilon=1e-6, window=24, factor=4.0, original=64),
    "exaone4": lambda: Exaone4(82, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=1000000.0, tied=True),
    "qwen3vl": lambda: Qwen3Vl(83, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=24, base=5000000.0, epsilon=1e-6, sections=[4, 2, 2], tied=True),
}
HAS = {
    "seed_oss": "biases on q, k and v and heads wider than hidden / heads; the norm before the feed-forward is `post_attention_norm`",
    "minimax_m2": "norms over all of q and all of k, half of each head turned, 2 of 5 experts by sigmoid with a bias for the choice; 3 KV heads",
    "smollm3": "every fourth layer without positions",
    "mistral3": "YaRN without a magnitude; queries that grow with their position (`attention.temperature_scale`)",
    "mistral4": "deepseek2 with experts whose gate and up are in one tensor; softmax, normalised; no dense layer",
    "llama4": "q and k normed without weights after the rotation, but neither in every fourth layer; one expert by sigmoid, which scales its input; every second layer dense",
    "llama4_chunks": "chunks of 24 and queries that grow every 16 positions; `rope_freqs.weight`; experts in every layer",
    "llama4_maverick": "128 experts, by which loaders know that q and k are not normed; one KV head",
    "granite": "four multipliers: embeddings, scores, what a half layer adds, logits",
    "granitemoe": "the same with 3 of 4 experts",
    "ernie4_5": "interleaved pairs; one KV head",
    "ernie4_5_moe": "softmax with a bias for the choice, normalised; two shared experts in one; a dense layer first",
    "hunyuan_dense": "norms per head after the rotation; a rope base that the file has already scaled",
    "olmo2": "norms after each half layer only, and over all of q and all of k",
    "olmo3": "under olmo2: three layers of four with a window of 24 and plain positions, the fourth with YaRN",
    "exaone4": "norms after each half layer only, and per head",
    "qwen3vl": "`rope.dimension_sections`; for text it is qwen3 (judged as Qwen3)",
}
