// One connection of a server: requests read one after another, each given to the handler. Private
// to this module.
#pragma once

#include <memory>
#include <string>

#include "http/http.h"
#include "http/wire.h"

namespace shoal::http {

struct Connection {
  std::shared_ptr<Wire> wire;
  std::string peer_address;
  std::string peer_fingerprint;
  // Asked before every request: a peer may have been removed since its handshake.
  std::function<bool()> still_welcome;
};

// Until either side closes. The wire is closed on return.
asio::awaitable<void> serve_connection(Connection connection, Handler handler, ServerLimits limits);

// The plain JSON answer to what no handler sees.
std::string error_answer(int status, std::string_view message);

}  // namespace shoal::http
