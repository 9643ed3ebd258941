// HTTP/1.1 servers and clients over TCP, Unix sockets and mutual TLS (Boost.Beast inside, in this
// module alone). Everything here runs on the io_context's one thread. Handlers are coroutines;
// nothing that a peer sends can throw out of a handler or stop a server.
//
// With g++ 12 make a Request or Response a named variable and std::move() it into a call that is
// co_awaited: braces inside a co_await expression may be destroyed twice, a fault of that compiler.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

namespace shoal::http {

namespace asio = boost::asio;

struct CaseInsensitive {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const;
};
using Headers = std::map<std::string, std::string, CaseInsensitive>;

struct Request {
  std::string method = "GET";
  std::string path = "/";  // percent-decoded, without the query
  std::string query;
  Headers headers;
  std::string body;
  // Filled in by a server:
  std::string peer_address;  // "127.0.0.1:51234", or "unix"
  std::string
      peer_fingerprint;  // over mutual TLS: SHA-256 of the peer's certificate key, else empty
};

struct Response {
  int status = 200;
  Headers headers;  // Content-Type among them
  std::string body;
};

// One request being answered: either respond(), or begin(), write()..., end().
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const Request& request() const = 0;
  virtual asio::awaitable<void> respond(Response response) = 0;
  // A chunked answer, sent as it is written.
  virtual asio::awaitable<void> begin(int status, Headers headers) = 0;
  virtual asio::awaitable<bool> write(std::string_view chunk) = 0;  // false: the client has gone
  virtual asio::awaitable<void> end() = 0;
  // Called once, on the loop's thread, if the client closes before the answer is complete.
  virtual void on_client_gone(std::function<void()> callback) = 0;
};

using Handler = std::function<asio::awaitable<void>(Exchange&)>;

struct ServerLimits {
  uint64_t body_bytes = 32 << 20;    // more is answered 413
  uint64_t header_bytes = 64 << 10;  // more is answered 431
  std::chrono::seconds idle{75};     // between requests, and for a request to arrive whole
  size_t connections = 4096;
};

// Mutual TLS 1.3 with self-signed keys: a peer is whoever proves the key of a fingerprint.
struct TlsIdentity {
  std::string certificate_pem;
  std::string private_key_pem;
};
// Asked inside the handshake with the peer's fingerprint (false refuses it there), and again before
// each of its requests (false closes the connection), so that a removed member is out at once. Must
// be quick and without side effects.
using PeerCheck = std::function<bool(const std::string& fingerprint)>;
// SHA-256 (hex) of the DER SubjectPublicKeyInfo of a PEM certificate: the node id.
Result<std::string> fingerprint_of_certificate(const std::string& certificate_pem);

class Server {
 public:
  virtual ~Server() = default;        // closes the listener and every connection
  virtual uint16_t port() const = 0;  // of a TCP listener
  virtual void close() = 0;
};

// `address` is "host:port", "[v6]:port"; port 0 picks one. kConflict when the port is in use (says
// which, and what to do).
Result<std::unique_ptr<Server>> listen_tcp(asio::io_context& loop, const std::string& address,
                                           Handler handler, ServerLimits limits = {});
// Mode 0600. Replaces a socket that nobody listens on; kConflict when somebody does.
Result<std::unique_ptr<Server>> listen_unix(asio::io_context& loop, const std::string& path,
                                            Handler handler, ServerLimits limits = {});
// The node port: a connection whose first 8 bytes are `raw_magic` is handed over whole (nothing
// consumed) as a blocking socket with its peer's address; any other must be TLS. A connection that
// is neither is closed without an answer.
using RawHandler = std::function<void(UniqueFd socket, std::string peer_address)>;
Result<std::unique_ptr<Server>> listen_node(asio::io_context& loop, const std::string& address,
                                            TlsIdentity identity, PeerCheck check, Handler handler,
                                            std::string raw_magic, RawHandler raw_handler,
                                            ServerLimits limits = {});

// A peer over mutual TLS, one connection kept open; requests queue. Reconnects when needed.
class Client {
 public:
  virtual ~Client() = default;
  // kUnreachable, kDeadline, kPermission (the peer is not who was expected, or refused us).
  virtual asio::awaitable<Result<Response>> request(Request request, Deadline deadline) = 0;
  // Streams the body as it arrives, over a connection of its own. `on_chunk` returning false closes
  // it (kCancelled). The returned response has an empty body unless its status is 400 or more.
  virtual asio::awaitable<Result<Response>> stream(
      Request request, Deadline first_byte_deadline,
      std::function<bool(std::string_view)> on_chunk) = 0;
  virtual void cancel() = 0;                         // ends everything under way with kCancelled
  virtual std::string peer_fingerprint() const = 0;  // of the last TLS peer met; empty before
};
// `expected_fingerprint` empty accepts any peer (never for a member); the one met is in
// peer_fingerprint().
std::unique_ptr<Client> make_tls_client(asio::io_context& loop, std::string address,
                                        TlsIdentity identity, std::string expected_fingerprint);
// The same to a local daemon's socket, or in clear (the command line's, and the tests'). Nothing is
// encrypted or proven.
std::unique_ptr<Client> make_unix_client(asio::io_context& loop, std::string path);
std::unique_ptr<Client> make_tcp_client(asio::io_context& loop, std::string address);

}  // namespace shoal::http
