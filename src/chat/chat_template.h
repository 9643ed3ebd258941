// A model's own chat template, rendered by `minijinja` (bridge/) in Hugging Face's environment
// (trim_blocks, lstrip_blocks, raise_exception, strftime_now, tojson). Templates are untrusted:
// fuel and output are limited. Immutable; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "gguf/gguf.h"

namespace shoal {

class ChatTemplate {
 public:
  // kCorrupt for a template that does not parse (line and reason).
  static Result<ChatTemplate> parse(std::string_view source, std::string bos_text,
                                    std::string eos_text);
  // The file's tokenizer.chat_template. Where it has none, the default of the family whose special
  // tokens its vocabulary has (chat/default_template.h); nullopt when that is none either.
  static Result<std::optional<ChatTemplate>> from_gguf(const gguf::File& file);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // "ChatML": which default stands in for the template that the file lacks; empty for its own.
  const std::string& default_name() const;

  // `messages` and `tools` as in OpenAI's requests; `extra` holds further variables
  // (enable_thinking, ...). kInvalidArgument with the template's own words when it raises;
  // kUnsupported when it runs too long or writes too much. strftime_now tells this machine's time.
  Result<std::string> render(const OrderedJson& messages, const OrderedJson& tools,
                             bool add_generation_prompt, const OrderedJson& extra) const;
  // The same at a given time.
  Result<std::string> render_at(int64_t now_unix_s, const OrderedJson& messages,
                                const OrderedJson& tools, bool add_generation_prompt,
                                const OrderedJson& extra) const;

 private:
  struct State;
  explicit ChatTemplate(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace shoal
