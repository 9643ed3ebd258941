#include "api/gate.h"

#include <arpa/inet.h>

#include <algorithm>

#include "base/bytes.h"

namespace shoal::api {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string header(const http::Request& request, std::string_view name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? std::string() : found->second;
}

// The host of "host", "host:port", "[v6]:port", without brackets and a final dot.
std::string host_of(std::string_view authority) {
  std::string_view host = authority;
  if (host.starts_with('[')) {
    host = host.substr(1, host.find(']') == host.npos ? host.npos : host.find(']') - 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  if (host.ends_with('.')) host.remove_suffix(1);
  return lower(host);
}

bool is_address(const std::string& host, bool& loopback, bool& unspecified) {
  in_addr v4{};
  in6_addr v6{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    loopback = (ntohl(v4.s_addr) >> 24) == 127;
    unspecified = v4.s_addr == 0;
    return true;
  }
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    loopback = IN6_IS_ADDR_LOOPBACK(&v6);
    unspecified = IN6_IS_ADDR_UNSPECIFIED(&v6);
    return true;
  }
  loopback = unspecified = false;
  return false;
}

std::string without_brackets(std::string host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return lower(host);
}

bool may_be_called(const std::string& host, const ApiOptions& options) {
  if (host.empty()) return false;
  bool loopback = false;
  bool unspecified = false;
  const bool address = is_address(host, loopback, unspecified);
  const std::string ours = without_brackets(options.listen_host);
  if (host == "localhost" || loopback || host == ours) return true;
  for (const std::string& name : options.allowed_hosts) {
    if (host == without_brackets(name)) return true;
  }
  // Listening on every address: which ones this machine has may change, and no DNS stands behind a
  // number.
  is_address(ours, loopback, unspecified);
  return address && unspecified;
}

}  // namespace

Outcome<void> check_origin(const http::Request& request, const ApiOptions& options) {
  if (request.peer_address == "unix") return {};
  const std::string host = header(request, "Host");
  if (!may_be_called(host_of(host), options)) {
    return std::unexpected(ApiError{
        403,
        fmt::format("this server does not answer to the host name '{}'; use localhost or the "
                    "address it listens on",
                    host),
        "", "host_not_allowed", ""});
  }
  if (!request.headers.contains("Origin")) return {};
  const std::string origin = lower(header(request, "Origin"));
  if (origin == "http://" + lower(host) || origin == "https://" + lower(host)) return {};
  return std::unexpected(ApiError{
      403, fmt::format("requests from web pages of another origin ('{}') are refused", origin), "",
      "origin_not_allowed", ""});
}

bool has_key(const http::Request& request, const ApiOptions& options) {
  if (options.api_key.empty() || request.peer_address == "unix") return true;
  const std::string given = header(request, "Authorization");
  if (!lower(given).starts_with("bearer ")) return false;
  // Digests have one length, so not even the key's length shows in the time taken.
  return equal_in_constant_time(as_bytes(sha256(given.substr(7))),
                                as_bytes(sha256(options.api_key)));
}

Outcome<void> check_key(const http::Request& request, const ApiOptions& options) {
  if (has_key(request, options)) return {};
  const bool missing = header(request, "Authorization").empty();
  return std::unexpected(
      ApiError{401,
               missing ? "an API key is needed: send it as 'Authorization: Bearer KEY'"
                       : "the API key is wrong",
               "", "invalid_api_key", ""});
}

Outcome<void> check_content_type(const http::Request& request) {
  std::string type = lower(header(request, "Content-Type"));
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.pop_back();
  if (type == "application/json") return {};
  return std::unexpected(ApiError{
      415, fmt::format("the content type must be application/json, not '{}'", type), "", "", ""});
}

bool is_local(const http::Request& request) {
  if (request.peer_address == "unix") return true;
  bool loopback = false;
  bool unspecified = false;
  is_address(host_of(request.peer_address), loopback, unspecified);
  return loopback;
}

}  // namespace shoal::api
