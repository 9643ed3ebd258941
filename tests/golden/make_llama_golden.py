#!/usr/bin/env python3
"""Makes the fixtures of tests/golden/llama: small llama models with seeded random weights, and the logits that an independent implementation gives.

    make_llama_golden.py [OUT_DIR]

The judge is LlamaForCausalLM of Hugging Face transformers in float64 (its norms, softmax and rotary angles stay float32). A second
forward pass, written here in numpy float64 from the papers, must agree with it to 1e-5 of the largest logit, or nothing is written.
Needs torch, transformers, gguf and numpy; the versions used are in tests/golden/llama/README.md.
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

# Every shape has what another lacks; sizes keep each file under 400 KB.
SHAPES = {
    "plain": dict(seed=1, layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, vocab=261, theta=10000.0),
    # Heads wider than hidden / heads, biases on queries, keys and values, linear rope scaling, a feed-forward of 80 columns.
    "wide_heads": dict(seed=2, layers=2, hidden=48, heads=4, kv_heads=2, head_dim=32, ffn=80, vocab=275, theta=500000.0,
                       bias=True, scaling={"rope_type": "linear", "factor": 2.0}),
    # Three KV heads, a tied table, frequency factors.
    "tied_factors": dict(seed=3, layers=2, hidden=64, heads=6, kv_heads=3, head_dim=16, ffn=96, vocab=300, theta=10000.0, tied=True,
                         scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 64}),
}
EPSILON = 1e-5
CONTEXT = 256
# Number of tokens, and the positions whose logits are kept.
CASES = [(1, [0]), (8, list(range(8))), (40, [0, 15, 16, 31, 32, 39]), (100, [63, 64, 99])]


def build(shape):
    config = LlamaConfig(vocab_size=shape["vocab"], hidden_size=shape["hidden"], intermediate_size=shape["ffn"],
                         num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
                         num_key_value_heads=shape["kv_heads"], head_dim=shape["head_dim"], rms_norm_eps=EPSILON,
                         rope_theta=shape["theta"], rope_scaling=shape.get("scaling"), max_position_embeddings=CONTEXT,
                         tie_word_embeddings=shape.get("tied", False), attention_bias=shape.get("bias", False),
                         attn_implementation="eager")
    model = LlamaForCausalLM(config).double().eval()
    random = np.random.default_rng(shape["seed"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                values = random.uniform(0.5, 1.5, weight.shape)
            elif name.endswith("o_proj.bias"):
                values = np.zeros(weight.shape)  # the architecture in GGUF has none
            elif name.endswith("bias"):
                values = random.normal(0, 0.5, weight.shape)
            elif name.endswith("embed_tokens.weight"):
                values = random.normal(0, 1, weight.shape)
            else:
                values = random.normal(0, 1.5 / np.sqrt(weight.shape[1]), weight.shape)
            weight.copy_(torch.from_numpy(to_bf16_grid(values)))
    return model


def to_bf16_grid(values):
    """Nearest number with 8 significant bits: exact as F32 and as BF16."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def parameters(model):
    return {name: weight.detach().numpy() for name, weight in model.named_parameters()}


# --- the second opinion: numpy float64, rotating halves as the weights are stored by transformers ---

