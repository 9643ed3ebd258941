#!/usr/bin/env python3
"""Writes the fixtures of tests/golden/tokenizer: what Hugging Face's tokenizers make of thousands of strings.

    make_tokenizer_golden.py tokenizer [SmolLM2-135M-Instruct.Q4_1.gguf]

Needs the package tokenizers; with a model also gguf and numpy. The strings are those of tokenizer_texts.py.

smollm2.jsonl (with a model): vocabulary and merges are the GGUF's; the pipeline around them is the one that SmolLM2's own
tokenizer.json describes. A line is [text, ids with special tokens recognised, ids without, or null where both are equal].

vocabularies.json: two small vocabularies, trained here on the same strings, without cutting them first: so their tokens reach over
words, spaces, digits and signs, and every difference in where a text is cut shows. families.jsonl: what the pipelines of the
families of models make of texts.jsonl with them; a line has the family's names in tokenizer.ggml.pre, the special tokens added to
the vocabulary, the file's flags, and for every text a hash of the ids (FNV-1a over 32-bit little-endian ids, 24 bits as hex)."""
import hashlib
import json
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizer_texts import strings

CONTROL = 3
SPACE = "\u2581"


def reference(path):
    import gguf
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    special = [text for text, kind in zip(tokens, types) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer, special


def write_smollm2(path, model):
    tokenizer, special = reference(model)
    seen = {}
    with open(path, "w", encoding="utf-8") as out:
        # Longer than any buffer: all strings in one, of which only the hash of the ids is kept.
        joined = " and then ".join(dict.fromkeys(strings(special)))
        ids = tokenizer.encode(joined, add_special_tokens=False).ids
        header = {"reference": "tokenizers " + tokenizers.__version__, "model": "SmolLM2-135M-Instruct", "python_unicode": unicodedata.unidata_version,
                  "joined_ids": len(ids), "joined_sha256": hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()}
        out.write(json.dumps(header) + "\n")
        for text in strings(special):
            if text in seen:
                continue
            seen[text] = True
            tokenizer.encode_special_tokens = False
            recognised = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            line = [text, recognised, None if plain == recognised else plain]
            out.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)


def split_at(*patterns, then=(BYTES,)):
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False) for pattern in patterns]
    return pre_tokenizers.Sequence(splits + list(then))


# As the tokenizer.json of each family has it: names in tokenizer.ggml.pre, ignore_merges, normalizer, pre-tokenizer.
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SEED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
          r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_V3 = (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
               "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
               "\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_CODER = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK)
# Letters of scripts with capitals.
CASED = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f"
         "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90"
         "-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
         "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6"
         "-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e"
         "\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70"
         "-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80"
         "-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
DEEPSEEK_LLM = ("[\r\n]", r"\s?[" + CASED + "]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", CJK)
FALCON = pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), GPT2, pre_tokenizers.Digits(individual_digits=False),
                                  pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated", invert=False)])
NFC = normalizers.NFC()
BYTE_LEVEL = [
    (["gpt-2", "default", "phi-2"], False, None, GPT2),
    (["mpt", "olmo"], False, NFC, GPT2),
    (["smollm", "starcoder", "refact"], False, None, pre_tokenizers.Sequence([DIGITS, GPT2])),
    (["command-r"], False, NFC, pre_tokenizers.Sequence([DIGITS, GPT2])),
    (["falcon"], False, None, FALCON),
    (["llama-bpe", "llama3", "llama-v3", "lfm2"], True, None, split_at(GPT4)),
    (["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], False, None, split_at(GPT4)),
    (["qwen2", "deepseek-r1-qwen", "hunyuan"], False, NFC, split_at(QWEN2)),
    (["qwen35"], False, NFC, split_at(QWEN35)),
    (["seed-coder"], False, None, split_at(SEED)),
    (["bailingmoe", "bailingmoe2"], False, None, split_at(BAILING)),
    (["gpt-4o", "llama4"], True, None, split_at(GPT4O)),
    (["minimax-m2"], False, None, split_at(GPT4O)),
    (["tekken"], True, None, split_at(TEKKEN)),
    (["kimi-k2"], True, None, split_at(KIMI)),
    (["deepseek-llm"], False, None, split_at(*DEEPSEEK_LLM, then=(DIGITS, BYTES))),
    (["deepseek-coder"], False, None, split_at(*DEEPSEEK_CODER, then=(DIGITS, BYTES))),
    (["deepseek-v3", "hunyuan-dense"], False, None, split_at(*DEEPSEEK_V3)),
]
CHAT = ["<|im_start|>", "<|im_end|>", "<s>"]


def trained(normalizer, pre_tokenizer, **options):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    texts = [text for text in strings(["."]) if "<|" not in text]  # special tokens are added to the vocabulary
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(max_token_length=12, show_progress=False, **options))
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [tuple(merge) for merge in model["merges"]]


def byte_level_vocabulary():
    tokens, merges = trained(None, BYTES, vocab_size=2000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    # One that no merge makes, and that only some families find.
    tokens.append("the\u0120quick")
    tokens.append("123")
    return {"tokens": tokens, "merges": [" ".join(merge) for merge in merges]}


def sentence_piece_vocabulary():
    tokens, merges = trained(normalizers.Replace(" ", SPACE), None, vocab_size=2000, limit_alphabet=500, initial_alphabet=[SPACE])
    # Ends of lines are bytes, or tokens that users define; so are runs of spaces.
    letters = [text for text in tokens if len(text) == 1 and text != "\n"]
    pieces = dict.fromkeys(left + right for left, right in merges)
    pieces = [text for text in pieces if text.strip(SPACE) and "\n" not in text]
    byte_tokens = ["<0x%02X>" % byte for byte in range(256)]
    return {"tokens": ["<unk>", "<s>", "</s>"] + byte_tokens + pieces + letters,
            "kinds": [2, 3, 3] + [6] * 256 + [1] * (len(pieces) + len(letters)),
            "scores": [0] * 259 + [-float(rank) for rank in range(len(pieces) + len(letters))]}


def merges_of(scores):
    """Every way to cut a piece in two pieces, best piece first; of one piece the longest left side first."""
    found = []
    for text, score in scores.items():
        splits = [(text[:at], text[at:]) for at in range(1, len(text))]
        found += [(score, len(left), len(right), left, right) for left, right in splits if left in scores and right in scores]
    found.sort(key=lambda split: split[:3], reverse=True)
    return [(left, right) for _, _, _, left, right in found]


PREPEND = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
REPLACE = normalizers.Replace(" ", SPACE)
FIRST = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=False)
RUNS = [" " * length for length in range(2, 9)]
LINES = ["\n" * length for length in range(1, 5)]
# Name, tokenizer.ggml.model, control tokens, user-defined tokens, flags, normalizer, pre-tokenizer.
SENTENCE_PIECE = [
    ("Llama 2", "llama", [], [], {}, PREPEND, None),
    ("ChatML on Llama 2", "llama", ["<|im_start|>"], ["<|im_end|>"], {}, PREPEND, None),
    ("Mistral 3", "llama", ["[INST]", "[/INST]"], [], {}, None, FIRST),
    ("Phi 3", "llama", ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|placeholder1|>"], [], {}, PREPEND, None),
    ("Gemma", "llama", ["<start_of_turn>", "<end_of_turn>"], LINES + RUNS + ["</a>"], {"add_space_prefix": False}, REPLACE, None),
    ("Gemma 4", "gemma4", ["<|turn>", "<turn|>"], ["</a>"], {"add_space_prefix": False}, REPLACE, None),
]


def texts_with(special):
    return list(dict.fromkeys(strings(special)))


def hashes(tokenizer, texts):
    found = []
    for text in texts:
        hash = 2166136261
        for byte in b"".join(struct.pack("<I", id) for id in tokenizer.encode(text, add_special_tokens=False).ids):
            hash = (hash ^ byte) * 16777619 & 0xFFFFFFFF
        found.append("%06x" % (hash & 0xFFFFFF))
    return "".join(found)


def byte_level_families(vocabulary, texts):
    tokens = vocabulary["tokens"]
    user = ["<think>", "     "]
    for names, ignore_merges, normalizer, pre_tokenizer in BYTE_LEVEL:
        merges = [tuple(merge.split(" ")) for merge in vocabulary["merges"]]
        vocab = {text: i for i, text in enumerate(tokens + CHAT + user)}
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CHAT])
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in user])
        yield {"names": names, "model": "gpt2", "control": CHAT, "user": user, "flags": {}, "hashes": hashes(tokenizer, texts)}


