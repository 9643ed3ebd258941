// Requests and answers between daemons: JSON both ways, errors as {"error": {"code", "message"}}.
// Loop thread.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "http/http.h"

namespace shoal::cluster {

http::Response json_response(const Json& body, int status = 200);
http::Response error_response(const Error& error);
// The body of an answer, or the error that it reports in the words of the peer.
Result<Json> parse_answer(const http::Response& response);

// POST with a JSON body. The client is kept until the answer is there.
http::asio::awaitable<Result<Json>> call(std::shared_ptr<http::Client> client, std::string path,
                                         Json body, Deadline deadline);

}  // namespace shoal::cluster
