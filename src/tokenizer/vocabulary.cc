#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <charconv>

#include "tokenizer/utf8.h"

namespace shoal {
namespace {

// The value, or `otherwise` when the field is absent; another type stays an error.
template <typename T>
Result<T> field_or(Result<T> found, T otherwise) {
  if (!found && found.error().code == ErrorCode::kNotFound) return otherwise;
  return found;
}

// An absent field as the code that its absence deserves here.
template <typename T>
Result<T> required(Result<T> found, ErrorCode code) {
  if (!found && found.error().code == ErrorCode::kNotFound) found.error().code = code;
  return found;
}

Status read_texts(const gguf::File& file, Vocabulary& vocabulary) {
  SHOAL_ASSIGN(const auto texts,
               required(file.strings("tokenizer.ggml.tokens"), ErrorCode::kCorrupt));
  if (texts.empty())
    return fail(ErrorCode::kCorrupt, "{}: the vocabulary has no tokens", file.path());
  vocabulary.texts.assign(texts.begin(), texts.end());
  vocabulary.ids = TokenIndex(texts.size());
  for (size_t id = 0; id < texts.size(); ++id) {
    if (!is_utf8(texts[id])) {
      return fail(ErrorCode::kCorrupt, "{}: token {} is not UTF-8 text", file.path(), id);
    }
    // Empty texts are padding, of which there may be many.
    const auto same = vocabulary.ids.add(static_cast<int32_t>(id), vocabulary.texts);
    if (same && !texts[id].empty()) {
      return fail(ErrorCode::kCorrupt, "{}: tokens {} and {} have the same text {}", file.path(),
                  *same, id, gguf::printable(texts[id]));
    }
  }
  return {};
}

Status read_types(const gguf::File& file, Vocabulary& vocabulary) {
  const size_t count = vocabulary.texts.size();
  if (!file.find("tokenizer.ggml.token_type")) {
    vocabulary.types.assign(count, TokenType::kNormal);
    return {};
  }
  SHOAL_ASSIGN(const auto types, file.integers("tokenizer.ggml.token_type"));
  if (types.size() != count) {
    return fail(ErrorCode::kCorrupt, "{}: tokenizer.ggml.token_type has {} entries for {} tokens",
                file.path(), types.size(), count);
  }
  vocabulary.types.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    if (types[id] < 0 || types[id] > static_cast<int64_t>(TokenType::kByte)) {
      return fail(ErrorCode::kCorrupt, "{}: token {} has type {}, and types end at {}", file.path(),
                  id, types[id], static_cast<int>(TokenType::kByte));
    }
    vocabulary.types.push_back(static_cast<TokenType>(types[id]));
  }
  return {};
}

Result<std::optional<int32_t>> read_id(const gguf::File& file, const Vocabulary& vocabulary,
                                       std::string_view key) {
  if (!file.find(key)) return std::nullopt;
  SHOAL_ASSIGN(const int64_t id, file.integer(key));
  if (id < 0 || id >= static_cast<int64_t>(vocabulary.texts.size())) {
    return fail(ErrorCode::kCorrupt, "{}: {} is {}, and the vocabulary has {} tokens", file.path(),
                key, id, vocabulary.texts.size());
  }
  return static_cast<int32_t>(id);
}

Status read_special_ids(const gguf::File& file, Vocabulary& vocabulary) {
  SHOAL_ASSIGN(vocabulary.bos, read_id(file, vocabulary, "tokenizer.ggml.bos_token_id"));
  SHOAL_ASSIGN(vocabulary.eos, read_id(file, vocabulary, "tokenizer.ggml.eos_token_id"));
  SHOAL_ASSIGN(vocabulary.unknown, read_id(file, vocabulary, "tokenizer.ggml.unknown_token_id"));
  std::vector<int32_t> ends;
  if (vocabulary.eos) ends.push_back(*vocabulary.eos);
  for (const std::string_view key :
       {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    SHOAL_ASSIGN(const std::optional<int32_t> id, read_id(file, vocabulary, key));
    if (id) ends.push_back(*id);
  }
  vocabulary.end_tokens = find_end_tokens(vocabulary, std::move(ends));
  return {};
}

Status read_byte_level(const gguf::File& file, Vocabulary& vocabulary) {
  SHOAL_ASSIGN(const std::string_view name,
               field_or(file.string("tokenizer.ggml.pre"), std::string_view("default")));
  vocabulary.rule = pre_tokenizer_rule(name);
  if (!vocabulary.rule) {
    return fail(ErrorCode::kUnsupported,
                "{}: the pre-tokenizer '{}' is not supported; those that are: {}", file.path(),
                name, known_pre_tokenizers());
  }
  SHOAL_ASSIGN(vocabulary.merges, required(read_merges(file, vocabulary), ErrorCode::kCorrupt));
  SHOAL_ASSIGN(vocabulary.adds_bos,
               field_or(file.boolean("tokenizer.ggml.add_bos_token"), vocabulary.rule->adds_bos));
  return {};
}

Status check_byte_tokens(const gguf::File& file, const Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.texts.size(); ++id) {
    if (vocabulary.types[id] == TokenType::kByte && !byte_of_token(vocabulary.texts[id])) {
      return fail(ErrorCode::kCorrupt,
                  "{}: token {} is a byte, but its text is {}, not <0x00> to "
                  "<0xFF>",
                  file.path(), id, gguf::printable(vocabulary.texts[id]));
    }
  }
  return {};
}

// Such a file does not tell which tokens are found as text before merging (HTML tags, say): those
// of several characters that no merge makes.
void find_added_tokens(Vocabulary& vocabulary) {
  std::vector<bool> is_merged(vocabulary.texts.size(), false);
  for (const TokenMerge& merge : vocabulary.merges) is_merged[merge.whole] = true;
  const auto begins_character = [](char byte) { return (byte & 0xC0) != 0x80; };
  for (size_t id = 0; id < vocabulary.texts.size(); ++id) {
    if (vocabulary.types[id] == TokenType::kNormal && !is_merged[id] &&
        std::ranges::count_if(vocabulary.texts[id], begins_character) > 1) {
      vocabulary.types[id] = TokenType::kUserDefined;
    }
  }
}

Status read_sentence_piece(const gguf::File& file, Vocabulary& vocabulary, bool has_merges) {
  SHOAL_TRY(check_byte_tokens(file, vocabulary));
  SHOAL_ASSIGN(vocabulary.merges, required(has_merges ? read_merges(file, vocabulary)
                                                      : merges_from_scores(file, vocabulary),
                                           ErrorCode::kCorrupt));
  if (has_merges) find_added_tokens(vocabulary);
  SHOAL_ASSIGN(vocabulary.adds_bos, field_or(file.boolean("tokenizer.ggml.add_bos_token"), true));
  SHOAL_ASSIGN(const bool adds_space,
               field_or(file.boolean("tokenizer.ggml.add_space_prefix"), !has_merges));
  if (adds_space) {
    // Mistral's later vocabularies, which have tokens for their turns, write the space once.
    vocabulary.space_prefix =
        vocabulary.control_id_of("[INST]") ? SpacePrefix::kFirst : SpacePrefix::kEach;
  }
  if (!vocabulary.unknown) {
    const auto found = std::ranges::find(vocabulary.types, TokenType::kUnknown);
    if (found != vocabulary.types.end()) {
      vocabulary.unknown = static_cast<int32_t>(found - vocabulary.types.begin());
    }
  }
  return {};
}

}  // namespace

