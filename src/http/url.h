// Text forms of HTTP/1.1 addresses: "host:port", percent-encoding. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace shoal::http {

struct HostPort {
  std::string host;  // without brackets
  uint16_t port = 0;
};
// "127.0.0.1:7465", "[::1]:7465", "name:80". kInvalidArgument with what is wrong.
Result<HostPort> parse_host_port(std::string_view address);
std::string format_host_port(std::string_view host, uint16_t port);

// Nothing for a '%' without two digits behind it, and for an encoded NUL.
std::optional<std::string> percent_decode(std::string_view text);
// Keeps what a path may hold; everything else becomes %XX.
std::string percent_encode_path(std::string_view path);

}  // namespace shoal::http
