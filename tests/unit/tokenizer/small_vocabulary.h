// Vocabularies of a few tokens, as GGUF files in memory.
#pragma once

#include <string>
#include <vector>

#include "../gguf/gguf_writer.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace shoal {

constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;

struct SmallVocabulary {
  std::string model = "gpt2";
  std::string pre = "smollm";
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges;
  std::vector<float> scores;
  std::vector<std::pair<std::string, uint32_t>> ids;
  std::vector<std::pair<std::string, bool>> flags;

  void add(std::string text, int32_t type = kNormal, float score = 0) {
    tokens.push_back(std::move(text));
    types.push_back(type);
    scores.push_back(score);
  }

  std::string file() const {
    gguf::GgufWriter writer;
    writer.add("tokenizer.ggml.model", model);
    if (!pre.empty()) writer.add("tokenizer.ggml.pre", pre);
    writer.add_strings("tokenizer.ggml.tokens", tokens);
    writer.add_array<int32_t>("tokenizer.ggml.token_type", types);
    if (!merges.empty()) writer.add_strings("tokenizer.ggml.merges", merges);
    writer.add_array<float>("tokenizer.ggml.scores", scores);
    for (const auto& [name, id] : ids) writer.add("tokenizer.ggml." + name, id);
    for (const auto& [name, flag] : flags) writer.add("tokenizer.ggml." + name, flag);
    return writer.finish();
  }
};

inline Result<Tokenizer> tokenizer_of(const std::string& bytes) {
  SHOAL_ASSIGN(const gguf::File file, gguf::File::parse(as_bytes(bytes), "small.gguf"));
  return Tokenizer::from_gguf(file);
}

}  // namespace shoal
