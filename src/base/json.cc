#include "base/json.h"

namespace shoal {
namespace {

constexpr int kDeepest = 200;

// Depth is checked on the text first: the parser keeps no limit of its own.
Status check_depth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest)
        return fail(ErrorCode::kInvalidArgument, "JSON nested more than {} levels deep", kDeepest);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return {};
}

template <typename J>
Result<J> parse(std::string_view text) {
  SHOAL_TRY(check_depth(text));
  try {
    return J::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return fail(ErrorCode::kInvalidArgument, "not valid JSON at byte {}", error.byte);
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kInvalidArgument, "not valid JSON: {}", error.what());
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
  return parse<Json>(text);
}
Result<OrderedJson> parse_ordered_json(std::string_view text) {
  return parse<OrderedJson>(text);
}

std::optional<Error> error_from_json(const Json& json) {
  if (!json.is_object() || !json.contains("error") || !json["error"].is_object())
    return std::nullopt;
  const Json& error = json["error"];
  const auto text = [&](const char* name) {
    return error.contains(name) && error[name].is_string() ? error[name].get<std::string>()
                                                           : std::string();
  };
  const std::string message = text("message");
  return Error{error_code_named(text("code")),
               message.empty() ? "it failed without saying why" : message};
}

}  // namespace shoal
