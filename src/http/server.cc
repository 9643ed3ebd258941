#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.h"
#include "http/connection.h"
#include "http/sockets.h"

namespace shoal::http {
namespace {

using asio::redirect_error;
using asio::use_awaitable;
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;

constexpr std::chrono::seconds kLongestHandshake{10};
constexpr char kTlsHandshakeRecord = 0x16;  // RFC 8446, section 5.1

struct NodePort {
  std::shared_ptr<TlsContext> tls;
  std::string raw_magic;
  RawHandler raw_handler;
};

// What a server and the coroutines of its connections share; outlives the Server while they end.
struct Core {
  Core(asio::io_context& io, Handler handle, ServerLimits limit)
      : loop(io), acceptor(io), handler(std::move(handle)), limits(limit) {}

  asio::io_context& loop;
  Acceptor acceptor;
  Handler handler;
  ServerLimits limits;
  std::optional<NodePort> node;
  std::string unix_path;
  uint16_t port = 0;
  bool closed = false;
  uint64_t next_id = 0;
  std::map<uint64_t, std::function<void()>> closers;  // one for each open connection

  void close() {
    if (std::exchange(closed, true)) return;
    SystemError ignored;
    acceptor.close(ignored);
    if (!unix_path.empty()) ::unlink(unix_path.c_str());
    const auto closing = std::exchange(closers, {});
    for (const auto& [id, closer] : closing) closer();
  }
};

// A connection's place in the list of those that close with the server.
class Seat {
 public:
  Seat(std::shared_ptr<Core> core, std::function<void()> closer)
      : core_(std::move(core)), id_(core_->next_id++) {
    core_->closers[id_] = std::move(closer);
  }
  ~Seat() { core_->closers.erase(id_); }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;

