#include "api/api.h"

#include <cstring>

#include "api/answering.h"
#include "api/error.h"
#include "api/gate.h"
#include "base/bytes.h"

namespace shoal::api {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";

uint64_t random_seed() {
  const Bytes bytes = random_bytes(sizeof(uint64_t));
  uint64_t seed = 0;
  std::memcpy(&seed, bytes.data(), sizeof(seed));
  return seed;
}

enum class Route { kNone, kRoot, kHealth, kModels, kModel, kChat, kCompletions };

Route route_of(const std::string& path) {
  if (path == "/") return Route::kRoot;
  if (path == "/health") return Route::kHealth;
  if (path == "/v1/models") return Route::kModels;
  if (path == "/v1/chat/completions") return Route::kChat;
  if (path == "/v1/completions") return Route::kCompletions;
  if (path.starts_with(kModelPrefix) && path.size() > kModelPrefix.size()) return Route::kModel;
  return Route::kNone;
}

bool asks(Route route) {
  return route == Route::kChat || route == Route::kCompletions;
}

Outcome<void> check_method(Route route, const http::Request& request) {
  const char* allow = asks(route) ? "POST" : "GET, HEAD";
  const bool fits =
      asks(route) ? request.method == "POST" : request.method == "GET" || request.method == "HEAD";
  if (fits) return {};
  return std::unexpected(
      ApiError{405, fmt::format("{} does not take {}; use {}", request.path, request.method, allow),
               "", "method_not_allowed", allow});
}

// Everything that can be said before the body is looked at.
Outcome<Route> admit(const http::Request& request, const ApiOptions& options) {
  SHOAL_TRY(check_origin(request, options));
  const Route route = route_of(request.path);
  const bool open = route == Route::kRoot || route == Route::kHealth;
  if (!open) SHOAL_TRY(check_key(request, options));
  if (route == Route::kNone) {
    return std::unexpected(
        ApiError{404,
                 fmt::format("there is no {}; this server has /v1/chat/completions, "
                             "/v1/completions, /v1/models and /health",
                             request.path),
                 "", "not_found", ""});
  }
  SHOAL_TRY(check_method(route, request));
  if (asks(route)) SHOAL_TRY(check_content_type(request));
  return route;
}

bool is_path(const std::string& model) {
  return model.starts_with('/') || model.starts_with('.') || model.starts_with('~') ||
         model.ends_with(".gguf");
}

Outcome<Question> understand(Route route, const http::Request& request) {
  SHOAL_ASSIGN(Question question, route == Route::kChat
                                      ? parse_chat(request.body, random_seed())
                                      : parse_completion(request.body, random_seed()));
  if (is_path(question.model) && !is_local(request)) {
    return std::unexpected(
        ApiError{403, "a model is named by a path only on the machine itself; use its name",
                 "model", "permission_denied", ""});
  }
  return question;
}

OrderedJson model_json(const ModelEntry& model) {
  OrderedJson json;
  json["id"] = model.id;
  json["object"] = "model";
  json["created"] = model.created_s;
  json["owned_by"] = model.owned_by;
  if (!model.state.empty()) json["state"] = model.state;
  return json;
}

http::Response list_models(const std::vector<ModelEntry>& models) {
  OrderedJson list;
  list["object"] = "list";
  list["data"] = OrderedJson::array();
  for (const ModelEntry& model : models) list["data"].push_back(model_json(model));
  return json_response(200, list);
}

http::Response show_model(const std::vector<ModelEntry>& models, const std::string& id) {
  for (const ModelEntry& model : models) {
    if (model.id == id) return json_response(200, model_json(model));
  }
  const Error missing{ErrorCode::kNotFound, fmt::format("the model '{}' is not here", id)};
  return error_response(start_error(missing, id));
}

http::Response greet() {
  http::Response response;
  response.headers["Content-Type"] = "text/plain; charset=utf-8";
  response.body =
      "Shoal is running. It speaks OpenAI's API: POST /v1/chat/completions, POST /v1/completions, "
      "GET /v1/models; GET /health says how it is.\n";
  return response;
}

http::Response show_health(ApiBackend& backend, bool trusted) {
  Json health = backend.health();
  if (!trusted) health = Json{{"status", health.value("status", "ok")}};
  http::Response response;
  response.headers["Content-Type"] = "application/json";
  response.body = dump_json(health);
  return response;
}

http::Response look_up(Route route, ApiBackend& backend, const http::Request& request,
                       const ApiOptions& options) {
  if (route == Route::kHealth) return show_health(backend, has_key(request, options));
  if (route == Route::kModels) return list_models(backend.models());
  if (route == Route::kModel) {
    return show_model(backend.models(), request.path.substr(kModelPrefix.size()));
  }
  return greet();
}

}  // namespace

Api::Api(ApiBackend& backend, ApiOptions options)
    : backend_(backend), options_(std::move(options)) {}

asio::awaitable<void> Api::handle(http::Exchange& exchange) {
  const http::Request& request = exchange.request();
  const auto route = admit(request, options_);
  if (!route) {
    http::Response response = error_response(route.error());
    co_await exchange.respond(std::move(response));
    co_return;
  }
  if (!asks(*route)) {
    http::Response response = look_up(*route, backend_, request, options_);
    co_await exchange.respond(std::move(response));
    co_return;
  }
  auto question = understand(*route, request);
  if (!question) {
    http::Response response = error_response(question.error());
    co_await exchange.respond(std::move(response));
    co_return;
  }
  co_await answer_question(backend_, exchange, std::move(*question));
}

}  // namespace shoal::api
