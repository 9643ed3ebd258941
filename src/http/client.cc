#include <fcntl.h>
#include <openssl/ssl.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <set>

#include "http/http.h"
#include "http/message.h"
#include "http/sockets.h"
#include "http/wire.h"

namespace shoal::http {
namespace {

using asio::redirect_error;
using asio::use_awaitable;
using Endpoint = asio::generic::stream_protocol::endpoint;

constexpr uint64_t kLargestAnswerBytes = 256 << 20;
constexpr uint64_t kLargestErrorBytes = 1 << 20;

// One request under way: what a deadline or cancel() ends. On the frame of the request's coroutine.
class Operation {
 public:
  Operation(asio::io_context& loop, std::set<Operation*>& list)
      : wake(loop), deadline_(loop), list_(list) {
    list_.insert(this);
  }
  ~Operation() { list_.erase(this); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  void end(Error error) {
    if (ended) return;
    ended = std::move(error);
    if (const auto closing = std::exchange(closer, nullptr)) closing();
    wake.cancel();
  }
  void set_deadline(Deadline at, const std::string& address) {
    deadline_.cancel();
    if (at == kNoDeadline) return;
    deadline_.expires_at(at);
    deadline_.async_wait([this, address, alive = std::weak_ptr(alive_)](const SystemError& error) {
      if (error || alive.expired()) return;
      end(Error{ErrorCode::kDeadline, fmt::format("no answer from {} in time", address)});
    });
  }

  asio::steady_timer wake;  // cancelled when something that this operation waits for has happened
  std::function<void()> closer;  // ends the input or output under way
  std::optional<Error> ended;

 private:
  asio::steady_timer deadline_;
  std::set<Operation*>& list_;
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // for callbacks already on their way
};

enum class Carrier { kTls, kTcp, kUnix };

struct Core {
  Core(asio::io_context& io, Carrier kind, std::string at)
      : loop(io), carrier(kind), address(std::move(at)) {}

