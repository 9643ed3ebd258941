#include "tokenizer/pre_tokenizers.h"

#include <array>

namespace shoal {
namespace {

// GPT-2's own pattern is part of the ByteLevel step.
constexpr std::string_view kByteLevel =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";

constexpr std::string_view kDigitsThenByteLevel = R"({"type":"Sequence","pretokenizers":[
  {"type":"Digits","individual_digits":true},
  {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]})";

// Both families below: contractions, words with one sign before, numbers, signs, ends of lines,
// spaces.
#define SHOAL_SPLIT(NUMBERS)                                                     \
  R"({"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":")" \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|)" NUMBERS       \
  R"(| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}})"

#define SHOAL_SEQUENCE(SPLIT)                         \
  R"({"type":"Sequence","pretokenizers":[)" SPLIT     \
  R"(,{"type":"ByteLevel","add_prefix_space":false,)" \
  R"("trim_offsets":true,"use_regex":false}]})"

// Numbers in groups of up to three digits; every digit by itself.
constexpr std::string_view kLlama3 = SHOAL_SEQUENCE(SHOAL_SPLIT(R"(\\p{N}{1,3})"));
constexpr std::string_view kQwen2 = SHOAL_SEQUENCE(SHOAL_SPLIT(R"(\\p{N})"));

#undef SHOAL_SEQUENCE
#undef SHOAL_SPLIT

constexpr std::string_view kNfc = R"({"type":"NFC"})";

constexpr std::array kRules = {
    PreTokenizerRule{"smollm", "", kDigitsThenByteLevel, false, false},
    PreTokenizerRule{"gpt-2", "", kByteLevel, false, false},
    // Files from before the name was recorded say nothing or this: byte-level's own pattern is the
    // plain reading.
    PreTokenizerRule{"default", "", kByteLevel, false, false},
    PreTokenizerRule{"llama-bpe", "", kLlama3, true, true},
    PreTokenizerRule{"qwen2", kNfc, kQwen2, false, false},
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