def sentence_piece_families(vocabulary, texts):
    for name, model, control, user, flags, normalizer, pre_tokenizer in SENTENCE_PIECE:
        all_tokens = vocabulary["tokens"] + control + user
        pieces = zip(vocabulary["tokens"], vocabulary["kinds"], vocabulary["scores"])
        scores = {text: score for text, kind, score in pieces if kind == 1}
        merges = merges_of(scores)
        vocab = {text: i for i, text in enumerate(all_tokens)}
        if user == LINES + RUNS + ["</a>"]:
            # To Hugging Face, a run of spaces is a token of visible ones, which merges make before any other, the longest first.
            vocab = {text.replace(" ", SPACE): i for text, i in vocab.items()}
            runs = [SPACE * length for length in range(8, 1, -1)]
            merges = [(run[:at], run[at:]) for run in runs for at in range(len(run) - 1, 0, -1)] + merges
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if normalizer:
            tokenizer.normalizer = normalizer
        if pre_tokenizer:
            tokenizer.pre_tokenizer = pre_tokenizer
        strips = {"</s>", "<|user|>", "<|assistant|>", "<|end|>", "<|placeholder1|>"} if name == "Phi 3" else set()
        special = ["<unk>", "<s>", "</s>"] + control
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False, rstrip=text in strips) for text in special])
        tokenizer.add_tokens([AddedToken(text.replace(" ", SPACE), special=False, normalized=False) for text in user])
        line = {"names": [name], "model": model, "control": control, "user": user, "flags": flags, "hashes": hashes(tokenizer, texts)}
        if model == "gemma4":
            line["merges"] = [" ".join(merge) for merge in merges]
        yield line


def main():
    folder = sys.argv[1]
    special = CHAT + ["<think>", "</s>", "<unk>", "[INST]", "[/INST]", "<|user|>", "<|end|>", "<start_of_turn>", "<|turn>", "</a>"]
    texts = texts_with(special)
    vocabularies = {"reference": "tokenizers " + tokenizers.__version__, "byte_level": byte_level_vocabulary(),
                    "sentence_piece": sentence_piece_vocabulary()}
    with open(folder + "/vocabularies.json", "w", encoding="utf-8") as out:
        json.dump(vocabularies, out, ensure_ascii=True, separators=(",", ":"))
        out.write("\n")
    with open(folder + "/texts.jsonl", "w", encoding="utf-8") as out:
        out.writelines(json.dumps(text, ensure_ascii=True) + "\n" for text in texts)
    with open(folder + "/families.jsonl", "w", encoding="utf-8") as out:
        for family in (*byte_level_families(vocabularies["byte_level"], texts), *sentence_piece_families(vocabularies["sentence_piece"], texts)):
            out.write(json.dumps(family, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(len(texts), "texts")
    if len(sys.argv) > 2:
        write_smollm2(folder + "/smollm2.jsonl", sys.argv[2])


if __name__ == "__main__":
    main()
