// Chat templates from strangers' files: whatever the source, a prompt or a sentence, within the
// bounds that src/chat promises, and the same one every time.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "chat/chat_template.h"

namespace {

using shoal::ChatTemplate;
using shoal::OrderedJson;

void demand(bool holds) {
  if (!holds) std::abort();
}

constexpr int64_t kNowUnixSeconds = 1'700'000'000;
constexpr size_t kMostPromptBytes = 128 << 20;

const std::array<OrderedJson, 3> kConversations = {
    OrderedJson::parse(R"([{"role": "user", "content": "Hello"}])"),
    OrderedJson::parse(
        R"([{"role": "system", "content": "s\n"}, {"role": "user", "content": [{"type": "text", "text": "é"}]},
                           {"role": "assistant", "content": null, "tool_calls": [{"id": "call12345", "type": "function",
                             "function": {"name": "f", "arguments": {"items": [1, 2.5, true, null]}}}]},
                           {"role": "tool", "content": "{}"}])"),
    OrderedJson::array(),
};
const OrderedJson kTools = OrderedJson::parse(
    R"([{"type": "function", "function": {"name": "f", "description": "d", "parameters":
         {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "integer"}}},
          "required": []}}}])");
const OrderedJson kExtra = OrderedJson::parse(
    R"({"enable_thinking": false, "message": {"text": "hello world", "none": null}})");

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto chat = ChatTemplate::parse(source, "<s>", "</s>");
  if (!chat) {
    demand(!chat.error().message.empty());
    return 0;
  }
  const OrderedJson& messages = kConversations[size % kConversations.size()];
  const OrderedJson tools = size % 2 ? kTools : OrderedJson();
  const auto prompt = chat->render_at(kNowUnixSeconds, messages, tools, size % 4 < 2, kExtra);
  if (!prompt) {
    demand(!prompt.error().message.empty());
    demand(prompt.error().code != shoal::ErrorCode::kInternal);  // a library panicked
    return 0;
  }
  demand(prompt->size() <= kMostPromptBytes);
  const auto again = chat->render_at(kNowUnixSeconds, messages, tools, size % 4 < 2, kExtra);
  demand(again && *again == *prompt);
  return 0;
}
