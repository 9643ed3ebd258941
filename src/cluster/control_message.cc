#include "cluster/control_message.h"

namespace shoal::cluster {

http::Response json_response(const Json& body, int status) {
  http::Response response;
  response.status = status;
  response.headers["Content-Type"] = "application/json";
  response.body = dump_json(body);
  return response;
}

http::Response error_response(const Error& error) {
  return json_response(error_json(error), http_status(error.code));
}

Result<Json> parse_answer(const http::Response& response) {
  auto json = parse_json(response.body);
  if (response.status < 300) {
    if (!json) {
      return fail(ErrorCode::kCorrupt, "the peer answered something that is {}",
                  json.error().message);
    }
    return json;
  }
  if (const auto error = json ? error_from_json(*json) : std::nullopt)
    return std::unexpected(*error);
  return fail(ErrorCode::kUnreachable, "the peer answered with HTTP status {}", response.status);
}

http::asio::awaitable<Result<Json>> call(std::shared_ptr<http::Client> client, std::string path,
                                         Json body, Deadline deadline) {
  http::Request request;
  request.method = "POST";
  request.path = std::move(path);
  request.headers["Content-Type"] = "application/json";
  request.body = dump_json(body);
  const auto response = co_await client->request(std::move(request), deadline);
  if (!response) co_return std::unexpected(response.error());
  co_return parse_answer(*response);
}

}  // namespace shoal::cluster
