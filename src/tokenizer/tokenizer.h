// Text to token ids and back, over Hugging Face's `tokenizers` (bridge/), built from a GGUF's own
// metadata. Immutable once made, so any thread may use it; a Detokenizer belongs to one sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"

namespace shoal {

class Tokenizer {
 public:
  // kUnsupported names an unknown tokenizer model or pre-tokenizer and lists those that are known;
  // kCorrupt metadata that contradicts itself (merges of unknown tokens, lengths that differ).
  static Result<Tokenizer> from_gguf(const gguf::File& file);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Special tokens inside the text are recognised when `parse_special`. No BOS is added.
  Result<std::vector<int32_t>> encode(std::string_view text, bool parse_special) const;
  // The bytes of one token as it contributes to a text; empty for special (control) tokens unless
  // `show_special`.
  std::string token_bytes(int32_t token, bool show_special = false) const;
  std::string decode(std::span<const int32_t> tokens,
                     bool show_special = false) const;  // invalid UTF-8 becomes U+FFFD

  // Encoding puts a space before a text (SentencePiece), which decoding a text takes away again.
  bool adds_space() const;

  int64_t vocabulary_size() const;
  // A text of more than `n` times as many bytes has more than `n` tokens, unless the vocabulary
  // cannot write it or normalizes it: what is far too long for a context can be refused before it
  // is encoded.
  int64_t longest_token_bytes() const;
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  bool adds_bos() const;  // the metadata asks for BOS before a prompt without template
  // Every token that ends a turn: metadata's and those known by text.
  const std::vector<int32_t>& end_tokens() const;
  std::optional<int32_t> token_named(std::string_view text) const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Streaming decode: never emits half a UTF-8 character.
class Detokenizer {
 public:
  // `begins_text`: the tokens are a text of their own, such as an answer in a chat, and not the
  // continuation of one; then a space that encoding such a text would add is taken away.
  explicit Detokenizer(const Tokenizer& tokenizer, bool begins_text = false)
      : tokenizer_(&tokenizer), begins_(begins_text) {}
  std::string add(int32_t token);  // what became complete
  std::string finish();            // the rest; an incomplete character as U+FFFD

 private:
  const Tokenizer* tokenizer_;
  bool begins_;
  std::string held_;
};

}  // namespace shoal