  asio::io_context& loop;
  Carrier carrier;
  std::string address;
  std::string expected;
  std::string met;  // the fingerprint of the last peer whose handshake reached us
  std::shared_ptr<TlsContext> tls;
  std::optional<Error> unusable;
  std::shared_ptr<Wire> kept;  // between requests
  std::set<Operation*> operations;
  std::list<Operation*> queue;  // of request(): the first has the kept connection
};

// A place in the queue of requests.
class Turn {
 public:
  Turn(Core& core, Operation& operation)
      : queue_(core.queue), place_(queue_.insert(queue_.end(), &operation)) {}
  ~Turn() {
    queue_.erase(place_);
    if (!queue_.empty()) queue_.front()->wake.cancel();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  bool has_come() const { return place_ == queue_.begin(); }

 private:
  std::list<Operation*>& queue_;
  std::list<Operation*>::iterator place_;
};

asio::awaitable<void> sleep_until_woken(Operation& operation) {
  SystemError ignored;
  operation.wake.expires_at(kNoDeadline);
  co_await operation.wake.async_wait(redirect_error(use_awaitable, ignored));
}

// By callback, because a resolver cannot be interrupted: the wait for it can.
asio::awaitable<Result<std::vector<Endpoint>>> resolve(std::shared_ptr<Core> core,
                                                       Operation& operation) {
  std::vector<Endpoint> endpoints;
  if (core->carrier == Carrier::kUnix) {
    if (core->address.size() >= sizeof(sockaddr_un::sun_path)) {
      co_return fail(ErrorCode::kInvalidArgument, "the socket's path {} is too long",
                     core->address);
    }
    endpoints.emplace_back(asio::local::stream_protocol::endpoint(core->address));
    co_return endpoints;
  }
  const auto at = parse_host_port(core->address);
  if (!at) co_return std::unexpected(at.error());
  SystemError error;
  const auto literal = asio::ip::make_address(at->host, error);
  if (!error) {
    endpoints.emplace_back(asio::ip::tcp::endpoint(literal, at->port));
    co_return endpoints;
  }
  struct Answer {
    std::optional<SystemError> error;
    std::vector<Endpoint> endpoints;
  };
  const auto answer = std::make_shared<Answer>();
  const auto resolver = std::make_shared<asio::ip::tcp::resolver>(core->loop);
  resolver->async_resolve(
      at->host, std::to_string(at->port),
      [answer, resolver, core, waiter = &operation](const SystemError& problem, const auto& found) {
        answer->error = problem;
        for (const auto& entry : found) answer->endpoints.emplace_back(entry.endpoint());
        if (core->operations.contains(waiter)) waiter->wake.cancel();
      });
  while (!answer->error && !operation.ended) co_await sleep_until_woken(operation);
  if (operation.ended) co_return std::unexpected(*operation.ended);
  if (*answer->error) {
    co_return fail(ErrorCode::kUnreachable, "cannot find the address of {}: {}", at->host,
                   answer->error->message());
  }
  co_return std::move(answer->endpoints);
}

asio::awaitable<Result<StreamSocket>> connect(std::shared_ptr<Core> core, Operation& operation) {
  auto endpoints = co_await resolve(core, operation);
  if (!endpoints) co_return std::unexpected(endpoints.error());
  SystemError error = asio::error::host_not_found;
  for (const Endpoint& endpoint : *endpoints) {
    const auto socket = std::make_shared<StreamSocket>(core->loop);
    socket->open(endpoint.protocol(), error);
    if (error) continue;
    prepare_accepted(socket->native_handle(), core->carrier != Carrier::kUnix);
    operation.closer = [weak = std::weak_ptr(socket)] {
      SystemError ignored;
      if (const auto self = weak.lock()) self->close(ignored);
    };
    co_await socket->async_connect(endpoint, redirect_error(use_awaitable, error));
    operation.closer = nullptr;
    if (operation.ended) co_return std::unexpected(*operation.ended);
    if (!error) co_return std::move(*socket);
  }
  co_return fail(ErrorCode::kUnreachable, "cannot connect to {}: {}", core->address,
                 error.message());
}

Error lost(const Core& core, const Wire& wire, std::string_view doing) {
  const SystemError error = wire.last_error();
  if (is_tls_alert(error)) {
    return {ErrorCode::kPermission,
            fmt::format("{} refused this node: it is not a member there ({})", core.address,
                        error.message())};
  }
  const std::string why =
      error && error != asio::error::eof ? error.message() : "the connection was closed";
  return {ErrorCode::kUnreachable, fmt::format("{} {}: {}", doing, core.address, why)};
}

asio::awaitable<Result<std::shared_ptr<Wire>>> dial(std::shared_ptr<Core> core,
                                                    Operation& operation) {
  auto socket = co_await connect(core, operation);
  if (!socket) co_return std::unexpected(socket.error());
  std::unique_ptr<Stream> stream;
  if (core->carrier == Carrier::kTls) {
    stream = tls_stream(std::move(*socket), core->tls, false);
  } else {
    stream = plain_stream(std::move(*socket));
  }
  auto wire = std::make_shared<Wire>(core->loop.get_executor(), std::move(stream));
  operation.closer = [weak = std::weak_ptr(wire)] {
    if (const auto self = weak.lock()) self->close();
  };
  core->met.clear();
  const bool shaken = co_await wire->handshake();
  if (operation.ended) co_return std::unexpected(*operation.ended);
  if (!shaken) {
    wire->close();
    if (!core->expected.empty() && !core->met.empty() && core->met != core->expected) {
      co_return fail(ErrorCode::kPermission,
                     "{} is not the node that was expected: its fingerprint is {}, not {}",
                     core->address, core->met, core->expected);
    }
    co_return std::unexpected(lost(*core, *wire, "no secure connection to"));
  }
  wire->start_reading();
  co_return wire;
}

// Sends and reads one message. `reusable` says whether the wire may carry another.
asio::awaitable<Result<void>> converse(std::shared_ptr<Core> core, Operation& operation,
                                       std::shared_ptr<Wire> wire, const std::string& bytes,
                                       ResponseParser& parser, std::function<void()> on_header) {
  bool in_body = false;
  bool written = co_await wire->write(bytes);
  while (!parser.done()) {
    // What a peer said before it closed explains more than the failed write.
    if (wire->input().empty() && !co_await wire->wait_more()) {
      if (operation.ended) co_return std::unexpected(*operation.ended);
      if (written && parser.started() && parser.end_of_input()) break;
      co_return std::unexpected(lost(*core, *wire, written ? "no answer from" : "cannot send to"));
    }
    const auto used = parser.add(wire->input());
    if (operation.ended) co_return std::unexpected(*operation.ended);
    if (!used) {
      if (used.error().status == 499) {
        co_return fail(ErrorCode::kCancelled, "the answer of {} was no longer wanted",
                       core->address);
      }
      co_return fail(ErrorCode::kUnreachable, "{} does not speak HTTP: {}", core->address,
                     used.error().message);
    }
    wire->consume(*used);
    if (parser.done()) break;
    if (parser.header_done() && !in_body) {
      in_body = true;
      if (on_header) on_header();
    }
    if (!wire->input().empty() && *used > 0) continue;
    if (!co_await wire->wait_more()) {
      if (operation.ended) co_return std::unexpected(*operation.ended);
      if (parser.end_of_input()) break;
      co_return std::unexpected(lost(*core, *wire, "the answer was cut off by"));
    }
  }
  co_return Result<void>();
}

class ClientImpl final : public Client {
 public:
  explicit ClientImpl(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~ClientImpl() override {
    cancel();
    if (core_->kept) core_->kept->close();
  }

  asio::awaitable<Result<Response>> request(Request request, Deadline deadline) override {
    return run_request(core_, std::move(request), deadline);
  }
  asio::awaitable<Result<Response>> stream(
      Request request, Deadline first_byte_deadline,
      std::function<bool(std::string_view)> on_chunk) override {
    return run_stream(core_, std::move(request), first_byte_deadline, std::move(on_chunk));
  }
  void cancel() override {
    const auto operations = core_->operations;
    for (Operation* operation : operations) {
      if (!core_->operations.contains(operation)) continue;
      operation->end(Error{ErrorCode::kCancelled,
                           fmt::format("the request to {} was cancelled", core_->address)});
    }
  }
  std::string peer_fingerprint() const override { return core_->met; }

 private:
  static asio::awaitable<Result<Response>> run_request(std::shared_ptr<Core> core, Request request,
                                                       Deadline deadline) {
    if (core->unusable) co_return std::unexpected(*core->unusable);
    Operation operation(core->loop, core->operations);
    operation.set_deadline(deadline, core->address);
    const Turn turn(*core, operation);
    while (!turn.has_come() && !operation.ended) co_await sleep_until_woken(operation);
    if (operation.ended) co_return std::unexpected(*operation.ended);
    co_return co_await run_in_turn(core, operation, std::move(request));
  }

  static asio::awaitable<Result<Response>> run_in_turn(std::shared_ptr<Core> core,
                                                       Operation& operation, Request request) {
    const std::string bytes = request_head(request, core->address, true) + request.body;
    while (true) {
      std::shared_ptr<Wire> wire = std::exchange(core->kept, nullptr);
      const bool used_before = wire && !wire->ended() && wire->input().empty();
      if (!used_before) {
        if (wire) wire->close();
        auto fresh = co_await dial(core, operation);
        if (!fresh) co_return std::unexpected(fresh.error());
        wire = std::move(*fresh);
      }
      operation.closer = [weak = std::weak_ptr(wire)] {
        if (const auto self = weak.lock()) self->close();
      };
      ResponseParser parser(request.method == "HEAD", kLargestAnswerBytes);
      const auto done = co_await converse(core, operation, wire, bytes, parser, nullptr);
      operation.closer = nullptr;
      if (done) {
        if (parser.keep_alive() && !wire->ended()) {
          core->kept = wire;
        } else {
          wire->close();
        }
        co_return parser.take();
      }
      wire->close();
      // A kept connection may close as we use it; only what is safe to do twice is sent again.
      const bool again = used_before && !parser.started() && !operation.ended &&
                         done.error().code == ErrorCode::kUnreachable && request.method == "GET";
      if (!again) co_return std::unexpected(done.error());
    }
  }

  static asio::awaitable<Result<Response>> run_stream(
      std::shared_ptr<Core> core, Request request, Deadline first_byte_deadline,
      std::function<bool(std::string_view)> on_chunk) {
    if (core->unusable) co_return std::unexpected(*core->unusable);
    Operation operation(core->loop, core->operations);
    operation.set_deadline(first_byte_deadline, core->address);
    auto dialled = co_await dial(core, operation);
    if (!dialled) co_return std::unexpected(dialled.error());
    const std::shared_ptr<Wire> wire = std::move(*dialled);
    operation.closer = [weak = std::weak_ptr(wire)] {
      if (const auto self = weak.lock()) self->close();
    };
    ResponseParser parser(request.method == "HEAD", UINT64_MAX);
    std::string error_body;
    parser.on_body([&](std::string_view piece) {
      if (parser.response().status < 400) return on_chunk(piece);
      if (error_body.size() < kLargestErrorBytes) error_body += piece;
      return true;
    });
    const std::string bytes = request_head(request, core->address, false) + request.body;
    const auto done = co_await converse(core, operation, wire, bytes, parser, [&] {
      operation.set_deadline(kNoDeadline, core->address);
    });
    operation.closer = nullptr;
    wire->close();
    if (!done) co_return std::unexpected(done.error());
    Response response = parser.take();
    response.body = std::move(error_body);
    co_return response;
  }

  std::shared_ptr<Core> core_;
};

}  // namespace

std::unique_ptr<Client> make_tls_client(asio::io_context& loop, std::string address,
                                        TlsIdentity identity, std::string expected_fingerprint) {
  auto core = std::make_shared<Core>(loop, Carrier::kTls, std::move(address));
  core->expected = std::move(expected_fingerprint);
  // The context lives in the core, so the check must not keep the core alive.
  auto tls = make_tls_context(identity, false, [core = core.get()](const std::string& met) {
    core->met = met;
    return core->expected.empty() || core->expected == met;
  });
  if (tls) {
    core->tls = std::move(*tls);
  } else {
    core->unusable = tls.error();
  }
  return std::make_unique<ClientImpl>(std::move(core));
}

std::unique_ptr<Client> make_tcp_client(asio::io_context& loop, std::string address) {
  return std::make_unique<ClientImpl>(
      std::make_shared<Core>(loop, Carrier::kTcp, std::move(address)));
}

std::unique_ptr<Client> make_unix_client(asio::io_context& loop, std::string path) {
  return std::make_unique<ClientImpl>(
      std::make_shared<Core>(loop, Carrier::kUnix, std::move(path)));
}

}  // namespace shoal::http
