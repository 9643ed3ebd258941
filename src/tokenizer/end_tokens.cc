#include <algorithm>
#include <array>
#include <string_view>

#include "tokenizer/vocabulary.h"

namespace shoal {
namespace {

struct EndText {
  std::string_view text;
  std::string_view unless;  // not where the vocabulary has this token too
};

// Metadata often names one end only, while the model's template uses another.
constexpr std::array kEndTexts = {
    EndText{"<|im_end|>", ""},             // ChatML: SmolLM, Qwen, Yi
    EndText{"<|endoftext|>", ""},          // GPT-2 and its heirs, Qwen, SmolLM
    EndText{"<|eot_id|>", ""},             // Llama 3
    EndText{"<|eom_id|>", ""},             // Llama 3.1, before a tool's answer
    EndText{"<|end_of_text|>", ""},        // Llama 3, Granite
    EndText{"<|eot|>", ""},                // Llama 4
    EndText{"<|EOT|>", ""},                // DeepSeek Coder
    EndText{"<end_of_turn>", ""},          // Gemma
    EndText{"<eos>", ""},                  // Gemma
    EndText{"</s>", ""},                   // Llama 1 and 2, Mistral
    EndText{"<|end|>", "<|return|>"},      // Phi 3; in gpt-oss it ends a message, not the turn
    EndText{"<|return|>", ""},             // gpt-oss
    EndText{"<|call|>", ""},               // gpt-oss, a tool call
    EndText{"<|END_OF_TURN_TOKEN|>", ""},  // Command R
    EndText{"<\uFF5Cend\u2581of\u2581sentence\uFF5C>", ""},  // DeepSeek
};

}  // namespace

std::vector<int32_t> find_end_tokens(const Vocabulary& vocabulary,
                                     std::vector<int32_t> from_metadata) {
  std::vector<int32_t> ends = std::move(from_metadata);
  for (const EndText& end : kEndTexts) {
    const auto id = vocabulary.id_of(end.text);
    if (!id || (!end.unless.empty() && vocabulary.id_of(end.unless))) continue;
    // An ordinary token of that text is text that the model may write.
    const TokenType type = vocabulary.types[static_cast<size_t>(*id)];
    if (type == TokenType::kControl || type == TokenType::kUserDefined) ends.push_back(*id);
  }
  std::ranges::sort(ends);
  const auto repeated = std::ranges::unique(ends);
  ends.erase(repeated.begin(), repeated.end());
  return ends;
}

}  // namespace shoal
