"""gpt-oss: attention sinks, biases everywhere, every other layer windowed, YaRN without rounding, clamped SwiGLU in the experts."""
import gguf
import numpy as np

from . import blocks
from .model import Model


class GptOss(Model):
    architecture, transformers_class = "gpt-oss", "GptOss"
    names = {"attn_sinks": "self_attn.sinks", "post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"}
    llama_cpp_differs = "YaRN's ramp from and to whole pairs"
    alpha, limit = 1.702, 7.0

    def __init__(self, seed, window, expert_count, used, factor, original, **shape):
        super().__init__(seed, **shape)
        self.window = window
        self.router = blocks.Router(used, "softmax_of_chosen")
        magnitude = blocks.yarn_magnitude(factor)
        self.rope = blocks.Rope(blocks.yarn_frequencies(self.base, self.head_dim, factor, original, truncate=False), False, magnitude)
        self.rounded_rope = blocks.Rope(blocks.yarn_frequencies(self.base, self.head_dim, factor, original), False, magnitude)
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim, "attention.sliding_window": window,
                      "expert_count": expert_count, "expert_used_count": used, "expert_feed_forward_length": self.ffn,
                      "rope.scaling.type": "yarn", "rope.scaling.factor": float(factor), "rope.scaling.original_context_length": original}
        self.config |= {"sliding_window": window, "num_local_experts": expert_count, "num_experts_per_tok": used,
                        "rope_parameters": {"rope_type": "yarn", "rope_theta": self.base, "factor": factor, "beta_fast": 32.0, "beta_slow": 1.0,
                                            "truncate": False, "original_max_position_embeddings": original}}
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix, bias=True)
            self.bias(prefix + "attn_output", self.hidden)
            self.add(prefix + "attn_sinks.weight", self.random.normal(0, 2, self.heads))
            self.norm(prefix + "post_attention_norm", self.hidden)
            self.matrix(prefix + "ffn_gate_inp", expert_count, self.hidden)
            self.bias(prefix + "ffn_gate_inp", expert_count)
            for name, shape, gain in [("gate", (self.ffn, self.hidden), 3), ("up", (self.ffn, self.hidden), 3), ("down", (self.hidden, self.ffn), 0.3)]:
                self.matrix(f"{prefix}ffn_{name}_exps", expert_count, *shape, gain=gain)
                self.bias(f"{prefix}ffn_{name}_exps", expert_count, shape[0])
                self.to_mxfp4_grid(f"{prefix}ffn_{name}_exps.weight")

    def to_mxfp4_grid(self, name):
        values = self.tensors[name].astype(np.float32)
        bits = gguf.quantize(values, gguf.GGMLQuantizationType.MXFP4)
        self.tensors[name] = gguf.dequantize(bits, gguf.GGMLQuantizationType.MXFP4).astype(np.float64).reshape(values.shape)

    def clamped(self, gate, up):
        gate, up = np.minimum(gate, self.limit), np.clip(up, -self.limit, self.limit)
        return gate * blocks.sigmoid(self.alpha * gate) * (up + 1)

    def layer(self, layer, x):
        rope = self.rounded_rope if self.like_llama_cpp else self.rope
        x = x + self.attend(layer, self.normed(layer, "attn_norm", x), rope, window=None if layer % 2 else self.window,
                            sinks=self.weight(layer, "attn_sinks"))
        n = self.normed(layer, "post_attention_norm", x)
        (gate, gate_bias), (up, up_bias), (down, down_bias) = (
            (self.weight(layer, f"ffn_{name}_exps"), self.weight(layer, f"ffn_{name}_exps", "bias")) for name in ("gate", "up", "down"))
        ids, weights = self.router(self.linear(layer, "ffn_gate_inp", n))
        return x + blocks.experts(n, ids, weights, lambda i, row: down[i] @ self.clamped(gate[i] @ row + gate_bias[i], up[i] @ row + up_bias[i]) + down_bias[i])

    def state(self):
        return {name.replace("sinks.weight", "sinks"): values for name, values in super().state().items()}

    def layer_state(self, layer):
        def woven(kind):  # rows of gate and up alternate
            return np.stack([self.weight(layer, "ffn_gate_exps", kind), self.weight(layer, "ffn_up_exps", kind)], 2)

        gate_up, bias = woven("weight"), woven("bias")
        return {"mlp.experts.gate_up_proj": gate_up.reshape(len(gate_up), -1, self.hidden).swapaxes(1, 2),
                "mlp.experts.gate_up_proj_bias": bias.reshape(len(bias), -1),
                "mlp.experts.down_proj": self.weight(layer, "ffn_down_exps").swapaxes(1, 2),
                "mlp.experts.down_proj_bias": self.weight(layer, "ffn_down_exps", "bias")}


class GptOssMxfp4(GptOss):
    """The same numbers with the experts in MXFP4. llama.cpp multiplies those by activations rounded to 8 bits, so it agrees only roughly
    (and chooses other experts now and then)."""
    llama_cpp_limit = 0.5

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.kept_types = {name: gguf.GGMLQuantizationType.MXFP4 for name in self.tensors if name.endswith("_exps.weight")}


SHAPE = dict(layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=32, base=150000.0, window=24, expert_count=3, used=2, factor=8.0, original=64)
FIXTURES = {
    "gpt_oss": lambda: GptOss(41, **SHAPE),
    "gpt_oss_mxfp4": lambda: GptOssMxfp4(41, **SHAPE),
}
HAS = {
    "gpt_oss": "sinks, biases everywhere, alternating windows of 24, clamped SwiGLU whose clamps act, YaRN without rounding; 2 of 3 experts by softmax of the chosen",
    "gpt_oss_mxfp4": "the same numbers, experts in MXFP4; llama.cpp rounds activations to 8 bits there and agrees only roughly",
}
