#include "http/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace shoal::http {
namespace {

void set_option(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

std::unexpected<Error> listen_error(int error, const HostPort& at, const char* option) {
  if (error == EADDRINUSE) {
    return fail(ErrorCode::kConflict,
                "port {} on {} is in use, perhaps by another shoal; stop it or choose another with "
                "{}",
                at.port, at.host, option);
  }
  if (error == EADDRNOTAVAIL) {
    return fail(ErrorCode::kInvalidArgument,
                "this machine has no address {}; choose one of its own with {}", at.host, option);
  }
  if (error == EACCES) {
    return fail(ErrorCode::kPermission,
                "not allowed to listen on port {}; choose one above 1023 with {}", at.port, option);
  }
  return fail(ErrorCode::kIo, "cannot listen on {}: {}", format_host_port(at.host, at.port),
              std::strerror(error));
}

uint16_t bound_port(int fd) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size);
  if (bound.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6&>(bound).sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

// Makes way for a new socket at `path`.
Status clear_stale_socket(const std::string& path, const sockaddr_un& name) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) {
    return fail(ErrorCode::kConflict,
                "{} is in the way: it is not a socket; remove it or choose "
                "another --home",
                path);
  }
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) {
    return fail(ErrorCode::kConflict,
                "another shoal listens on {}; stop it or choose another --home", path);
  }
  if (errno != ECONNREFUSED) return system_error("cannot ask who listens on", path);
  if (::unlink(path.c_str()) != 0) return system_error("cannot replace the old socket", path);
  return {};
}

}  // namespace

Result<ListeningSocket> open_tcp_listener(const std::string& address, const char* option) {
  SHOAL_ASSIGN(const HostPort at, parse_host_port(address));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error =
          ::getaddrinfo(at.host.c_str(), std::to_string(at.port).c_str(), &hints, &found)) {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is not an address of this machine: {}; give one "
                "with {}",
                at.host, ::gai_strerror(error), option);
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  ListeningSocket socket;
  socket.family = found->ai_family;
  socket.fd.reset(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.fd) return listen_error(errno, at, option);
  set_option(socket.fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (::bind(socket.fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(socket.fd.get(), SOMAXCONN) != 0) {
    return listen_error(errno, at, option);
  }
  socket.port = bound_port(socket.fd.get());
  return socket;
}

Result<ListeningSocket> open_unix_listener(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(name.sun_path)) {
    return fail(ErrorCode::kInvalidArgument,
                "the socket's path {} has {} characters, the system allows {}; choose a shorter "
                "--home",
                path, path.size(), sizeof(name.sun_path) - 1);
  }
  std::memcpy(name.sun_path, path.data(), path.size());
  SHOAL_TRY(clear_stale_socket(path, name));
  ListeningSocket socket;
  socket.family = AF_UNIX;
  socket.fd.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.fd) return system_error("cannot make a socket at", path);
  // Nobody can connect between bind and listen, so the mode is right before the first client.
  if (::bind(socket.fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) {
    return system_error("cannot make a socket at", path);
  }
  if (::chmod(path.c_str(), 0600) != 0 || ::listen(socket.fd.get(), SOMAXCONN) != 0) {
    return system_error("cannot listen on", path);
  }
  return socket;
}

void prepare_accepted(int fd, bool tcp) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (!tcp) return;
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
}

std::string peer_address_of(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return "gone";
  char text[INET6_ADDRSTRLEN] = {};
  if (peer.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(peer);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return format_host_port(text, ntohs(v4.sin_port));
  }
  if (peer.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(peer);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
    return format_host_port(text, ntohs(v6.sin6_port));
  }
  return "unix";
}

}  // namespace shoal::http
