// How the daemon answers the command line and other nodes. On the loop's thread.
#pragma once

#include "cluster/control_message.h"
#include "http/http.h"

namespace shoal::serve {

// Values first: a braced list inside a co_await expression is more than g++ 12 can take.
inline const http::Headers kJsonLines = {{"Content-Type", "application/x-ndjson"}};

using cluster::json_response;

inline boost::asio::awaitable<void> refuse(http::Exchange& exchange, Error error) {
  http::Response response = cluster::error_response(error);
  co_await exchange.respond(std::move(response));
}

}  // namespace shoal::serve
