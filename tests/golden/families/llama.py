"""Llama and what shares its file form: rotary pairs interleaved in GGUF (rows reordered by converters), halves in transformers."""
import numpy as np

from . import blocks
from .model import Model


class Llama(Model):
    architecture, transformers_class, interleaved = "llama", "Llama", True

    def __init__(self, seed, **shape):
        super().__init__(seed, **shape)
        self.meta |= {"rope.dimension_count": self.head_dim, "vocab_size": self.vocab}
        if self.heads * self.head_dim != self.hidden:
            self.meta |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim}
        self.add_ends()
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            self.add_attention(prefix)
            self.norm(prefix + "ffn_norm", self.hidden)
            self.add_layer(prefix)

    def add_layer(self, prefix):
        self.add_feed_forward(prefix, self.ffn)

    def feed(self, layer, x):
        return self.gated(layer, x)

    def rope_of(self, layer):
        return self.rope

    def layer(self, layer, x):
        x = x + self.attend(layer, self.normed(layer, "attn_norm", x), self.rope_of(layer))
        return x + self.feed(layer, self.normed(layer, "ffn_norm", x))


class Mixtral(Llama):
    """Mixtral has no architecture of its own in GGUF: llama with experts, whose chosen weights are normalised."""
    transformers_class = "Mixtral"

    def __init__(self, seed, expert_count, used, **shape):
        self.expert_count = expert_count
        super().__init__(seed, **shape)
        self.router = blocks.Router(used, normalise=True)
        self.meta |= {"expert_count": expert_count, "expert_used_count": used}
        self.config |= {"num_local_experts": expert_count, "num_experts_per_tok": used, "sliding_window": None}

    def add_layer(self, prefix):
        self.add_experts(prefix, self.expert_count, self.ffn)

    def feed(self, layer, x):
        return self.mixture(layer, x)


class LlamaYarn(Llama):
    """YaRN: the magnitude multiplies turned queries and keys, so scores grow by its square."""

    def __init__(self, seed, factor, original, **shape):
        super().__init__(seed, **shape)
        self.rope = blocks.Rope(blocks.yarn_frequencies(self.base, self.head_dim, factor, original), True, blocks.yarn_magnitude(factor))
        self.meta |= {"rope.scaling.type": "yarn", "rope.scaling.factor": float(factor), "rope.scaling.original_context_length": original}
        self.config["rope_parameters"] |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}


class LlamaFactors(Llama):
    """Llama 3.1 and later: the file has the factors themselves, rope_freqs.weight, and no key."""

    def __init__(self, seed, factor, low, high, original, **shape):
        super().__init__(seed, **shape)
        factors = blocks.llama3_factors(self.base, self.head_dim, factor, low, high, original).astype(np.float32)
        self.tensors["rope_freqs.weight"] = factors.astype(np.float64)
        self.rope = blocks.Rope(blocks.frequencies(self.base, self.head_dim) / factors, True)
        self.config["rope_parameters"] |= {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                                           "original_max_position_embeddings": original}


FIXTURES = {
    "mixtral": lambda: Mixtral(1, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=24, base=1000000.0, expert_count=4, used=2, tied=True),
    "llama_yarn": lambda: LlamaYarn(3, layers=2, hidden=32, heads=4, kv_heads=1, head_dim=24, ffn=40, factor=4.0, original=32, tied=True),
    "llama3_factors": lambda: LlamaFactors(4, layers=2, hidden=32, heads=4, kv_heads=2, head_dim=16, ffn=40, base=500.0, factor=8.0, low=1.0,
                                           high=4.0, original=64, tied=True),
}
HAS = {
    "mixtral": "experts under llama: 2 of 4, normalised",
    "llama_yarn": "YaRN by 4 from 32 positions; one KV head; heads of 24 in a hidden width of 32",
    "llama3_factors": "`rope_freqs.weight`",
}
