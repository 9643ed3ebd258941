"""Qwen 2, 3 and their mixtures: rotary halves; biases on q, k, v (2) or norms per head (3)."""
from .blocks import Rope, Router, sigmoid, yarn_frequencies, yarn_magnitude
from .model import Model


class Qwen2(Model):
    architecture, transformers_class = "qwen2", "Qwen2"
    attention_bias, head_norms = True, False
    before_feed = "ffn_norm"

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix, bias=self.attention_bias)
            if self.head_norms:
                self.add_head_norms(prefix)
            self.norm(prefix + self.before_feed, self.hidden)
            self.add_layer(prefix)

    def add_layer(self, prefix):
        self.add_feed_forward(prefix, self.ffn)

    def feed(self, layer, x):
        return self.gated(layer, x)

    def layer(self, layer, x):
        x = x + self.attend(layer, self.normed(layer, "attn_norm", x), self.rope)
        return x + self.feed(layer, self.normed(layer, self.before_feed, x))


class Qwen3(Qwen2):
    architecture, transformers_class = "qwen3", "Qwen3"
    attention_bias, head_norms = False, True

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim}


class Qwen3Yarn(Qwen3):
    """YaRN over rotary halves, as in files for long contexts."""

    def __init__(self, seed, factor, original, **shape):
        super().__init__(seed, **shape)
        self.rope = Rope(yarn_frequencies(self.base, self.head_dim, factor, original), False, yarn_magnitude(factor))
        self.meta |= {"rope.scaling.type": "yarn", "rope.scaling.factor": factor, "rope.scaling.original_context_length": original}
        self.config["rope_parameters"] |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}


class Qwen2Moe(Qwen2):
    """Weights of the chosen experts are not normalised; a shared expert of its own width stands behind a sigmoid gate."""
    architecture, transformers_class = "qwen2moe", "Qwen2Moe"
    names = {"ffn_gate_shexp": "mlp.shared_expert.gate_proj", "ffn_up_shexp": "mlp.shared_expert.up_proj", "ffn_down_shexp": "mlp.shared_expert.down_proj"}

    def __init__(self, seed, expert_count, used, expert_ffn, shared_ffn, **shape):
        self.expert_count, self.expert_ffn, self.shared_ffn = expert_count, expert_ffn, shared_ffn
        super().__init__(seed, **shape)
        self.router = Router(used)
        self.meta |= {"expert_count": expert_count, "expert_used_count": used, "expert_feed_forward_length": expert_ffn,
                      "expert_shared_feed_forward_length": shared_ffn}
        self.config |= {"num_experts": expert_count, "num_experts_per_tok": used, "moe_intermediate_size": expert_ffn,
                        "shared_expert_intermediate_size": shared_ffn, "norm_topk_prob": False, "decoder_sparse_step": 1}

    def add_layer(self, prefix):
        self.add_experts(prefix, self.expert_count, self.expert_ffn)
        self.matrix(prefix + "ffn_gate_inp_shexp", 1, self.hidden)
        self.tensors[prefix + "ffn_gate_inp_shexp.weight"] = self.tensors[prefix + "ffn_gate_inp_shexp.weight"][0]
        self.add_feed_forward(prefix, self.shared_ffn, "_shexp")

    def feed(self, layer, x):
        open_by = sigmoid(x @ self.weight(layer, "ffn_gate_inp_shexp"))[:, None]
        return self.mixture(layer, x) + open_by * self.gated(layer, x, "_shexp")

    def layer_state(self, layer):
        return super().layer_state(layer) | {"mlp.shared_expert_gate.weight": self.weight(layer, "ffn_gate_inp_shexp")[None]}


class Qwen3Moe(Qwen3):
    """Weights of the chosen experts are normalised."""
    architecture, transformers_class = "qwen3moe", "Qwen3Moe"

    def __init__(self, seed, expert_count, used, expert_ffn, **shape):
        self.expert_count, self.expert_ffn = expert_count, expert_ffn
        super().__init__(seed, **shape)
        self.router = Router(used, normalise=True)
        self.meta |= {"expert_count": expert_count, "expert_used_count": used, "expert_feed_forward_length": expert_ffn}
        self.config |= {"num_experts": expert_count, "num_experts_per_tok": used, "moe_intermediate_size": expert_ffn,
                        "norm_topk_prob": True, "decoder_sparse_step": 1}

    def add_layer(self, prefix):
        self.add_experts(prefix, self.expert_count, self.expert_ffn)

    def feed(self, layer, x):
        return self.mixture(layer, x)


FIXTURES = {
    "qwen2": lambda: Qwen2(11, layers=2, hidden=48, heads=6, kv_heads=3, head_dim=8, ffn=40, base=1000000.0, epsilon=1e-6, tied=True),
    "qwen3": lambda: Qwen3(13, layers=2, hidden=32, heads=6, kv_heads=3, head_dim=16, ffn=40, vocab=300, base=1000000.0, epsilon=1e-6, tied=True),
    "qwen3_yarn": lambda: Qwen3Yarn(16, layers=1, hidden=32, heads=2, kv_heads=1, head_dim=32, ffn=40, base=10000.0, factor=4.0, original=64, tied=True),
    "qwen2moe": lambda: Qwen2Moe(14, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=88, expert_count=5, used=2,
                                 expert_ffn=12, shared_ffn=24, base=1000000.0, epsilon=1e-6),
    "qwen3moe": lambda: Qwen3Moe(15, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=96, expert_count=8, used=3,
                                 expert_ffn=12, tied=True, base=1000000.0, epsilon=1e-6),
}
HAS = {
    "qwen2": "biases on q, k and v; 3 KV heads; a feed-forward of 40",
    "qwen3": "norms per head; heads wider than hidden / heads; a tied table; a vocabulary of 300",
    "qwen3_yarn": "YaRN by 4 from 64 positions, over halves",
    "qwen2moe": "2 of 5 experts, not normalised; a shared expert of another width behind a sigmoid gate",
    "qwen3moe": "3 of 8 experts, normalised",
}