std::optional<char> byte_of_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  if (error != std::errc() || end != text.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

Result<Vocabulary> read_vocabulary(const gguf::File& file) {
  Vocabulary vocabulary;
  SHOAL_ASSIGN(const std::string_view model,
               required(file.string("tokenizer.ggml.model"), ErrorCode::kUnsupported));
  if (model == "gpt2") {
    vocabulary.kind = Vocabulary::Kind::kByteLevel;
  } else if (model == "llama" || model == "gemma4") {
    vocabulary.kind = Vocabulary::Kind::kSentencePiece;
  } else {
    return fail(ErrorCode::kUnsupported,
                "{}: the tokenizer '{}' is not supported; those that are: gpt2 (byte-level), llama "
                "(SentencePiece), gemma4 (SentencePiece with merges)",
                file.path(), model);
  }
  SHOAL_TRY(read_texts(file, vocabulary));
  SHOAL_TRY(read_types(file, vocabulary));
  SHOAL_TRY(read_special_ids(file, vocabulary));
  if (vocabulary.kind == Vocabulary::Kind::kByteLevel) {
    SHOAL_TRY(read_byte_level(file, vocabulary));
  } else {
    SHOAL_TRY(read_sentence_piece(file, vocabulary, model == "gemma4"));
  }
  vocabulary.strips = find_strips(vocabulary);
  return vocabulary;
}

}  // namespace shoal
