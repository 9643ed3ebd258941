#include "api/messages.h"

#include <algorithm>
#include <array>

namespace shoal::api {
namespace {

constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

Outcome<std::string> text_of_part(const OrderedJson& part, const std::string& where) {
  if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) {
    return bad_field(where, "{} must be an object with a 'type'", where);
  }
  const std::string type = part["type"];
  if (type != "text") {
    return bad_field(where + ".type",
                     "{}: parts of type '{}' are not supported; this server reads text only", where,
                     type);
  }
  if (!part.contains("text") || !part["text"].is_string()) {
    return bad_field(where + ".text", "{}.text must be a string", where);
  }
  return part["text"].get<std::string>();
}

Outcome<OrderedJson> normal_content(const OrderedJson& message, const std::string& where) {
  const bool absent = !message.contains("content") || message["content"].is_null();
  if (absent) {
    // An assistant's turn may consist of tool calls alone.
    if (message["role"] == "assistant" && message.contains("tool_calls")) return OrderedJson("");
    return bad_field(where + ".content", "{}.content is missing", where);
  }
  const OrderedJson& content = message["content"];
  if (content.is_string()) return content;
  if (!content.is_array()) {
    return bad_field(where + ".content", "{}.content must be a string or a list of text parts",
                     where);
  }
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    SHOAL_ASSIGN(const std::string part,
                 text_of_part(content[i], fmt::format("{}.content[{}]", where, i)));
    if (i > 0) text += "\n";
    text += part;
  }
  return OrderedJson(text);
}

Outcome<OrderedJson> normal_message(const OrderedJson& message, const std::string& where) {
  if (!message.is_object()) return bad_field(where, "{} must be an object", where);
  if (!message.contains("role") || !message["role"].is_string()) {
    return bad_field(where + ".role", "{}.role must be a string", where);
  }
  const std::string role = message["role"];
  if (std::ranges::find(kRoles, role) == kRoles.end()) {
    return bad_field(where + ".role",
                     "{}.role is '{}'; it must be system, developer, user, assistant or tool",
                     where, role);
  }
  OrderedJson normal;
  normal["role"] = role == "developer" ? "system" : role;
  SHOAL_ASSIGN(normal["content"], normal_content(message, where));
  for (const char* text : {"name", "tool_call_id", "reasoning_content"}) {
    if (!message.contains(text) || message[text].is_null()) continue;
    if (!message[text].is_string()) {
      return bad_field(fmt::format("{}.{}", where, text), "{}.{} must be a string", where, text);
    }
    normal[text] = message[text];
  }
  if (message.contains("tool_calls") && !message["tool_calls"].is_null()) {
    if (!message["tool_calls"].is_array()) {
      return bad_field(where + ".tool_calls", "{}.tool_calls must be a list", where);
    }
    normal["tool_calls"] = message["tool_calls"];
  }
  return normal;
}

}  // namespace

Outcome<OrderedJson> normal_messages(const OrderedJson& messages) {
  if (!messages.is_array()) return bad_field("messages", "'messages' must be a list");
  if (messages.empty()) return bad_field("messages", "'messages' must hold at least one message");
  OrderedJson normal = OrderedJson::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    SHOAL_ASSIGN(OrderedJson message, normal_message(messages[i], fmt::format("messages[{}]", i)));
    normal.push_back(std::move(message));
  }
  return normal;
}

}  // namespace shoal::api
