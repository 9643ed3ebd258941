#include <array>
#include <string_view>

#include "tokenizer/vocabulary.h"

namespace shoal {
namespace {

// Phi 3 and 3.5: every special token but these takes the white space behind it, so that a
// template's
// "<|user|>\n" is one token.
constexpr std::array<std::string_view, 3> kPhi3Keeps = {"<unk>", "<s>", "<|endoftext|>"};

bool is_phi3(const Vocabulary& vocabulary) {
  return vocabulary.kind == Vocabulary::Kind::kSentencePiece && vocabulary.id_of("<|user|>") &&
         vocabulary.id_of("<|end|>") && vocabulary.id_of("<|placeholder1|>");
}

}  // namespace

std::vector<uint8_t> find_strips(const Vocabulary& vocabulary) {
  std::vector<uint8_t> strips(vocabulary.texts.size(), 0);
  if (!is_phi3(vocabulary)) return strips;
  for (size_t id = 0; id < strips.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    if (type == TokenType::kControl || type == TokenType::kUserDefined) strips[id] = kStripsRight;
  }
  for (const std::string_view text : kPhi3Keeps) {
    if (const auto id = vocabulary.id_of(text)) strips[static_cast<size_t>(*id)] = 0;
  }
  // Of ordinary type in some files.
  if (const auto id = vocabulary.id_of("</s>")) strips[static_cast<size_t>(*id)] = kStripsRight;
  return strips;
}

}  // namespace shoal
