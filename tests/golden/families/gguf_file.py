"""Writes a model as GGUF, with a byte-level vocabulary so that whole programs can run it."""
import gguf
import numpy as np


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


def add_value(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def write(path, name, model):
    writer = gguf.GGUFWriter(str(path), model.architecture)
    writer.add_name(f"golden {name}".replace("phi3", "phi 3"))  # llama.cpp looks for special tokens by a name with phi3 in it
    for key, value in model.meta.items():
        add_value(writer, f"{model.architecture}.{key}", value)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE if model.kept_types else gguf.LlamaFileType.ALL_F32)
    add_tokenizer(writer, model.vocab)
    for tensor, values in model.tensors.items():
        kept = model.kept_types.get(tensor)
        values = np.ascontiguousarray(values.astype(np.float32))
        if kept is None:
            writer.add_tensor(tensor, values)
        else:
            writer.add_tensor(tensor, gguf.quantize(values, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
