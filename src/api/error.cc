#include "api/error.h"

namespace shoal::api {
namespace {

const char* error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

OrderedJson text_or_null(const std::string& text) {
  return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
}

}  // namespace

ApiError api_error(const Error& error) {
  return {http_status(error.code), error.message, "", std::string(error_name(error.code)), ""};
}

ApiError start_error(const Error& error, const std::string& model) {
  ApiError result = api_error(error);
  if (error.code != ErrorCode::kNotFound) return result;
  result.param = "model";
  result.code = "model_not_found";
  if (result.message.find("`shoal ") == std::string::npos) {
    result.message += fmt::format("; run `shoal pull {}`", model);
  }
  return result;
}

OrderedJson error_json(const ApiError& error) {
  OrderedJson inner;
  inner["message"] = error.message;
  inner["type"] = error_type(error.status);
  inner["param"] = text_or_null(error.param);
  inner["code"] = text_or_null(error.code);
  OrderedJson outer;
  outer["error"] = std::move(inner);
  return outer;
}

http::Response json_response(int status, const OrderedJson& body) {
  http::Response response;
  response.status = status;
  response.headers["Content-Type"] = "application/json";
  response.body = dump_json(body);
  return response;
}

http::Response error_response(const ApiError& error) {
  http::Response response = json_response(error.status, error_json(error));
  if (!error.allow.empty()) response.headers.emplace("Allow", error.allow);
  if (error.status == 429) response.headers.emplace("Retry-After", "1");
  if (error.status == 401) response.headers.emplace("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace shoal::api
