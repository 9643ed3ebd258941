// How a family of byte-level vocabularies cuts text before merging, by the name that GGUF gives it.
// The file has the name only; the rules are those of the family's tokenizer.json. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace shoal {

struct PreTokenizerRule {
  std::string_view name;        // tokenizer.ggml.pre
  std::string_view normalizer;  // as in a tokenizer.json; empty for none
  std::string_view pre_tokenizer;
  bool ignore_merges;  // a piece that is a token as a whole is that token
  bool adds_bos;       // where the file does not say
};

const PreTokenizerRule* pre_tokenizer_rule(std::string_view name);  // nullptr when unknown
std::string known_pre_tokenizers();  // "command-r, dbrx, ...", for sentences

}  // namespace shoal
