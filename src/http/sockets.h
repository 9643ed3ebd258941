// Listening sockets, opened by hand for their errors' sake and for close-on-exec. Private to this
// module.
#pragma once

#include <string>

#include "base/file.h"
#include "http/url.h"

namespace shoal::http {

struct ListeningSocket {
  UniqueFd fd;
  int family = 0;
  uint16_t port = 0;
};

// `option` is the flag that the error tells people to change ("--listen").
Result<ListeningSocket> open_tcp_listener(const std::string& address, const char* option);
// Mode 0600; see listen_unix().
Result<ListeningSocket> open_unix_listener(const std::string& path);

void prepare_accepted(int fd, bool tcp);  // close-on-exec, no delay, keep-alive probes
std::string peer_address_of(int fd);      // "127.0.0.1:51234", or "unix"

}  // namespace shoal::http
