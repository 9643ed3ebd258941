#include "http/stream.h"

#include <openssl/err.h>

#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace shoal::http {
namespace {

using asio::redirect_error;
using asio::use_awaitable;

asio::awaitable<void> drain_socket(StreamSocket& socket) {
  std::array<char, 4096> dropped;
  SystemError error;
  while (!error) {
    co_await socket.async_read_some(asio::buffer(dropped), redirect_error(use_awaitable, error));
  }
}

class PlainStream final : public Stream {
 public:
  explicit PlainStream(StreamSocket socket) : socket_(std::move(socket)) {}

  asio::awaitable<size_t> read_some(std::span<char> into, SystemError& error) override {
    co_return co_await socket_.async_read_some(asio::buffer(into.data(), into.size()),
                                               redirect_error(use_awaitable, error));
  }
  asio::awaitable<void> write(std::string_view bytes, SystemError& error) override {
    co_await asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()),
                               redirect_error(use_awaitable, error));
  }
  asio::awaitable<void> handshake(SystemError&) override { co_return; }
  std::string peer_fingerprint() const override { return {}; }
  asio::awaitable<void> drain() override { co_await drain_socket(socket_); }
  void finish_sending() override {
    SystemError ignored;
    socket_.shutdown(StreamSocket::shutdown_send, ignored);
  }
  void close() override {
    SystemError ignored;
    socket_.close(ignored);
  }

 private:
  StreamSocket socket_;
};

class TlsStream final : public Stream {
 public:
  TlsStream(StreamSocket socket, std::shared_ptr<TlsContext> tls, bool server)
      : tls_(std::move(tls)), stream_(std::move(socket), tls_->context), server_(server) {}

  asio::awaitable<size_t> read_some(std::span<char> into, SystemError& error) override {
    co_return co_await stream_.async_read_some(asio::buffer(into.data(), into.size()),
                                               redirect_error(use_awaitable, error));
  }
  asio::awaitable<void> write(std::string_view bytes, SystemError& error) override {
    co_await asio::async_write(stream_, asio::buffer(bytes.data(), bytes.size()),
                               redirect_error(use_awaitable, error));
  }
  asio::awaitable<void> handshake(SystemError& error) override {
    const auto side = server_ ? asio::ssl::stream_base::server : asio::ssl::stream_base::client;
    co_await stream_.async_handshake(side, redirect_error(use_awaitable, error));
  }
  std::string peer_fingerprint() const override {
    // native_handle() is not const, though nothing here changes the session.
    auto& stream = const_cast<asio::ssl::stream<StreamSocket>&>(stream_);
    X509* certificate = SSL_get0_peer_certificate(stream.native_handle());
    return certificate ? fingerprint_of(certificate) : std::string();
  }
  asio::awaitable<void> drain() override { co_await drain_socket(stream_.next_layer()); }
  void finish_sending() override {
    SystemError ignored;
    stream_.next_layer().shutdown(StreamSocket::shutdown_send, ignored);
  }
  void close() override {
    SystemError ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  std::shared_ptr<TlsContext> tls_;  // before stream_, which points into it
  asio::ssl::stream<StreamSocket> stream_;
  bool server_;
};

}  // namespace

std::unique_ptr<Stream> plain_stream(StreamSocket socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

std::unique_ptr<Stream> tls_stream(StreamSocket socket, std::shared_ptr<TlsContext> tls,
                                   bool server) {
  return std::make_unique<TlsStream>(std::move(socket), std::move(tls), server);
}

bool is_tls_error(const SystemError& error) {
  return error.category() == asio::error::get_ssl_category();
}

bool is_tls_alert(const SystemError& error) {
  return is_tls_error(error) &&
         ERR_GET_REASON(static_cast<unsigned long>(static_cast<uint32_t>(error.value()))) >=
             SSL_AD_REASON_OFFSET;
}

}  // namespace shoal::http
