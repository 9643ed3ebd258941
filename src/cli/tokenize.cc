#include "cli/tokenize.h"

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace shoal::cli {

Result<Tokenized> tokenize(const std::string& model_path, std::string_view text) {
  SHOAL_ASSIGN(const gguf::File file, gguf::File::open(model_path));
  SHOAL_ASSIGN(const Tokenizer tokenizer, Tokenizer::from_gguf(file));
  Tokenized tokenized;
  SHOAL_ASSIGN(tokenized.ids, tokenizer.encode(text, /*parse_special=*/true));
  tokenized.pieces.reserve(tokenized.ids.size());
  for (const int32_t id : tokenized.ids) {
    tokenized.pieces.push_back(tokenizer.token_bytes(id, /*show_special=*/true));
  }
  return tokenized;
}

Json to_json(const Tokenized& tokenized) {
  return {{"ids", tokenized.ids}};
}

std::string to_text(const Tokenized& tokenized) {
  std::string text;
  for (size_t i = 0; i < tokenized.ids.size(); ++i) {
    text += fmt::format("{:>7}  {}\n", tokenized.ids[i], gguf::printable(tokenized.pieces[i]));
  }
  return text;
}

}  // namespace shoal::cli
