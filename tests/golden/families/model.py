"""A small random model: its metadata, its tensors under their GGUF names, its forward pass, and its names in transformers."""
import numpy as np

from . import blocks

VOCABULARY = 261
CONTEXT = 256
PERMUTED = ("attn_q", "attn_k")

# Names of one layer in transformers where a family does not say otherwise.
LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate", "ffn_gate_shexp": "mlp.shared_experts.gate_proj", "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
}


def to_bf16_grid(values):
    """Nearest number with 8 significant bits: exact as F32 and as BF16."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


class Model:
    """A family derives from it: declares metadata and tensors in __init__ and one layer of the forward pass in layer().

    meta maps keys (those of the architecture without its prefix) to values: int is written as uint32, float as float32.
    """
    architecture = None
    transformers_class = None  # e.g. "Qwen2", for Qwen2Config and Qwen2ForCausalLM
    interleaved = False        # rotary pairs (2i, 2i+1); where transformers has halves, rows of q and k are reordered for it
    names = {}                 # differences from LAYER_NAMES
    norm_shift = 0.0           # what GGUF adds to the norm weights of transformers
    config_class = None        # where it is not the class's name and "Config"
    file = None                # name of the GGUF, where it is not the fixture's
    run_with_context = None    # the context to run with, where the logits depend on it
    llama_cpp_limit = 1e-4     # of the largest logit
    llama_cpp_differs = None   # a sentence where llama.cpp computes something else than transformers
    norms_of_q_and_k = "before"  # per head, before or after the rotation; or over the whole width, before it
    residual_gain = 1.0        # below one for many layers, which would multiply rounding errors
    router = None

    def __init__(self, seed, layers, hidden, heads, kv_heads, head_dim, ffn, base=10000.0, epsilon=1e-5, vocab=VOCABULARY, context=CONTEXT, tied=False):
        self.random = np.random.default_rng(seed)
        self.seed, self.layers, self.hidden, self.heads, self.kv_heads, self.head_dim = seed, layers, hidden, heads, kv_heads, head_dim
        self.ffn, self.base, self.epsilon, self.vocab, self.context, self.tied = ffn, base, epsilon, vocab, context, tied
        self.tensors, self.kept_types = {}, {}
        self.rope = blocks.Rope(blocks.frequencies(base, head_dim), self.interleaved)
        self.like_llama_cpp = False  # set for a forward pass that does as llama.cpp does where that differs
        self.meta = {"context_length": context, "embedding_length": hidden, "block_count": layers, "feed_forward_length": ffn,
                     "attention.head_count": heads, "attention.head_count_kv": kv_heads,
                     "attention.layer_norm_rms_epsilon": float(epsilon), "rope.freq_base": float(base)}
        # What transformers' configuration is given; a family adds to it.
        self.config = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
                       "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "rms_norm_eps": epsilon,
                       "max_position_embeddings": context, "tie_word_embeddings": tied,
                       "rope_parameters": {"rope_type": "default", "rope_theta": base},
                       "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}

    # --- declaring tensors ---

    def add(self, name, values):
        self.tensors[name] = to_bf16_grid(values)

    def matrix(self, name, *shape, gain=1.5):
        if name.endswith(("attn_output", "ffn_down")):
            gain *= self.residual_gain
        self.add(name + ".weight", self.random.normal(0, gain / np.sqrt(shape[-1]), shape))

    def norm(self, name, width):
        self.add(name + ".weight", self.random.uniform(0.5, 1.5, width))

    def bias(self, name, *shape, deviation=0.5):
        self.add(name + ".bias", self.random.normal(0, deviation, shape))

    def add_ends(self):
        self.add("token_embd.weight", self.random.normal(0, 1, (self.vocab, self.hidden)))
        self.norm("output_norm", self.hidden)
        if not self.tied:
            self.matrix("output", self.vocab, self.hidden)

    def add_attention(self, prefix, bias=False):
        self.norm(prefix + "attn_norm", self.hidden)
        for name, heads in [("attn_q", self.heads), ("attn_k", self.kv_heads), ("attn_v", self.kv_heads)]:
            self.matrix(prefix + name, heads * self.head_dim, self.hidden)
            if bias:
                self.bias(prefix + name, heads * self.head_dim)
        self.matrix(prefix + "attn_output", self.hidden, self.heads * self.head_dim)

    def add_head_norms(self, prefix):
        self.norm(prefix + "attn_q_norm", self.head_dim)
        self.norm(prefix + "attn_k_norm", self.head_dim)

    def add_whole_norms(self, prefix):
        self.norm(prefix + "attn_q_norm", self.heads * self.head_dim)
        self.norm(prefix + "attn_k_norm", self.kv_heads * self.head_dim)

    def add_feed_forward(self, prefix, width, kind=""):
        self.matrix(f"{prefix}ffn_gate{kind}", width, self.hidden)
        self.matrix(f"{prefix}ffn_up{kind}", width, self.hidden)
        self.matrix(f"{prefix}ffn_down{kind}", self.hidden, width)

    def add_experts(self, prefix, count, width, router_bias=None):
        self.matrix(prefix + "ffn_gate_inp", count, self.hidden)
        if router_bias == "selection":  # in files: blk.N.exp_probs_b.bias
            self.add(prefix + "exp_probs_b.bias", self.random.uniform(0, 0.5, count))
        self.matrix(prefix + "ffn_gate_exps", count, width, self.hidden)
        self.matrix(prefix + "ffn_up_exps", count, width, self.hidden)
        self.matrix(prefix + "ffn_down_exps", count, self.hidden, width)

    # --- forward ---

    def weight(self, layer, name, kind="weight"):
        return self.tensors.get(f"blk.{layer}.{name}.{kind}")

    def linear(self, layer, name, x):
        y = x @ self.weight(layer, name).T
        bias = self.weight(layer, name, "bias")
        return y if bias is None else y + bias

    def normed(self, layer, name, x):
        return blocks.rms_norm(x, self.weight(layer, name), self.epsilon)

    def attend(self, layer, x, rope, scale=None, window=None, cap=None, sinks=None, chunk=None):
        """Projections, rotation (rope may be None) and norms where the file has them, attention, output."""
        q, k = self.linear(layer, "attn_q", x), self.linear(layer, "attn_k", x)
        if self.norms_of_q_and_k == "whole":
            q, k = self.normed(layer, "attn_q_norm", q), self.normed(layer, "attn_k_norm", k)
        q, k = q.reshape(len(x), self.heads, -1), k.reshape(len(x), self.kv_heads, -1)
        v = self.linear(layer, "attn_v", x).reshape(len(x), self.kv_heads, -1)
        per_head = self.weight(layer, "attn_q_norm") is not None and self.norms_of_q_and_k != "whole"
        if per_head and self.norms_of_q_and_k == "before":
            q, k = self.normed(layer, "attn_q_norm", q), self.normed(layer, "attn_k_norm", k)
        if rope is not None:
            q, k = rope(q), rope(k)
        if per_head and self.norms_of_q_and_k == "after":
            q, k = self.normed(layer, "attn_q_norm", q), self.normed(layer, "attn_k_norm", k)
        q = self.tempered(q)
        out = blocks.attention(q, k, v, self.head_dim ** -0.5 if scale is None else scale, window, cap, sinks, chunk)
        return self.linear(layer, "attn_output", out)

    def tempered(self, q):
        """A scale by position, for the families that have one."""
        return q

    def gated(self, layer, x, kind="", activation=blocks.silu):
        gate, up = self.linear(layer, "ffn_gate" + kind, x), self.linear(layer, "ffn_up" + kind, x)
        return self.linear(layer, "ffn_down" + kind, activation(gate) * up)

    def mixture(self, layer, x):
        """Routed experts, each a gated feed-forward with SiLU."""
        gate, up = self.gates_and_ups(layer)
        down = self.weight(layer, "ffn_down_exps")
        ids, weights = self.router(self.linear(layer, "ffn_gate_inp", x), self.weight(layer, "exp_probs_b", "bias"))
        return blocks.experts(x, ids, weights, lambda i, row: down[i] @ (blocks.silu(gate[i] @ row) * (up[i] @ row)))

    def gates_and_ups(self, layer):
        fused = self.weight(layer, "ffn_gate_up_exps")
        return np.split(fused, 2, 1) if fused is not None else (self.weight(layer, "ffn_gate_exps"), self.weight(layer, "ffn_up_exps"))

    def layer(self, layer, x):
        raise NotImplementedError

    def embed(self, tokens):
        return self.tensors["token_embd.weight"][tokens]

    def head(self, x):
        return x @ self.tensors["token_embd.weight" if self.tied else "output.weight"].T

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in range(self.layers):
            x = self.layer(layer, x)
        return self.head(blocks.rms_norm(x, self.tensors["output_norm.weight"], self.epsilon))

    # --- transformers ---

    def state(self):
        """The tensors under the names and in the order of rows of transformers."""
        state = {"model.embed_tokens.weight": self.tensors["token_embd.weight"],
                 "model.norm.weight": self.tensors["output_norm.weight"] - self.norm_shift}
        if not self.tied:
            state["lm_head.weight"] = self.tensors["output.weight"]
        names = LAYER_NAMES | self.names
        for name, values in self.tensors.items():
            if not name.startswith("blk."):
                continue
            _, layer, *_, base, kind = name.split(".")
            if int(layer) >= self.layers or base not in names:  # layers beyond predict further tokens
                continue
            if self.interleaved and base in PERMUTED:
                values = self.halves(values)
            if base.endswith("norm"):
                values = values - self.norm_shift
            state[f"model.layers.{layer}.{names[base]}.{kind}"] = values
        for layer in range(self.layers):
            for name, values in self.layer_state(layer).items():
                state[f"model.layers.{layer}.{name}"] = values
        return state

    def layer_state(self, layer):
        """What the table of names cannot say: experts, which transformers keeps as [gate; up] and down."""
        down = self.weight(layer, "ffn_down_exps")
        if down is None:
            return {}
        return {"mlp.experts.gate_up_proj": np.concatenate(self.gates_and_ups(layer), 1), "mlp.experts.down_proj": down}

    def halves(self, values):
        """Rows (2i, 2i+1) of each head put where halves (i, i + dim / 2) expect them."""
        shape = values.shape
        return values.reshape(-1, self.head_dim // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
