"""Gemma 2 and 3: embeddings scaled by sqrt(hidden), norms before and after each half layer, GELU, sliding windows, a tied table."""
import math

import numpy as np

from . import blocks
from .model import Model


def gelu_by_table(x):
    """llama.cpp on a CPU looks GELU up in a table of float16 by float16."""
    rounded = x.astype(np.float16).astype(np.float64)
    return np.where(x <= -10, 0, np.where(x >= 10, x, blocks.gelu_tanh(rounded).astype(np.float16)))


class Gemma(Model):
    llama_cpp_differs = "GELU through a float16 table"
    norm_shift = 1.0
    names = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
    head_norms = False

    def __init__(self, seed, window, scale_from=None, fed_part=1.0, **shape):
        super().__init__(seed, tied=True, **shape)
        self.window = window
        scale_from = scale_from or self.head_dim
        self.scale = scale_from ** -0.5
        self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim, "attention.sliding_window": window}
        self.config |= {"sliding_window": window, "query_pre_attn_scalar": scale_from, "hidden_activation": "gelu_pytorch_tanh"}
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix)
            if self.head_norms:
                self.add_head_norms(prefix)
            self.norm(prefix + "post_attention_norm", self.hidden)
            self.norm(prefix + "ffn_norm", self.hidden)
            self.add_feed_forward(prefix, self.ffn)
            self.add(prefix + "post_ffw_norm.weight", fed_part * self.random.uniform(0.5, 1.5, self.hidden))

    def is_global(self, layer):
        raise NotImplementedError

    def embed(self, tokens):
        return super().embed(tokens) * math.sqrt(self.hidden)

    def attend_layer(self, layer, x):
        raise NotImplementedError

    def layer(self, layer, x):
        x = x + self.normed(layer, "post_attention_norm", self.attend_layer(layer, self.normed(layer, "attn_norm", x)))
        fed = self.gated(layer, self.normed(layer, "ffn_norm", x), activation=gelu_by_table if self.like_llama_cpp else blocks.gelu_tanh)
        return x + self.normed(layer, "post_ffw_norm", fed)


class Gemma2(Gemma):
    """Even layers have the window; scores and logits are capped."""
    architecture, transformers_class = "gemma2", "Gemma2"

    def __init__(self, seed, attention_cap, final_cap, **shape):
        super().__init__(seed, **shape)
        self.attention_cap, self.final_cap = attention_cap, final_cap
        self.meta |= {"attn_logit_softcapping": attention_cap, "final_logit_softcapping": final_cap}
        del self.meta["rope.freq_base"]  # not written by converters: 10000
        self.config |= {"attn_logit_softcapping": attention_cap, "final_logit_softcapping": final_cap}

    def attend_layer(self, layer, x):
        return self.attend(layer, x, self.rope, self.scale, None if layer % 2 else self.window, self.attention_cap)

    def head(self, x):
        return blocks.softcap(super().head(x), self.final_cap)


class Gemma3(Gemma):
    """Every sixth layer is global, with its own rope base and scaling; norms per head."""
    architecture, transformers_class, config_class = "gemma3", "Gemma3", "Gemma3TextConfig"
    head_norms = True

    def __init__(self, seed, factor=None, write_local=False, **shape):
        super().__init__(seed, **shape)
        self.local_rope = blocks.Rope(blocks.frequencies(10000.0, self.head_dim), False)
        everywhere = {"rope_type": "default", "rope_theta": self.base}
        if factor:
            self.rope = blocks.Rope(self.rope.frequencies / factor, False)
            self.meta |= {"rope.scaling.type": "linear", "rope.scaling.factor": factor}
            everywhere = {"rope_type": "linear", "factor": factor, "rope_theta": self.base}
        if write_local:
            self.meta |= {"rope.freq_base_swa": 10000.0, "attention.sliding_window_pattern": [not self.is_global(i) for i in range(self.layers)]}
        self.config["rope_parameters"] = {"full_attention": everywhere, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
        self.config["layer_types"] = ["full_attention" if self.is_global(i) else "sliding_attention" for i in range(self.layers)]

    def is_global(self, layer):
        return layer % 6 == 5

    def attend_layer(self, layer, x):
        if self.is_global(layer):
            return self.attend(layer, x, self.rope, self.scale)
        return self.attend(layer, x, self.local_rope, self.scale, self.window)


FIXTURES = {
    "gemma2": lambda: Gemma2(27, layers=3, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=24, epsilon=1e-6, window=24, attention_cap=6.0, final_cap=8.0, fed_part=0.4),
    "gemma2_27b": lambda: Gemma2(22, layers=46, hidden=16, heads=1, kv_heads=1, head_dim=8, ffn=8, epsilon=1e-6, window=24, attention_cap=5.0,
                                 final_cap=30.0, scale_from=16, fed_part=0.05),
    "gemma3": lambda: Gemma3(26, layers=7, hidden=32, heads=2, kv_heads=1, head_dim=16, ffn=24, base=1000000.0, epsilon=1e-6, window=24),
    "gemma3_scaled": lambda: Gemma3(24, layers=6, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=50000.0, epsilon=1e-6, window=30,
                                    factor=8.0, write_local=True),
}
HAS = {
    "gemma2": "both soft caps, low enough to act; alternating windows of 24",
    "gemma2_27b": "46 layers, by which loaders know that attention is scaled by hidden / heads, not by the head's width",
    "gemma3": "5:1 windows of 24 and the local rope base unwritten, as in the first published files; norms per head",
    "gemma3_scaled": "global layers with linear scaling; `rope.freq_base_swa` and the pattern as an array of booleans written",
}
