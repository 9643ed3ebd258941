#include "tokenizer/pre_tokenizers.h"

#include <array>

namespace shoal {
namespace {

// The regular expressions stand in JSON, so a backslash is written twice. None may take time that
// grows with the square of its input: a run of white space is the usual way to that.

#define SHOAL_BYTES(USE_REGEX)                       \
  R"({"type":"ByteLevel","add_prefix_space":false,)" \
  R"("trim_offsets":true,"use_regex":)" USE_REGEX R"(})"
#define SHOAL_ISOLATE(REGEX) \
  R"({"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":")" REGEX R"("}})"
#define SHOAL_SEQUENCE(STEPS) R"({"type":"Sequence","pretokenizers":[)" STEPS R"(]})"
#define SHOAL_DIGITS(ONE_BY_ONE) R"({"type":"Digits","individual_digits":)" ONE_BY_ONE R"(})"

// GPT-2's own pattern is part of the ByteLevel step.
constexpr std::string_view kByteLevel = SHOAL_BYTES("true");

// StarCoder, SmolLM, Granite, Command R: every digit by itself, then GPT-2's pattern.
constexpr std::string_view kDigitsThenByteLevel =
    SHOAL_SEQUENCE(SHOAL_DIGITS("true") "," SHOAL_BYTES("true"));

// GPT-4 and its heirs: contractions, words with one sign before, numbers, signs, ends of lines,
// spaces. Families differ in what a word, a number, signs and ends of lines are.
#define SHOAL_CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define SHOAL_WORDS R"([^\\r\\n\\p{L}\\p{N}]?\\p{L}+)"
#define SHOAL_SIGNS R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*)"
#define SHOAL_SPACES R"(\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)"
#define SHOAL_UP_TO_THREE R"(\\p{N}{1,3})"
#define SHOAL_ONE R"(\\p{N})"
#define SHOAL_GPT4(WORDS, NUMBERS, SIGNS) \
  SHOAL_CONTRACTION "|" WORDS "|" NUMBERS "|" SIGNS "|" SHOAL_SPACES
#define SHOAL_SPLIT_BYTES(REGEX) SHOAL_SEQUENCE(SHOAL_ISOLATE(REGEX) "," SHOAL_BYTES("false"))

constexpr std::string_view kLlama3 =
    SHOAL_SPLIT_BYTES(SHOAL_GPT4(SHOAL_WORDS, SHOAL_UP_TO_THREE, SHOAL_SIGNS));
constexpr std::string_view kQwen2 =
    SHOAL_SPLIT_BYTES(SHOAL_GPT4(SHOAL_WORDS, SHOAL_ONE, SHOAL_SIGNS));
// Marks belong to the word that they stand in.
constexpr std::string_view kQwen35 =
    SHOAL_SPLIT_BYTES(SHOAL_GPT4(R"([^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+)", SHOAL_ONE,
                                 R"( ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*)"));
constexpr std::string_view kSeedCoder =
    SHOAL_SPLIT_BYTES(SHOAL_GPT4(SHOAL_WORDS, SHOAL_ONE, R"( ?[^\\s\\p{L}\\p{N}\\r\\n]+)"));
constexpr std::string_view kBailing = SHOAL_SPLIT_BYTES(
    R"('(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|)"
    R"(\\s*[\\r\\n]|\\s+(?!\\S)|\\s+)");

// GPT-4o and its heirs: a word begins with capitals or is all capitals, and keeps its contraction.
#define SHOAL_CASED_WORDS(HEAD, TAIL, CONTRACTION)                                            \
  R"([^\\r\\n\\p{L}\\p{N}]?)" HEAD "*" TAIL "+" CONTRACTION R"(|[^\\r\\n\\p{L}\\p{N}]?)" HEAD \
  "+" TAIL "*" CONTRACTION
#define SHOAL_HEAD R"(\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M})"
#define SHOAL_TAIL R"(\\p{Ll}\\p{Lm}\\p{Lo}\\p{M})"
#define SHOAL_SIGNS_AND_SLASHES R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*)"

constexpr std::string_view kGpt4o = SHOAL_SPLIT_BYTES(SHOAL_CASED_WORDS(
    "[" SHOAL_HEAD "]", "[" SHOAL_TAIL "]",
    SHOAL_CONTRACTION "?") "|" SHOAL_UP_TO_THREE "|" SHOAL_SIGNS_AND_SLASHES "|" SHOAL_SPACES);
constexpr std::string_view kTekken = SHOAL_SPLIT_BYTES(SHOAL_CASED_WORDS(
    "[" SHOAL_HEAD "]", "[" SHOAL_TAIL "]", "") "|" SHOAL_ONE "|" SHOAL_SIGNS_AND_SLASHES
                                                "|" SHOAL_SPACES);
// Chinese characters stand apart from other letters.
constexpr std::string_view kKimi = SHOAL_SPLIT_BYTES(R"([\\p{Han}]+|)" SHOAL_CASED_WORDS(
    R"([)" SHOAL_HEAD R"(&&[^\\p{Han}]])", R"([)" SHOAL_TAIL R"(&&[^\\p{Han}]])",
    SHOAL_CONTRACTION "?") "|" SHOAL_UP_TO_THREE "|" SHOAL_SIGNS "|" SHOAL_SPACES);

// DeepSeek V3 (V3.1, R1, and Hunyuan's small models).
constexpr std::string_view kDeepSeekV3 = SHOAL_SEQUENCE(
    SHOAL_ISOLATE(SHOAL_UP_TO_THREE) "," SHOAL_ISOLATE(
        "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+") ","
    SHOAL_ISOLATE(
        R"([!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|)"
        R"([^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|)"
        SHOAL_SPACES) "," SHOAL_BYTES("false"));

#define SHOAL_DEEPSEEK_CJK "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"
constexpr std::string_view kDeepSeekCoder = SHOAL_SEQUENCE(
    SHOAL_ISOLATE(R"([\\r\\n])") "," SHOAL_ISOLATE(R"(\\s?\\p{L}+)") ","
    SHOAL_ISOLATE(R"(\\s?\\p{P}+)") "," SHOAL_ISOLATE(SHOAL_DEEPSEEK_CJK) ","
    SHOAL_DIGITS("true") "," SHOAL_BYTES("false"));

// Letters of scripts that have capitals, as that family lists them.
#define SHOAL_DEEPSEEK_LETTERS                                                                  \
  "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF"  \
  "\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1"          \
  "\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD" \
  "\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D" \
  "\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4"         \
  "\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC"        \
  "\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128"    \
  "\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B"   \
  "\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787"  \
  "\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A"              \
  "\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2"        \
  "\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"
// Published as \s+$ in the last but two: the same matches, without looking at every end of a run.
constexpr std::string_view kDeepSeekLlm = SHOAL_SEQUENCE(
    SHOAL_ISOLATE(R"([\\r\\n])") "," SHOAL_ISOLATE(R"(\\s?[)" SHOAL_DEEPSEEK_LETTERS "]+") ","
    SHOAL_ISOLATE(R"(\\s?[!-/:-~)"
                  "\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+") ","
    SHOAL_ISOLATE(R"((?<!\\s)\\s++$)") "," SHOAL_ISOLATE(SHOAL_DEEPSEEK_CJK) ","
    SHOAL_DIGITS("true") "," SHOAL_BYTES("false"));

constexpr std::string_view kFalcon =
    SHOAL_SEQUENCE(R"({"type":"Punctuation","behavior":"Contiguous"},)" SHOAL_BYTES(
        "true") "," SHOAL_DIGITS("false") "," SHOAL_ISOLATE("[0-9][0-9][0-9]"));

#undef SHOAL_BYTES
#undef SHOAL_ISOLATE
#undef SHOAL_SEQUENCE
#undef SHOAL_DIGITS
#undef SHOAL_CONTRACTION
#undef SHOAL_WORDS
#undef SHOAL_SIGNS
#undef SHOAL_SPACES
#undef SHOAL_UP_TO_THREE
#undef SHOAL_ONE
#undef SHOAL_GPT4
#undef SHOAL_SPLIT_BYTES
#undef SHOAL_CASED_WORDS
#undef SHOAL_HEAD
#undef SHOAL_TAIL
#undef SHOAL_SIGNS_AND_SLASHES
#undef SHOAL_DEEPSEEK_CJK
#undef SHOAL_DEEPSEEK_LETTERS

constexpr std::string_view kNone;
constexpr std::string_view kNfc = R"({"type":"NFC"})";

// By name: normalizer, cuts, ignore_merges, BOS.
constexpr std::array kRules = {
    PreTokenizerRule{"gpt-2", kNone, kByteLevel, false, false},
    // Files from before the name was recorded say nothing or this: byte-level's own pattern is the
    // plain reading.
    PreTokenizerRule{"default", kNone, kByteLevel, false, false},
    PreTokenizerRule{"phi-2", kNone, kByteLevel, false, false},
    PreTokenizerRule{"mpt", kNfc, kByteLevel, false, false},
    PreTokenizerRule{"olmo", kNfc, kByteLevel, false, false},
    PreTokenizerRule{"smollm", kNone, kDigitsThenByteLevel, false, false},
    PreTokenizerRule{"starcoder", kNone, kDigitsThenByteLevel, false, false},
    PreTokenizerRule{"refact", kNone, kDigitsThenByteLevel, false, false},
    PreTokenizerRule{"command-r", kNfc, kDigitsThenByteLevel, false, true},
    PreTokenizerRule{"falcon", kNone, kFalcon, false, false},
    PreTokenizerRule{"llama-bpe", kNone, kLlama3, true, true},
    PreTokenizerRule{"llama3", kNone, kLlama3, true, true},
    PreTokenizerRule{"llama-v3", kNone, kLlama3, true, true},
    PreTokenizerRule{"lfm2", kNone, kLlama3, true, true},
    PreTokenizerRule{"smaug-bpe", kNone, kLlama3, false, false},
    PreTokenizerRule{"dbrx", kNone, kLlama3, false, false},
    PreTokenizerRule{"glm4", kNone, kLlama3, false, false},
    PreTokenizerRule{"chatglm-bpe", kNone, kLlama3, false, false},
    PreTokenizerRule{"qwen2", kNfc, kQwen2, false, false},
    PreTokenizerRule{"deepseek-r1-qwen", kNfc, kQwen2, false, true},
    PreTokenizerRule{"hunyuan", kNfc, kQwen2, false, false},
    PreTokenizerRule{"qwen35", kNfc, kQwen35, false, false},
    PreTokenizerRule{"seed-coder", kNone, kSeedCoder, false, false},
    PreTokenizerRule{"bailingmoe", kNone, kBailing, false, false},
    PreTokenizerRule{"bailingmoe2", kNone, kBailing, false, false},
    PreTokenizerRule{"gpt-4o", kNone, kGpt4o, true, false},
    PreTokenizerRule{"llama4", kNone, kGpt4o, true, true},
    PreTokenizerRule{"minimax-m2", kNone, kGpt4o, false, false},
    PreTokenizerRule{"tekken", kNone, kTekken, true, true},
    PreTokenizerRule{"kimi-k2", kNone, kKimi, true, false},
    PreTokenizerRule{"deepseek-llm", kNone, kDeepSeekLlm, false, true},
    PreTokenizerRule{"deepseek-coder", kNone, kDeepSeekCoder, false, true},
    PreTokenizerRule{"deepseek-v3", kNone, kDeepSeekV3, false, true},
    PreTokenizerRule{"hunyuan-dense", kNone, kDeepSeekV3, false, false},
};

}  // namespace

const PreTokenizerRule* pre_tokenizer_rule(std::string_view name) {
  for (const PreTokenizerRule& rule : kRules) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

std::string known_pre_tokenizers() {
  std::string names;
  for (const PreTokenizerRule& rule : kRules) {
    if (!names.empty()) names += ", ";
    names += rule.name;
  }
  return names;
}

}  // namespace shoal
