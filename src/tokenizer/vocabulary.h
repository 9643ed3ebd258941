// The vocabulary that a GGUF describes, read and checked: texts, kinds, merges and special ids. A
// plain value; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tokenizer/pre_tokenizers.h"
#include "tokenizer/token_index.h"

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
  uint32_t whole;
};

// Where SentencePiece writes a space that the text does not have.
enum class SpacePrefix : uint8_t {
  kNone,
  kEach,   // before every text between special tokens
  kFirst,  // before the beginning, unless it begins with a space
};

// What a special token takes of the white space around it: a bit for each side.
constexpr uint8_t kStripsLeft = 1, kStripsRight = 2;

struct Vocabulary {
  enum class Kind { kByteLevel, kSentencePiece };

  Kind kind;
  const PreTokenizerRule* rule = nullptr;  // of a byte-level vocabulary
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<uint8_t> strips;     // by token
  TokenIndex ids;                  // of `texts`
  std::vector<TokenMerge> merges;  // best first
  std::optional<int32_t> bos, eos, unknown;
  std::vector<int32_t> end_tokens;
  bool adds_bos = false;
  SpacePrefix space_prefix = SpacePrefix::kNone;

  std::optional<int32_t> id_of(std::string_view text) const { return ids.find(text, texts); }
  // The token's id where it is a control token, one that no ordinary text is encoded to.
  std::optional<int32_t> control_id_of(std::string_view text) const {
    const auto id = id_of(text);
    if (!id || types[static_cast<size_t>(*id)] != TokenType::kControl) return std::nullopt;
    return id;
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

// "<0x0A>" -> 10; nullopt for any other text.
std::optional<char> byte_of_token(std::string_view text);

// What the file does not say of special tokens, and known families need: Vocabulary's `strips`.
std::vector<uint8_t> find_strips(const Vocabulary& vocabulary);

// Metadata's and those whose text ends a turn in some family of models.
std::vector<int32_t> find_end_tokens(const Vocabulary& vocabulary,
                                     std::vector<int32_t> from_metadata);

}  // namespace shoal
