#include "chat/default_template.h"

#include <algorithm>
#include <array>
#include <unordered_set>

namespace shoal {
namespace {

// Contents are a text or a list of parts, of which the texts count. What these formats have no
// place for is refused, not dropped.
constexpr std::string_view kCommon = R"({%- if tools -%}
  {{ raise_exception("the model brings no chat template, and its family's default has no place for tools") }}
{%- endif -%}
{%- macro text_of(message) -%}
  {%- if message.content is string -%}{{ message.content }}
  {%- elif message.content -%}
    {%- for part in message.content if part.type == "text" -%}{{ part.text }}{%- endfor -%}
  {%- endif -%}
{%- endmacro -%})";

// For families without a place for a system message: it stands before the first question.
constexpr std::string_view kSystemBeforeQuestion = R"({%- set held = namespace(system="") -%}
{%- if messages and messages[0].role == "system" -%}
  {%- set held.system = text_of(messages[0]) + "\n\n" -%}
  {%- set messages = messages[1:] -%}
{%- endif -%})";

constexpr std::string_view kChatMl = R"(
{%- for message in messages -%}
  {{ "<|im_start|>" + message.role + "\n" + text_of(message) + "<|im_end|>\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|im_start|>assistant\n" }}{%- endif -%})";

constexpr std::string_view kLlama3 = R"(
{{- bos_token -}}
{%- for message in messages -%}
  {{ "<|start_header_id|>" + message.role + "<|end_header_id|>\n\n" + text_of(message) | trim +
     "<|eot_id|>" }}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}
{%- endif -%})";

constexpr std::string_view kLlama4 = R"(
{{- bos_token -}}
{%- for message in messages -%}
  {{ "<|header_start|>" + message.role + "<|header_end|>\n\n" + text_of(message) | trim +
     "<|eot|>" }}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ "<|header_start|>assistant<|header_end|>\n\n" }}
{%- endif -%})";

constexpr std::string_view kGemma = R"(
{{- bos_token -}}
{%- for message in messages -%}
  {%- set role = "model" if message.role == "assistant" else message.role -%}
  {{ "<start_of_turn>" + role + "\n" + held.system + text_of(message) | trim +
     "<end_of_turn>\n" }}
  {%- set held.system = "" -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<start_of_turn>model\n" }}{%- endif -%})";

constexpr std::string_view kGemma4 = R"(
{{- bos_token -}}
{%- for message in messages -%}
  {%- set role = "model" if message.role == "assistant" else message.role -%}
  {{ "<|turn>" + role + "\n" + text_of(message) | trim + "<turn|>\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|turn>model\n" }}{%- endif -%})";

constexpr std::string_view kMistral = R"(
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role == "assistant" -%}
    {{ " " + text_of(message) | trim + eos_token }}
  {%- else -%}
    {{ "[INST] " + held.system + text_of(message) + "[/INST]" }}
    {%- set held.system = "" -%}
  {%- endif -%}
{%- endfor -%})";

constexpr std::string_view kPhi3 = R"(
{%- for message in messages -%}
  {{ "<|" + message.role + "|>\n" + text_of(message) + "<|end|>\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|assistant|>\n" }}{%- endif -%})";

constexpr std::string_view kDeepSeek = R"(
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role == "system" -%}{{ text_of(message) }}
  {%- elif message.role == "assistant" -%}
    {{ "<｜Assistant｜>" + text_of(message) + eos_token }}
  {%- else -%}
    {{ "<｜User｜>" + text_of(message) }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<｜Assistant｜>" }}{%- endif -%})";

struct Family {
  std::array<std::string_view, 3> tokens;  // all of them; an empty one asks for nothing
  std::string_view name;
  bool system_before_question;
  std::string_view turns;
};

constexpr std::array kFamilies = {
    Family{{"<|im_start|>", "<|im_end|>"}, "ChatML", false, kChatMl},
    Family{{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, "Llama 3", false, kLlama3},
    Family{{"<|header_start|>", "<|header_end|>", "<|eot|>"}, "Llama 4", false, kLlama4},
    Family{{"<|turn>", "<turn|>"}, "Gemma 4", false, kGemma4},
    Family{{"<start_of_turn>", "<end_of_turn>"}, "Gemma", true, kGemma},
    Family{{"[INST]", "[/INST]"}, "Mistral", true, kMistral},
    Family{{"<|user|>", "<|assistant|>", "<|end|>"}, "Phi 3", false, kPhi3},
    Family{{"<\uFF5CUser\uFF5C>", "<\uFF5CAssistant\uFF5C>"}, "DeepSeek", false, kDeepSeek},
};

}  // namespace

std::optional<DefaultTemplate> find_default_template(std::span<const std::string_view> tokens) {
  const std::unordered_set<std::string_view> known(tokens.begin(), tokens.end());
  const auto has = [&](std::string_view token) { return token.empty() || known.contains(token); };
  for (const Family& family : kFamilies) {
    if (!std::ranges::all_of(family.tokens, has)) continue;
    std::string source(kCommon);
    if (family.system_before_question) source += kSystemBeforeQuestion;
    return DefaultTemplate{family.name, source.append(family.turns)};
  }
  return std::nullopt;
}

}  // namespace shoal
