// JSON as the whole project uses it (nlohmann). Parsing text from outside never throws.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace shoal {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// kInvalidArgument with the byte at which the text stops being JSON. Nesting over 200 levels is
// refused.
Result<Json> parse_json(std::string_view text);
Result<OrderedJson> parse_ordered_json(std::string_view text);

// JSON text whatever bytes the strings hold: what is not UTF-8 becomes U+FFFD.
template <typename J>
std::string dump_json(const J& value, int indent = -1) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

// {"error": {"code": "not_found", "message": "..."}}: how errors travel between our own programs.
inline Json error_json(const Error& error) {
  return {{"error", {{"code", std::string(error_name(error.code))}, {"message", error.message}}}};
}
// The error inside such an object, if it is one.
std::optional<Error> error_from_json(const Json& json);

// A member of an object, checked: kInvalidArgument naming the field when it is missing or of
// another type.
template <typename T>
Result<T> json_field(const Json& object, const char* name) {
  if (!object.is_object() || !object.contains(name))
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is missing", name);
  const Json& value = object.at(name);
  if constexpr (std::is_same_v<T, bool>) {
    if (value.is_boolean()) return value.get<bool>();
  } else if constexpr (std::is_unsigned_v<T>) {
    if (value.is_number_unsigned() && value.get<uint64_t>() <= std::numeric_limits<T>::max())
      return value.get<T>();
  } else if constexpr (std::is_integral_v<T>) {
    if (value.is_number_integer() &&
        (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t{INT64_MAX})) {
      const auto number = value.get<int64_t>();
      if (number >= std::numeric_limits<T>::min() && number <= std::numeric_limits<T>::max())
        return static_cast<T>(number);
    }
  } else if constexpr (std::is_floating_point_v<T>) {
    if (value.is_number()) return value.get<T>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string()) return value.get<std::string>();
  } else {
    static_assert(std::is_same_v<T, Json>);
    return value;
  }
  return fail(ErrorCode::kInvalidArgument, "the field '{}' has the wrong type", name);
}

// The same with a default for a member that is absent or null.
template <typename T>
Result<T> json_field_or(const Json& object, const char* name, T otherwise) {
  if (object.is_object() && (!object.contains(name) || object.at(name).is_null())) return otherwise;
  return json_field<T>(object, name);
}

}  // namespace shoal
