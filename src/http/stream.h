// A connected byte stream whatever carries it: a TCP or Unix socket, plain or inside TLS. Private
// to this module; used on the loop's thread, at most one read and one write at a time.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "http/tls.h"

namespace shoal::http {

using StreamSocket = asio::generic::stream_protocol::socket;
using SystemError = boost::system::error_code;

class Stream {
 public:
  virtual ~Stream() = default;
  virtual asio::awaitable<size_t> read_some(std::span<char> into, SystemError& error) = 0;
  virtual asio::awaitable<void> write(std::string_view bytes, SystemError& error) = 0;
  // Of TLS; nothing on a plain stream. After a failure its alert has been sent.
  virtual asio::awaitable<void> handshake(SystemError& error) = 0;
  virtual std::string peer_fingerprint() const = 0;  // after the handshake; empty on a plain stream
  // Reads and drops what still arrives until the peer closes, below any TLS.
  virtual asio::awaitable<void> drain() = 0;
  virtual void finish_sending() = 0;
  virtual void close() = 0;  // everything under way ends with an error
};

std::unique_ptr<Stream> plain_stream(StreamSocket socket);
std::unique_ptr<Stream> tls_stream(StreamSocket socket, std::shared_ptr<TlsContext> tls,
                                   bool server);

// The peer answered our certificate or request with a TLS alert.
bool is_tls_alert(const SystemError& error);
bool is_tls_error(const SystemError& error);

}  // namespace shoal::http
