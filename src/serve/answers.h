// JSON answers to other nodes and to the command line; errors as error_json() with the status of
// their code.
#pragma once

#include "base/json.h"
#include "http/http.h"

namespace shoal::serve {

// Values first: a braced list inside a co_await expression is more than g++ 12 can take.
inline const http::Headers kJsonLines = {{"Content-Type", "application/x-ndjson"}};
http::Response json_response(const Json& body, int status = 200);
boost::asio::awaitable<void> refuse(http::Exchange& exchange, Error error);
Error error_of(const http::Response& response);

}  // namespace shoal::serve
