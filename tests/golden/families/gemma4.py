"""Gemma 4: windowed and global layers have heads of their own width, global ones may take values from keys; scores are not scaled.

Small models add an embedding per layer and share keys and values between layers; the mixture adds experts beside the feed-forward.
"""
import math

import numpy as np

from . import blocks
from .gemma import Gemma, gelu_by_table
from .model import Model


class Gemma4(Model):
    architecture, transformers_class, config_class = "gemma4", "Gemma4", "Gemma4TextConfig"
    llama_cpp_differs = Gemma.llama_cpp_differs
    names = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
             "post_ffw_norm_1": "post_feedforward_layernorm_1", "post_ffw_norm_2": "post_feedforward_layernorm_2",
             "pre_ffw_norm_2": "pre_feedforward_layernorm_2", "ffn_gate_inp": "router.proj", "inp_gate": "per_layer_input_gate",
             "proj": "per_layer_projection", "post_norm": "post_per_layer_input_norm"}

    def __init__(self, seed, window, sliding, global_dim, global_kv_heads, cap, values_from_keys, shared=0, per_layer=0, expert_count=0, used=0,
                 expert_ffn=0, **shape):
        super().__init__(seed, layers=len(sliding), tied=True, **shape)
        self.window, self.sliding, self.cap, self.shared, self.per_layer = window, sliding, cap, shared, per_layer
        self.global_dim, self.global_kv_heads, self.values_from_keys = global_dim, global_kv_heads, values_from_keys
        self.local_rope = blocks.Rope(blocks.frequencies(10000.0, self.head_dim), False)
        # A quarter of each global head is turned, in frequencies as if all were; the file says so by factors of 1e30.
        turned = global_dim // 8
        factors = np.float32([1.0] * turned + [1e30] * (global_dim // 2 - turned)).astype(np.float64)
        self.rope = blocks.Rope(np.where(factors == 1, blocks.frequencies(self.base, global_dim), 0), False)
        self.ffn_of = [self.ffn * (2 if shared and i >= self.layers - shared else 1) for i in range(self.layers)]
        self.describe(window, cap, expert_count, used, expert_ffn)
        self.add_ends()
        self.tensors["rope_freqs.weight"] = factors
        if per_layer:
            self.add("per_layer_token_embd.weight", self.random.normal(0, 1, (self.vocab, self.layers * per_layer)))
            self.matrix("per_layer_model_proj", self.layers * per_layer, self.hidden)
            self.norm("per_layer_proj_norm", per_layer)
        self.router = blocks.Router(used, normalise=True) if expert_count else None
        for layer in range(self.layers):
            self.add_layer(layer, expert_count, expert_ffn)

    def describe(self, window, cap, expert_count, used, expert_ffn):
        heads_kv = [self.kv_heads if s else self.global_kv_heads for s in self.sliding]
        self.meta |= {"attention.head_count_kv": heads_kv, "attention.key_length": self.global_dim, "attention.value_length": self.global_dim,
                      "attention.key_length_swa": self.head_dim, "attention.value_length_swa": self.head_dim, "rope.dimension_count": self.global_dim,
                      "rope.dimension_count_swa": self.head_dim, "rope.freq_base_swa": 10000.0, "attention.sliding_window": window,
                      "attention.sliding_window_pattern": self.sliding, "attention.shared_kv_layers": self.shared,
                      "embedding_length_per_layer_input": self.per_layer, "final_logit_softcapping": cap}
        if len(set(self.ffn_of)) > 1:
            self.meta |= {"feed_forward_length": self.ffn_of}
        self.config |= {"layer_types": ["sliding_attention" if s else "full_attention" for s in self.sliding], "sliding_window": window,
                        "global_head_dim": self.global_dim, "num_global_key_value_heads": self.global_kv_heads, "final_logit_softcapping": cap,
                        "attention_k_eq_v": self.values_from_keys, "hidden_size_per_layer_input": self.per_layer, "vocab_size_per_layer_input": self.vocab,
                        "num_kv_shared_layers": self.shared, "use_double_wide_mlp": self.shared > 0, "hidden_activation": "gelu_pytorch_tanh",
                        "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}, "full_attention": {
                            "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": self.base}}}
        if expert_count:
            self.meta |= {"expert_count": expert_count, "expert_used_count": used, "expert_feed_forward_length": expert_ffn}
            self.config |= {"enable_moe_block": True, "num_experts": expert_count, "top_k_experts": used, "moe_intermediate_size": expert_ffn}

    def shape_of(self, layer):
        """Head width and KV heads."""
        return (self.head_dim, self.kv_heads) if self.sliding[layer] else (self.global_dim, self.global_kv_heads)

    def has_keys(self, layer):
        return layer < self.layers - self.shared

    def add_layer(self, layer, expert_count, expert_ffn):
        prefix, (dim, kv_heads) = f"blk.{layer}.", self.shape_of(layer)
        self.norm(prefix + "attn_norm", self.hidden)
        self.matrix(prefix + "attn_q", self.heads * dim, self.hidden)
        self.norm(prefix + "attn_q_norm", dim)
        if self.has_keys(layer):
            self.matrix(prefix + "attn_k", kv_heads * dim, self.hidden)
            self.norm(prefix + "attn_k_norm", dim)
            if self.sliding[layer] or not self.values_from_keys:
                self.matrix(prefix + "attn_v", kv_heads * dim, self.hidden)
        self.matrix(prefix + "attn_output", self.hidden, self.heads * dim)
        for name in ["post_attention_norm", "ffn_norm", "post_ffw_norm"]:
            self.norm(prefix + name, self.hidden)
        self.add_feed_forward(prefix, self.ffn_of[layer])
        self.add(prefix + "layer_output_scale.weight", self.random.uniform(0.5, 1.5, 1))
        if self.per_layer:
            self.matrix(prefix + "inp_gate", self.per_layer, self.hidden)
            self.matrix(prefix + "proj", self.hidden, self.per_layer)
            self.norm(prefix + "post_norm", self.hidden)
        if expert_count:
            for name in ["post_ffw_norm_1", "pre_ffw_norm_2", "post_ffw_norm_2"]:
                self.norm(prefix + name, self.hidden)
            self.matrix(prefix + "ffn_gate_inp", expert_count, self.hidden, gain=6)
            self.add(prefix + "ffn_gate_inp.scale", self.random.uniform(0.5, 1.5, self.hidden))
            self.matrix(prefix + "ffn_gate_up_exps", expert_count, 2 * expert_ffn, self.hidden)
            self.matrix(prefix + "ffn_down_exps", expert_count, self.hidden, expert_ffn)
            self.add(prefix + "ffn_down_exps.scale", self.random.uniform(0.5, 1.5, expert_count))

    def gelu(self, x):
        return gelu_by_table(x) if self.like_llama_cpp else blocks.gelu_tanh(x)

    def attend_layer(self, layer, x, kept):
        """kept: keys and values of the last layer of each kind that has its own."""
        sliding, (dim, kv_heads) = self.sliding[layer], self.shape_of(layer)
        rope = self.local_rope if sliding else self.rope
        q = rope(self.normed(layer, "attn_q_norm", self.linear(layer, "attn_q", x).reshape(len(x), self.heads, dim)))
        if self.has_keys(layer):
            k = self.linear(layer, "attn_k", x).reshape(len(x), kv_heads, dim)
            v = k if self.weight(layer, "attn_v") is None else self.linear(layer, "attn_v", x).reshape(len(x), kv_heads, dim)
            kept[sliding] = rope(self.normed(layer, "attn_k_norm", k)), blocks.rms_norm(v, 1, self.epsilon)
        return self.linear(layer, "attn_output", blocks.attention(q, *kept[sliding], 1.0, self.window if sliding else None))

    def feed(self, layer, x):
        fed = self.gated(layer, self.normed(layer, "ffn_norm", x), activation=self.gelu)
        if self.router:
            fed = self.normed(layer, "post_ffw_norm_1", fed) + self.normed(layer, "post_ffw_norm_2", self.mixture(layer, x))
        return self.normed(layer, "post_ffw_norm", fed)

    def mixture(self, layer, x):
        """The router sees the residual stream, the experts its norm."""
        seen = blocks.rms_norm(x, self.weight(layer, "ffn_gate_inp", "scale"), self.epsilon) / math.sqrt(self.hidden)
        ids, weights = self.router(self.linear(layer, "ffn_gate_inp", seen))
        weights = weights * self.weight(layer, "ffn_down_exps", "scale")[ids]
        gate_up, down = self.weight(layer, "ffn_gate_up_exps"), self.weight(layer, "ffn_down_exps")

        def expert(i, row):
            gate, up = np.split(gate_up[i] @ row, 2)
            return down[i] @ (self.gelu(gate) * up)

        return blocks.experts(self.normed(layer, "pre_ffw_norm_2", x), ids, weights, expert)

    def per_layer_inputs(self, tokens, x):
        """[layers, tokens, per_layer]: half from the token's own table, half from its embedding."""
        shape = (len(tokens), self.layers, self.per_layer)
        own = self.tensors["per_layer_token_embd.weight"][tokens].reshape(shape) * math.sqrt(self.per_layer)
        projected = (x @ self.tensors["per_layer_model_proj.weight"].T).reshape(shape) / math.sqrt(self.hidden)
        projected = blocks.rms_norm(projected, self.tensors["per_layer_proj_norm.weight"], self.epsilon)
        return ((own + projected) / math.sqrt(2)).swapaxes(0, 1)

    def forward(self, tokens):
        x = self.embed(tokens) * math.sqrt(self.hidden)
        inputs = self.per_layer_inputs(tokens, x) if self.per_layer else None
        kept = {}
        for layer in range(self.layers):
            x = x + self.normed(layer, "post_attention_norm", self.attend_layer(layer, self.normed(layer, "attn_norm", x), kept))
            x = x + self.feed(layer, x)
            if self.per_layer:
                gate = self.gelu(self.linear(layer, "inp_gate", x))
                x = x + self.normed(layer, "post_norm", self.linear(layer, "proj", gate * inputs[layer]))
            x = x * self.weight(layer, "layer_output_scale")
        return blocks.softcap(self.head(blocks.rms_norm(x, self.tensors["output_norm.weight"], self.epsilon)), self.cap)

    def state(self):
        state = super().state()
        for ours, theirs in [("per_layer_token_embd", "embed_tokens_per_layer"), ("per_layer_model_proj", "per_layer_model_projection"),
                             ("per_layer_proj_norm", "per_layer_projection_norm")]:
            if self.per_layer:
                state[f"model.{theirs}.weight"] = self.tensors[f"{ours}.weight"]
        return {name.replace("router.proj.scale", "router.scale"): values for name, values in state.items()}

    def layer_state(self, layer):
        state = {"layer_scalar": self.weight(layer, "layer_output_scale")}
        if self.router:
            state |= {"experts.gate_up_proj": self.weight(layer, "ffn_gate_up_exps"), "experts.down_proj": self.weight(layer, "ffn_down_exps"),
                      "router.per_expert_scale": self.weight(layer, "ffn_down_exps", "scale")}
        return state


