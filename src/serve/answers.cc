#include "serve/answers.h"

namespace shoal::serve {

http::Response json_response(const Json& body, int status) {
  http::Response response;
  response.status = status;
  response.headers["Content-Type"] = "application/json";
  response.body = dump_json(body);
  return response;
}

boost::asio::awaitable<void> refuse(http::Exchange& exchange, Error error) {
  co_await exchange.respond(json_response(error_json(error), http_status(error.code)));
}

Error error_of(const http::Response& response) {
  const Result<Json> said = parse_json(response.body);
  const std::optional<Error> error = said ? error_from_json(*said) : std::nullopt;
  return error.value_or(
      Error{ErrorCode::kInternal,
            fmt::format("the other node answered with status {}", response.status)});
}

}  // namespace shoal::serve
