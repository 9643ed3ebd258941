#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <future>
#include <memory>
#include <system_error>
#include <thread>

#include "transport/link.h"
#include "transport/socket.h"

namespace shoal {
namespace {

struct HostAndPort {
  std::string host;
  std::string port;
};

Result<HostAndPort> split_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon == std::string::npos ? 0 : colon);
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  int number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  const bool good_port =
      error == std::errc() && end == port.data() + port.size() && number > 0 && number < 65536;
  if (host.empty() || !good_port ||
      (!bracketed && host.find_first_of(":[]") != std::string::npos)) {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is not an address; write host:port, or [address]:port for IPv6", address);
  }
  return HostAndPort{host, port};
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

struct Lookup {
  int error = 0;
  Addresses list;
};

Lookup look_up(const HostAndPort& target, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &list);
  return {error, Addresses(error == 0 ? list : nullptr)};
}

// Numbers resolve at once. Names go to a thread of their own, because the resolver knows no
// deadline; a late answer is dropped.
Result<Addresses> resolve(const HostAndPort& target, Deadline deadline) {
  Lookup found = look_up(target, AI_NUMERICHOST);
  if (found.error == 0) return std::move(found.list);
  std::promise<Lookup> promise;
  std::future<Lookup> answer = promise.get_future();
  try {
    std::thread([target, promise = std::move(promise)]() mutable {
      promise.set_value(look_up(target, 0));
    }).detach();
  } catch (const std::system_error&) {
    return fail(ErrorCode::kIo, "cannot start a thread to look up {}", target.host);
  }
  if (deadline != kNoDeadline && answer.wait_until(deadline) != std::future_status::ready) {
    return fail(ErrorCode::kDeadline, "the name {} was not resolved in time", target.host);
  }
  found = answer.get();
  if (found.error != 0) {
    return fail(ErrorCode::kUnreachable, "cannot resolve {}: {}", target.host,
                ::gai_strerror(found.error));
  }
  return std::move(found.list);
}

Result<UniqueFd> connect_to(const addrinfo& where, const std::string& address, Deadline deadline) {
  UniqueFd socket(::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error("cannot make a socket for", address);
  int error = 0;
  if (::connect(socket.get(), where.ai_addr, where.ai_addrlen) != 0) error = errno;
  if (error == EINPROGRESS || error == EINTR) {
    pollfd writable{socket.get(), POLLOUT, 0};
    SHOAL_ASSIGN(const bool ready, wait_for({&writable, 1}, deadline));
    if (!ready)
      return fail(ErrorCode::kDeadline, "{} did not accept a connection in time", address);
    socklen_t size = sizeof error;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  }
  if (error != 0) {
    return fail(ErrorCode::kUnreachable, "cannot connect to {}: {}", address,
                std::generic_category().message(error));
  }
  return socket;
}

}  // namespace

Result<UniqueFd> dial_tcp(const std::string& address, Deadline deadline) {
  SHOAL_ASSIGN(const HostAndPort target, split_address(address));
  SHOAL_ASSIGN(const Addresses list, resolve(target, deadline));
  int left = 0;
  for (const addrinfo* where = list.get(); where != nullptr; where = where->ai_next) ++left;
  Result<UniqueFd> socket = fail(ErrorCode::kUnreachable, "{} has no address", target.host);
  for (const addrinfo* where = list.get(); where != nullptr; where = where->ai_next, --left) {
    // A dead first address must not use up the time of the others.
    Deadline share = deadline;
    if (deadline != kNoDeadline && left > 1) {
      const auto now = Clock::now();
      share = now + (deadline - now) / left;
    }
    socket = connect_to(*where, address, share);
    if (socket) break;
  }
  return socket;
}

Result<std::pair<UniqueFd, UniqueFd>> connected_tcp_pair() {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const address = reinterpret_cast<sockaddr*>(&here);
  socklen_t size = sizeof here;
  if (!listener || ::bind(listener.get(), address, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), address, &size) != 0) {
    return system_error("cannot listen on", "127.0.0.1");
  }
  UniqueFd dialled(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!dialled || ::connect(dialled.get(), address, size) != 0) {
    return system_error("cannot connect to", "127.0.0.1");
  }
  sockaddr_in caller{};
  socklen_t caller_size = sizeof caller;
  UniqueFd accepted(
      ::accept4(listener.get(), reinterpret_cast<sockaddr*>(&caller), &caller_size, SOCK_CLOEXEC));
  sockaddr_in ours{};
  if (!accepted || ::getsockname(dialled.get(), reinterpret_cast<sockaddr*>(&ours), &size) != 0) {
    return system_error("cannot accept on", "127.0.0.1");
  }
  if (ours.sin_port != caller.sin_port) {
    return fail(ErrorCode::kPermission, "another process connected to our loopback port first");
  }
  return std::pair(std::move(dialled), std::move(accepted));
}

}  // namespace shoal
