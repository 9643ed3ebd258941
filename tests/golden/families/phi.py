"""Phi 3 and 4: queries, keys and values in one tensor, gate and up in another; rotary halves, perhaps over a part of the head; LongRoPE."""
import math

import numpy as np

from . import blocks
from .model import Model


class Phi3(Model):
    architecture, transformers_class = "phi3", "Phi3"
    names = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}

    def __init__(self, seed, window, original, turned=None, **shape):
        super().__init__(seed, **shape)
        self.window, self.turned = window, turned or self.head_dim
        self.rope = blocks.Rope(blocks.frequencies(self.base, self.turned), False)
        self.meta |= {"rope.dimension_count": self.turned, "rope.scaling.original_context_length": original, "attention.sliding_window": window or 0}
        self.config |= {"sliding_window": window}
        self.config["rope_parameters"] |= {"partial_rotary_factor": self.turned / self.head_dim}
        self.add_ends()
        rows = (self.heads + 2 * self.kv_heads) * self.head_dim
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.norm(prefix + "attn_norm", self.hidden)
            self.matrix(prefix + "attn_qkv", rows, self.hidden)
            self.matrix(prefix + "attn_output", self.hidden, self.heads * self.head_dim)
            self.norm(prefix + "ffn_norm", self.hidden)
            self.matrix(prefix + "ffn_up", 2 * self.ffn, self.hidden)
            self.matrix(prefix + "ffn_down", self.hidden, self.ffn)

    def layer(self, layer, x):
        fused = self.linear(layer, "attn_qkv", self.normed(layer, "attn_norm", x)).reshape(len(x), -1, self.head_dim)
        q, k, v = np.split(fused, [self.heads, self.heads + self.kv_heads], 1)
        window = None if self.like_llama_cpp else self.window
        x = x + self.linear(layer, "attn_output", blocks.attention(self.rope(q), self.rope(k), v, self.head_dim ** -0.5, window))
        gate, up = np.split(self.linear(layer, "ffn_up", self.normed(layer, "ffn_norm", x)), 2, -1)
        return x + self.linear(layer, "ffn_down", blocks.silu(gate) * up)


class Phi3Windowed(Phi3):
    llama_cpp_differs = "no window"


class Phi3LongRope(Phi3):
    """One file, two sets of factors: which one holds is decided by the context that the model is run with."""
    file = "phi3_longrope"

    def __init__(self, seed, original, long, **shape):
        super().__init__(seed, None, original, **shape)
        random = np.random.default_rng(seed + 500)
        pairs = self.turned // 2
        short_factors = np.float32(random.uniform(1, 1.5, pairs))
        long_factors = np.float32(np.sort(random.uniform(1, 30, pairs)))
        self.tensors["rope_factors_long.weight"] = long_factors.astype(np.float64)
        self.tensors["rope_factors_short.weight"] = short_factors.astype(np.float64)
        scale = self.context / original
        magnitude = math.sqrt(1 + math.log(scale) / math.log(original))
        self.meta |= {"rope.scaling.attn_factor": magnitude}
        self.rope = blocks.Rope(self.rope.frequencies / (long_factors if long else short_factors), False, float(np.float32(magnitude)))
        # transformers decides by the length of the sequence alone; it is told a length that makes it choose as wanted.
        told = 1 if long else original
        self.config |= {"original_max_position_embeddings": told, "max_position_embeddings": self.context}
        self.config["rope_parameters"] |= {"rope_type": "longrope", "original_max_position_embeddings": told, "attention_factor": magnitude,
                                           "short_factor": short_factors.tolist(), "long_factor": long_factors.tolist()}
        self.run_with_context = self.context if long else original


LONG = dict(layers=1, hidden=96, heads=1, kv_heads=1, head_dim=96, ffn=24, original=256, turned=72, context=1024, tied=True)
FIXTURES = {
    "phi3": lambda: Phi3Windowed(31, layers=2, hidden=48, heads=6, kv_heads=3, head_dim=8, ffn=24, window=24, original=256),
    "phi3_longrope_short": lambda: Phi3LongRope(32, long=False, **LONG),
    "phi3_longrope_long": lambda: Phi3LongRope(32, long=True, **LONG),
}
HAS = {
    "phi3": "fused q, k, v and fused gate and up; a sliding window of 24 in all layers; 3 KV heads",
    "phi3_longrope_short": "`phi3_longrope.gguf` run with a context of 256: the short factors; heads of 96, of which 72 are turned",
    "phi3_longrope_long": "the same file run with a context of 1024: the long factors",
}
