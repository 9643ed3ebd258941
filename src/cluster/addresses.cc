#include "cluster/addresses.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

namespace shoal::cluster {
namespace {

constexpr size_t kMostAddresses = 6;

struct Split {
  std::string host;  // with its brackets
  std::string port;
};

Split split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {address, ""};
  return {address.substr(0, colon), address.substr(colon + 1)};
}

bool is_bridge(std::string_view name) {
  constexpr std::array<std::string_view, 6> kPrefixes = {"docker", "br-", "veth",
                                                         "virbr",  "cni", "podman"};
  return std::ranges::any_of(kPrefixes,
                             [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::string text_of(const sockaddr* address, bool with_v6) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address == nullptr) return "";
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    return ::inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size()) == nullptr ? ""
                                                                                    : text.data();
  }
  if (address->sa_family != AF_INET6 || !with_v6) return "";
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
  if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)) return "";
  if (::inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size()) == nullptr) return "";
  return "[" + std::string(text.data()) + "]";
}

std::vector<std::string> interface_hosts(bool with_v6, bool loopback) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, ::freeifaddrs);
  std::vector<std::string> hosts;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    const bool is_loopback = (entry->ifa_flags & IFF_LOOPBACK) != 0;
    if ((entry->ifa_flags & IFF_UP) == 0 || is_loopback != loopback || is_bridge(entry->ifa_name))
      continue;
    std::string host = text_of(entry->ifa_addr, with_v6);
    if (host.empty() || std::ranges::find(hosts, host) != hosts.end()) continue;
    // IPv4 first: it is what most networks at home route.
    hosts.insert(host.front() == '['
                     ? hosts.end()
                     : std::ranges::find_if(
                           hosts, [](const std::string& other) { return other.front() == '['; }),
                 std::move(host));
  }
  if (hosts.size() > kMostAddresses) hosts.resize(kMostAddresses);
  return hosts;
}

}  // namespace

std::vector<std::string> advertised_addresses(const std::string& listen, uint16_t port) {
  const Split at = split(listen);
  const std::string suffix = ":" + std::to_string(port);
  const bool any_v6 = at.host == "[::]";
  if (at.host != "0.0.0.0" && !any_v6) return {at.host + suffix};
  std::vector<std::string> hosts = interface_hosts(any_v6, false);
  if (hosts.empty()) hosts = interface_hosts(any_v6, true);
  for (std::string& host : hosts) host += suffix;
  return hosts;
}

std::string observed_address(const std::string& seen_from, const std::string& advertised) {
  const Split seen = split(seen_from);
  const Split told = split(advertised);
  if (seen.host.empty() || seen.port.empty() || told.port.empty()) return "";
  return seen.host + ":" + told.port;
}

}  // namespace shoal::cluster