COMMON = dict(hidden=32, heads=4, base=1000000.0, epsilon=1e-6, window=24, cap=30.0)
FIXTURES = {
    "gemma4": lambda: Gemma4(91, kv_heads=2, head_dim=8, ffn=40, sliding=[True, True, False], global_dim=16, global_kv_heads=1, values_from_keys=True, **COMMON),
    "gemma4_moe": lambda: Gemma4(92, kv_heads=2, head_dim=8, ffn=24, sliding=[True, False], global_dim=16, global_kv_heads=1, values_from_keys=True,
                                 expert_count=6, used=2, expert_ffn=16, **COMMON),
    "gemma4_small": lambda: Gemma4(93, kv_heads=1, head_dim=8, ffn=24, sliding=[True, False, True, False], global_dim=16, global_kv_heads=1,
                                   values_from_keys=False, shared=2, per_layer=8, **COMMON),
}
HAS = {
    "gemma4": "other head widths and KV heads in global layers, whose values are the keys before their norm; scores not scaled; values normed; a scale per layer; a quarter of global heads turned, by factors of 1e30",
    "gemma4_moe": "2 of 6 experts beside the feed-forward, each with norms of its own; the router reads the residual stream; a scale per expert",
    "gemma4_small": "an embedding per layer; the last two layers use keys and values of earlier ones and have twice the feed-forward",
}
