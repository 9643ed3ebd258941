// Writes the fuzzer's first inputs into a folder: a small vocabulary of every kind and for every
// pre-tokenizer, and some that contradict themselves.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "../unit/tokenizer/small_vocabulary.h"
#include "tokenizer/pre_tokenizers.h"

namespace {

using namespace shoal;

SmallVocabulary byte_level(const std::string& pre) {
  SmallVocabulary vocabulary;
  vocabulary.pre = pre;
  for (const char* text : {"a", "b", "c", "\u0120", "1", "ab", "\u0120ab"}) vocabulary.add(text);
  vocabulary.add("<s>", kControl);
  vocabulary.add("  ", kUserDefined);
  vocabulary.merges = {"a b", "\u0120 ab"};
  vocabulary.ids = {{"bos_token_id", 7}, {"eos_token_id", 7}};
  return vocabulary;
}

SmallVocabulary sentence_piece() {
  SmallVocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.pre = "";
  vocabulary.add("<unk>", kUnknown);
  vocabulary.add("<s>", kControl);
  vocabulary.add("</s>", kControl);
  for (const int byte : {0x0A, 0x41, 0xC3, 0xA9}) {
    vocabulary.add(fmt::format("<0x{:02X}>", byte), kByte);
  }
  for (const char* text : {"\u2581", "a", "b", "ab", "\u2581ab"}) {
    vocabulary.add(text, kNormal, -static_cast<float>(vocabulary.tokens.size()));
  }
  vocabulary.add("\n", kUserDefined);
  vocabulary.ids = {{"bos_token_id", 1}, {"eos_token_id", 2}, {"unknown_token_id", 0}};
  return vocabulary;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_seeds FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder(argv[1]);
  std::filesystem::create_directories(folder);
  const auto write = [&](const std::string& name, const SmallVocabulary& vocabulary) {
    std::ofstream(folder / name, std::ios::binary) << vocabulary.file();
  };
  std::string names = known_pre_tokenizers() + ", ";
  for (size_t at = 0, end; (end = names.find(", ", at)) != names.npos; at = end + 2) {
    write("pre_" + names.substr(at, end - at), byte_level(names.substr(at, end - at)));
  }
  write("pre_unknown", byte_level("unknown"));
  write("sentence_piece", sentence_piece());
  SmallVocabulary variant = sentence_piece();
  variant.flags = {{"add_space_prefix", false}};
  write("no_space", variant);
  variant = sentence_piece();
  variant.add("[INST]", kControl);
  write("mistral", variant);
  for (const char* text : {"<|user|>", "<|end|>", "<|placeholder1|>"}) variant.add(text, kControl);
  write("phi", variant);
  variant = sentence_piece();
  variant.model = "gemma4";
  variant.merges = {"a b", "\u2581 ab"};
  variant.add("</a>");
  write("merges", variant);
  variant.merges.push_back("a z");
  write("unknown_merge", variant);
  variant = sentence_piece();
  variant.scores.pop_back();
  write("short_scores", variant);
  return 0;
}