 private:
  std::shared_ptr<Core> core_;
  uint64_t id_;
};

enum class FirstBytes { kTls, kRaw, kNeither };

// Looks at what a connection begins with and leaves it in the socket.
asio::awaitable<FirstBytes> peek_first_bytes(const std::shared_ptr<StreamSocket>& socket,
                                             const std::string& magic, Deadline deadline) {
  asio::steady_timer patience(socket->get_executor(), deadline);
  patience.async_wait([weak = std::weak_ptr(socket)](const SystemError& error) {
    SystemError ignored;
    if (const auto self = weak.lock(); self && !error) self->close(ignored);
  });
  asio::steady_timer pause(socket->get_executor());
  std::string seen(magic.size(), '\0');
  SystemError error;
  co_await socket->async_wait(StreamSocket::wait_read, redirect_error(use_awaitable, error));
  while (!error && socket->is_open()) {
    const ssize_t count =
        ::recv(socket->native_handle(), seen.data(), seen.size(), MSG_PEEK | MSG_DONTWAIT);
    if (count <= 0) break;
    const std::string_view start(seen.data(), static_cast<size_t>(count));
    if (start.front() == kTlsHandshakeRecord) co_return FirstBytes::kTls;
    if (!magic.starts_with(start)) break;
    if (start.size() == magic.size()) co_return FirstBytes::kRaw;
    // The socket stays readable while bytes lie in it, so the rest is looked for by the clock.
    pause.expires_after(std::chrono::milliseconds(5));
    co_await pause.async_wait(redirect_error(use_awaitable, error));
  }
  co_return FirstBytes::kNeither;
}

void hand_over(const NodePort& node, StreamSocket& socket, std::string peer) {
  SystemError error;
  UniqueFd fd(socket.release(error));
  if (error || !fd) return;
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
  try {
    node.raw_handler(std::move(fd), std::move(peer));
  } catch (const std::exception& exception) {
    log::error("a data connection could not be handed over: {}", exception.what());
  }
}

asio::awaitable<void> serve_tls(std::shared_ptr<Core> core, StreamSocket socket, std::string peer) {
  const auto tls = core->node->tls;
  auto stream = tls_stream(std::move(socket), tls, true);
  const auto wire = std::make_shared<Wire>(core->loop.get_executor(), std::move(stream));
  const Seat seat(core, [weak = std::weak_ptr(wire)] {
    if (const auto self = weak.lock()) self->close();
  });
  const auto patience = std::min<std::chrono::seconds>(kLongestHandshake, core->limits.idle);
  wire->set_deadline(Clock::now() + patience);
  if (!co_await wire->handshake()) {
    log::info("refused a connection from {}: {}", peer, wire->last_error().message());
    co_await wire->linger(std::chrono::milliseconds(1000));
    wire->close();
    co_return;
  }
  wire->start_reading();
  Connection connection;
  connection.wire = wire;
  connection.peer_address = std::move(peer);
  connection.peer_fingerprint = wire->peer_fingerprint();
  connection.still_welcome = [tls, fingerprint = connection.peer_fingerprint] {
    return tls->check(fingerprint);
  };
  co_await serve_connection(std::move(connection), core->handler, core->limits);
}

asio::awaitable<void> serve_node(std::shared_ptr<Core> core, StreamSocket accepted,
                                 std::string peer) {
  const auto socket = std::make_shared<StreamSocket>(std::move(accepted));
  FirstBytes first = FirstBytes::kNeither;
  {
    const Seat seat(core, [weak = std::weak_ptr(socket)] {
      SystemError ignored;
      if (const auto self = weak.lock()) self->close(ignored);
    });
    const auto patience = std::min<std::chrono::seconds>(kLongestHandshake, core->limits.idle);
    first = co_await peek_first_bytes(socket, core->node->raw_magic, Clock::now() + patience);
  }
  if (core->closed) co_return;
  if (first == FirstBytes::kRaw) hand_over(*core->node, *socket, std::move(peer));
  if (first == FirstBytes::kTls) co_await serve_tls(core, std::move(*socket), std::move(peer));
}

asio::awaitable<void> serve_plain(std::shared_ptr<Core> core, StreamSocket socket,
                                  std::string peer) {
  auto stream = plain_stream(std::move(socket));
  const auto wire = std::make_shared<Wire>(core->loop.get_executor(), std::move(stream));
  const Seat seat(core, [weak = std::weak_ptr(wire)] {
    if (const auto self = weak.lock()) self->close();
  });
  wire->start_reading();
  Connection connection;
  connection.wire = wire;
  connection.peer_address = std::move(peer);
  co_await serve_connection(std::move(connection), core->handler, core->limits);
}

// One connection too many: said without waiting for anything.
void turn_away(const Core& core, StreamSocket& socket) {
  if (core.node) return;
  const std::string answer =
      error_answer(503, fmt::format("{} connections are open, which is the limit; close one",
                                    core.limits.connections));
  ::send(socket.native_handle(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void start(const std::shared_ptr<Core>& core, StreamSocket socket) {
  const int fd = socket.native_handle();
  prepare_accepted(fd, core->unix_path.empty());
  if (core->closers.size() >= core->limits.connections) {
    turn_away(*core, socket);
    return;
  }
  std::string peer = peer_address_of(fd);
  const auto report = [](std::exception_ptr problem) {
    try {
      if (problem) std::rethrow_exception(problem);
    } catch (const std::exception& exception) {
      log::error("a connection ended by an exception: {}", exception.what());
    }
  };
  if (core->node) {
    asio::co_spawn(core->loop, serve_node(core, std::move(socket), std::move(peer)), report);
  } else {
    asio::co_spawn(core->loop, serve_plain(core, std::move(socket), std::move(peer)), report);
  }
}

asio::awaitable<void> accept_loop(std::shared_ptr<Core> core) {
  asio::steady_timer pause(core->loop);
  bool complained = false;
  while (!core->closed) {
    SystemError error;
    StreamSocket socket =
        co_await core->acceptor.async_accept(redirect_error(use_awaitable, error));
    if (core->closed) co_return;
    if (!error) {
      complained = false;
      start(core, std::move(socket));
      continue;
    }
    if (error == asio::error::connection_aborted) continue;
    // Out of descriptors or memory: the listener stays, and the next try comes when some may be
    // free again.
    if (!complained) log::warn("cannot accept connections for now: {}", error.message());
    complained = true;
    pause.expires_after(std::chrono::milliseconds(100));
    co_await pause.async_wait(redirect_error(use_awaitable, error));
  }
}

class ServerImpl final : public Server {
 public:
  explicit ServerImpl(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~ServerImpl() override { core_->close(); }
  uint16_t port() const override { return core_->port; }
  void close() override { core_->close(); }

 private:
  std::shared_ptr<Core> core_;
};

Result<std::unique_ptr<Server>> start_server(std::shared_ptr<Core> core, ListeningSocket socket) {
  core->port = socket.port;
  SystemError error;
  core->acceptor.assign(asio::generic::stream_protocol(socket.family, 0), socket.fd.get(), error);
  if (error) return fail(ErrorCode::kIo, "cannot listen: {}", error.message());
  (void)socket.fd.release();
  asio::co_spawn(core->loop, accept_loop(core), asio::detached);
  return std::make_unique<ServerImpl>(std::move(core));
}

}  // namespace

Result<std::unique_ptr<Server>> listen_tcp(asio::io_context& loop, const std::string& address,
                                           Handler handler, ServerLimits limits) {
  SHOAL_ASSIGN(ListeningSocket socket, open_tcp_listener(address, "--listen"));
  return start_server(std::make_shared<Core>(loop, std::move(handler), limits), std::move(socket));
}

Result<std::unique_ptr<Server>> listen_unix(asio::io_context& loop, const std::string& path,
                                            Handler handler, ServerLimits limits) {
  SHOAL_ASSIGN(ListeningSocket socket, open_unix_listener(path));
  auto core = std::make_shared<Core>(loop, std::move(handler), limits);
  core->unix_path = path;
  return start_server(std::move(core), std::move(socket));
}

Result<std::unique_ptr<Server>> listen_node(asio::io_context& loop, const std::string& address,
                                            TlsIdentity identity, PeerCheck check, Handler handler,
                                            std::string raw_magic, RawHandler raw_handler,
                                            ServerLimits limits) {
  SHOAL_ASSIGN(std::shared_ptr<TlsContext> tls, make_tls_context(identity, true, std::move(check)));
  SHOAL_ASSIGN(ListeningSocket socket, open_tcp_listener(address, "--cluster-listen"));
  auto core = std::make_shared<Core>(loop, std::move(handler), limits);
  core->node = NodePort{std::move(tls), std::move(raw_magic), std::move(raw_handler)};
  return start_server(std::move(core), std::move(socket));
}

}  // namespace shoal::http
