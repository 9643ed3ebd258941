// The vocabulary that a GGUF describes, read and checked: texts, kinds, merges and special ids. A
// plain value; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tokenizer/pre_tokenizers.h"

namespace shoal {

enum class TokenType : uint8_t {  // as the format numbers them
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct TokenMerge {
  uint32_t left;
  uint32_t right;
};

struct Vocabulary {
  enum class Kind { kByteLevel, kSentencePiece };

  Kind kind;
  const PreTokenizerRule* rule = nullptr;  // of a byte-level vocabulary
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::unordered_map<std::string_view, int32_t>
      ids;                         // of equal texts the first; views into `texts`
  std::vector<TokenMerge> merges;  // best first
  std::optional<int32_t> bos, eos, unknown;
  std::vector<int32_t> end_tokens;
  bool adds_bos = false;
  bool adds_space_prefix = false;

  std::optional<int32_t> id_of(std::string_view text) const {
    const auto found = ids.find(text);
    if (found == ids.end()) return std::nullopt;
    return found->second;
  }
  bool is_special(int32_t token) const {
    const TokenType type = types[static_cast<size_t>(token)];
    return type == TokenType::kControl || type == TokenType::kUnknown;
  }
};

// kUnsupported and kCorrupt as Tokenizer::from_gguf says.
Result<Vocabulary> read_vocabulary(const gguf::File& file);

// The parts of read_vocabulary: merges as the file lists them, or as SentencePiece would make them
// of the scores.
Result<std::vector<TokenMerge>> read_merges(const gguf::File& file, const Vocabulary& vocabulary);
Result<std::vector<TokenMerge>> merges_from_scores(const gguf::File& file,
                                                   const Vocabulary& vocabulary);

// Metadata's and those whose text ends a turn in some family of models.
std::vector<int32_t> find_end_tokens(const Vocabulary& vocabulary,
                                     std::vector<int32_t> from_metadata);

}  // namespace shoal
