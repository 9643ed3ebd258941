// Errors as OpenAI's clients expect them. Private to this module; pure.
#pragma once

#include <expected>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "http/http.h"

namespace shoal::api {

struct ApiError {
  int status = 400;
  std::string message;
  std::string param;  // the field at fault, if one is
  std::string code;   // for programs; empty: null
  std::string allow;  // of 405: the methods that there are
};

template <typename T>
using Outcome = std::expected<T, ApiError>;

// A field of the request that cannot be meant.
template <typename... Args>
std::unexpected<ApiError> bad_field(std::string param, fmt::format_string<Args...> format,
                                    Args&&... args) {
  return std::unexpected(
      ApiError{400, fmt::format(format, std::forward<Args>(args)...), std::move(param), "", ""});
}

ApiError api_error(const Error& error);
// The same for the start of a request: a model that is not there is told with what to do.
ApiError start_error(const Error& error, const std::string& model);

// {"error":{"message","type","param","code"}}
OrderedJson error_json(const ApiError& error);
http::Response error_response(const ApiError& error);
http::Response json_response(int status, const OrderedJson& body);

}  // namespace shoal::api
