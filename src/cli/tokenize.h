// `shoal tokenize MODEL [TEXT]`: a text's token ids as the model sees them. Special tokens in the
// text are recognised, no BOS is added. Needs the model's metadata only, so a GGUF that holds
// nothing but a vocabulary will do. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace shoal::cli {

struct Tokenized {
  std::vector<int32_t> ids;
  std::vector<std::string> pieces;  // the bytes of each token, special ones as their text
};

Result<Tokenized> tokenize(const std::string& model_path, std::string_view text);
Json to_json(const Tokenized& tokenized);  // {"ids": [...]}
// A line per token: its id and its bytes, quoted.
std::string to_text(const Tokenized& tokenized);

}  // namespace shoal::cli