def rope_frequencies(shape):
    """Frequencies per pair, the factors that divide them, and the factor that positions are multiplied by."""
    half = shape["head_dim"] // 2
    plain = shape["theta"] ** (-np.arange(half) / half)
    factors = np.ones(half)
    position_scale = 1.0
    scaling = shape.get("scaling") or {}
    if scaling.get("rope_type") == "linear":
        position_scale = 1 / scaling["factor"]
    if scaling.get("rope_type") == "llama3":
        length = scaling["original_max_position_embeddings"]
        low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
        for i, wavelength in enumerate(2 * np.pi / plain):
            if wavelength > length / low:
                factors[i] = factor
            elif wavelength >= length / high:
                smooth = (length / wavelength - low) / (high - low)
                factors[i] = 1 / ((1 - smooth) / factor + smooth)
    return plain, factors, position_scale


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def rotate(x, angles):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def forward(shape, weights, tokens):
    count, dim, group = len(tokens), shape["head_dim"], shape["heads"] // shape["kv_heads"]
    plain, factors, position_scale = rope_frequencies(shape)
    angles = (np.arange(count)[:, None] * position_scale * plain / factors)[:, None, :]
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(shape["layers"]):
        def w(name):
            return weights[f"model.layers.{layer}.{name}"]

        def project(name, heads, n):
            y = n @ w(f"self_attn.{name}_proj.weight").T
            if shape.get("bias"):
                y = y + w(f"self_attn.{name}_proj.bias")
            return y.reshape(count, heads, dim)

        n = norm(x, w("input_layernorm.weight"))
        q = rotate(project("q", shape["heads"], n), angles)
        k = rotate(project("k", shape["kv_heads"], n), angles)
        v = project("v", shape["kv_heads"], n)
        out = np.zeros((count, shape["heads"], dim))
        for head in range(shape["heads"]):
            scores = q[:, head] @ k[:, head // group].T / np.sqrt(dim)
            scores[np.triu_indices(count, 1)] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = p / p.sum(-1, keepdims=True) @ v[:, head // group]
        x = x + out.reshape(count, -1) @ w("self_attn.o_proj.weight").T
        n = norm(x, w("post_attention_layernorm.weight"))
        gate = n @ w("mlp.gate_proj.weight").T
        x = x + (gate / (1 + np.exp(-gate)) * (n @ w("mlp.up_proj.weight").T)) @ w("mlp.down_proj.weight").T
    head = weights["model.embed_tokens.weight" if shape.get("tied") else "lm_head.weight"]
    return norm(x, weights["model.norm.weight"]) @ head.T


# --- GGUF ---

def interleaved(weight, heads):
    """Rows reordered so that pairs (i, i + dim/2) of transformers become the pairs (2i, 2i+1) of GGUF's llama."""
    rest = weight.shape[1:]
    return weight.reshape(heads, 2, -1, *rest).swapaxes(1, 2).reshape(-1, *rest)


def add_tokenizer(writer, vocab):
    """Byte-level BPE without a training set: three special tokens, the 256 bytes, then merges of two letters."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    letters, extra = {}, 256
    for byte in range(256):
        letters[byte] = chr(byte) if byte in printable else chr(extra)
        extra += byte not in printable
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [letters[b] for b in range(256)]
    pairs = [(a, b) for a in "etaoin" for b in "rshdlucm"]
    merges = [f"{a} {b}" for a, b in pairs[:vocab - len(tokens)]]
    tokens += [merge.replace(" ", "") for merge in merges]
    assert len(tokens) == vocab
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (vocab - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def write_gguf(path, name, shape, weights):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(f"golden {name}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(shape["theta"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_vocab_size(shape["vocab"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if shape["head_dim"] * shape["heads"] != shape["hidden"]:
        writer.add_key_length(shape["head_dim"])
        writer.add_value_length(shape["head_dim"])
    if (shape.get("scaling") or {}).get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape["scaling"]["factor"])
    add_tokenizer(writer, shape["vocab"])

    def add(tensor, values):
        writer.add_tensor(tensor, np.ascontiguousarray(values.astype(np.float32)))

    add("token_embd.weight", weights["model.embed_tokens.weight"])
    add("output_norm.weight", weights["model.norm.weight"])
    if not shape.get("tied"):
        add("output.weight", weights["lm_head.weight"])
    if (shape.get("scaling") or {}).get("rope_type") == "llama3":
        add("rope_freqs.weight", rope_frequencies(shape)[1])
    names = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
             "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    for layer in range(shape["layers"]):
        for ours, theirs in names.items():
            for kind in ["weight", "bias"]:
                values = weights.get(f"model.layers.{layer}.{theirs}.{kind}")
                if values is None or (ours == "attn_output" and kind == "bias"):
                    continue
                if ours in ("attn_q", "attn_k"):
                    values = interleaved(values, shape["heads" if ours == "attn_q" else "kv_heads"])
                add(f"blk.{layer}.{ours}.{kind}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "llama")
    out.mkdir(parents=True, exist_ok=True)
    for name, shape in SHAPES.items():
        model = build(shape)
        weights = parameters(model)
        random = np.random.default_rng(100 + shape["seed"])
        cases, worst = [], 0.0
        for count, positions in CASES:
            tokens = random.integers(0, shape["vocab"], count)
            with torch.no_grad():
                logits = model(torch.tensor(tokens[None])).logits[0].double().numpy()
            second = forward(shape, weights, tokens)
            worst = max(worst, np.abs(logits - second).max() / np.abs(second).max())
            cases.append({"tokens": tokens.tolist(), "positions": positions,
                          "logits": [[float(f"{x:.8g}") for x in logits[p]] for p in positions]})
        print(f"{name}: the two implementations differ by {worst:.2e} of the largest logit at most")
        if worst > 1e-5:
            sys.exit("too much: one of them is wrong")
        write_gguf(out / f"{name}.gguf", name, shape, weights)
        text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        (out / f"{name}.json").write_text(f'{{"model":"{name}.gguf","cases":[\n{text}\n]}}\n')


if __name__ == "__main__":
    main()
