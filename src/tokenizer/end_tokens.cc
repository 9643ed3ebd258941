#include <algorithm>
#include <array>
#include <string_view>

#include "tokenizer/vocabulary.h"

namespace shoal {
namespace {

struct EndText {
  std::string_view text;
  std::string_view unless = "";   // not where the vocabulary has this token too
  std::string_view only_if = "";  // only where it has this one
  bool may_be_text = true;        // counts where it is not a control token too
};

// Metadata often names one end only, while the model's template uses another.
constexpr std::array kEndTexts = {
    EndText{"<|im_end|>"},                      // ChatML: SmolLM, Qwen, Yi, Kimi
    EndText{"<|endoftext|>"},                   // GPT-2 and its heirs, Qwen, SmolLM
    EndText{"<|eot_id|>"},                      // Llama 3
    EndText{"<|eom_id|>"},                      // Llama 3.1, before a tool's answer
    EndText{"<|end_of_text|>"},                 // Llama 3, Granite
    EndText{"<|eot|>"},                         // Llama 4
    EndText{"<|eom|>"},                         // Llama 4, before a tool's answer
    EndText{"<|EOT|>"},                         // DeepSeek Coder
    EndText{"<end_of_turn>"},                   // Gemma
    EndText{"<turn|>"},                         // Gemma 4
    EndText{"<|tool_response>"},                // Gemma 4, before a tool's answer
    EndText{"<eos>"},                           // Gemma
    EndText{"</s>", "", "", false},             // Llama 1 and 2, Mistral; to Gemma it is HTML
    EndText{"<|end|>", "<|return|>"},           // Phi 3; in gpt-oss it ends a message only
    EndText{"<|return|>"},                      // gpt-oss
    EndText{"<|call|>"},                        // gpt-oss, a tool call
    EndText{"<|user|>", "", "[gMASK]"},         // GLM 4: the next turn
    EndText{"<|observation|>", "", "[gMASK]"},  // GLM 4: before a tool's answer
    EndText{"<|END_OF_TURN_TOKEN|>"},           // Command R
    EndText{"[EOT]", "", "", false},            // Kimi K2
    EndText{"[EOS]", "", "", false},            // Kimi K2
    EndText{"[e~["},                            // MiniMax M2
    EndText{"<seed:eos>"},                      // Seed
    EndText{"<|role_end|>"},                    // Ling
    EndText{"<\uFF5Cend\u2581of\u2581sentence\uFF5C>"},  // DeepSeek
};

bool is_there(const Vocabulary& vocabulary, std::string_view text) {
  return vocabulary.id_of(text).has_value();
}

}  // namespace

std::vector<int32_t> find_end_tokens(const Vocabulary& vocabulary,
                                     std::vector<int32_t> from_metadata) {
  std::vector<int32_t> ends = std::move(from_metadata);
  for (const EndText& end : kEndTexts) {
    const auto id = vocabulary.id_of(end.text);
    if (!id || (!end.unless.empty() && is_there(vocabulary, end.unless)) ||
        (!end.only_if.empty() && !is_there(vocabulary, end.only_if))) {
      continue;
    }
    // An ordinary token of that text is text that the model may write.
    const TokenType type = vocabulary.types[static_cast<size_t>(*id)];
    if (type == TokenType::kControl || (type == TokenType::kUserDefined && end.may_be_text)) {
      ends.push_back(*id);
    }
  }
  std::ranges::sort(ends);
  const auto repeated = std::ranges::unique(ends);
  ends.erase(repeated.begin(), repeated.end());
  return ends;
}

}  // namespace shoal
