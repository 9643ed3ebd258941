#!/usr/bin/env python3
"""Raw logits of llama.cpp for given tokens, through its C interface: no server, no sampler, no probabilities in between.

    llama_cpp_logits.py < requests.json > answers.json

A request is {"gguf": base64 of the file, "context": N, "sequences": [[token, ...], ...]}, an answer {"sequences": [[[logit, ...] per position], ...]}
or {"error": SENTENCE}. Cache F32, no flash attention, one thread, one sequence per call, weights as the file has them (not repacked).
The structures below are those of libllama 0.7 (llama.h); another version has other ones, so it must be that one.
"""
import base64
import ctypes as c
import json
import sys
import tempfile

F32 = 0


class ModelParams(c.Structure):
    _fields_ = [("devices", c.c_void_p), ("overrides", c.c_void_p), ("gpu_layers", c.c_int32), ("split_mode", c.c_int),
                ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32), ("tensor_split", c.c_void_p),
                ("progress", c.c_void_p), ("progress_data", c.c_void_p), ("metadata_overrides", c.c_void_p),
                ("vocab_only", c.c_bool), ("check_tensors", c.c_bool), ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool),
                ("no_alloc", c.c_bool), ("load_mtp", c.c_bool)]


class ContextParams(c.Structure):
    _fields_ = [("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("n_ubatch", c.c_uint32), ("n_seq_max", c.c_uint32),
                ("n_rs_seq", c.c_uint32), ("n_outputs_max", c.c_uint32), ("n_outputs_max_per_seq", c.c_uint32),
                ("n_threads", c.c_int32), ("n_threads_batch", c.c_int32), ("type", c.c_int), ("rope_scaling", c.c_int),
                ("pooling", c.c_int), ("attention", c.c_int), ("flash", c.c_int), ("rope_base", c.c_float), ("rope_scale", c.c_float),
                ("yarn_ext", c.c_float), ("yarn_attn", c.c_float), ("yarn_fast", c.c_float), ("yarn_slow", c.c_float),
                ("yarn_context", c.c_uint32), ("defrag", c.c_float), ("callback", c.c_void_p), ("callback_data", c.c_void_p),
                ("type_k", c.c_int), ("type_v", c.c_int), ("moe_cache", c.c_size_t), ("abort", c.c_void_p), ("abort_data", c.c_void_p),
                ("embeddings", c.c_bool), ("offload_kqv", c.c_bool), ("no_perf", c.c_bool), ("op_offload", c.c_bool),
                ("swa_full", c.c_bool), ("kv_unified", c.c_bool), ("samplers", c.c_void_p), ("n_samplers", c.c_size_t),
                ("other", c.c_void_p)]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.POINTER(c.c_int32)),
                ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


def library():
    ggml = c.CDLL("libggml.so.0", mode=c.RTLD_GLOBAL)
    llama = c.CDLL("libllama.so.0")
    ggml.ggml_backend_load_all()
    for name, result in [("llama_model_default_params", ModelParams), ("llama_context_default_params", ContextParams),
                         ("llama_model_load_from_file", c.c_void_p), ("llama_init_from_model", c.c_void_p),
                         ("llama_model_get_vocab", c.c_void_p), ("llama_get_logits_ith", c.POINTER(c.c_float)),
                         ("llama_get_memory", c.c_void_p), ("llama_batch_init", Batch)]:
        getattr(llama, name).restype = result
    llama.llama_model_load_from_file.argtypes = [c.c_char_p, ModelParams]
    llama.llama_init_from_model.argtypes = [c.c_void_p, ContextParams]
    llama.llama_decode.argtypes = [c.c_void_p, Batch]
    llama.llama_batch_free.argtypes = [Batch]
    llama.llama_memory_clear.argtypes = [c.c_void_p, c.c_bool]
    for name in ["llama_model_get_vocab", "llama_vocab_n_tokens", "llama_get_memory", "llama_free", "llama_model_free"]:
        getattr(llama, name).argtypes = [c.c_void_p]
    llama.llama_get_logits_ith.argtypes = [c.c_void_p, c.c_int32]
    llama.llama_backend_init()
    return llama


def answer(llama, request):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(base64.b64decode(request["gguf"]))
        file.flush()
        return logits_of(llama, file.name, request)


def logits_of(llama, path, request):
    model_params = llama.llama_model_default_params()
    model_params.use_extra_bufts = False
    model_params.gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), model_params)
    if not model:
        return {"error": "llama.cpp does not load the file"}
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = request["context"], 512, 512, 1
    params.n_threads = params.n_threads_batch = 1
    params.flash, params.type_k, params.type_v = 0, F32, F32
    params.offload_kqv = params.op_offload = False
    context = llama.llama_init_from_model(model, params)
    if not context:
        return {"error": "llama.cpp makes no context for the model"}
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    sequences = []
    for tokens in request["sequences"]:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        status = llama.llama_decode(context, batch)
        if status:
            return {"error": f"llama_decode returned {status}"}
        sequences.append([llama.llama_get_logits_ith(context, i)[:vocab] for i in range(len(tokens))])
        llama.llama_batch_free(batch)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return {"sequences": sequences}


def main():
    requests = json.load(sys.stdin)
    llama = library()
    json.dump([answer(llama, request) for request in requests], sys.stdout)


if __name__ == "__main__":
    main()
