// The port between nodes: mutual TLS by fingerprints, strangers, raw connections; and the client
// against it.
#include <gmock/gmock.h>
#include <openssl/ssl.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>

#include "http_fixture.h"

namespace shoal::http {
namespace {

using ::testing::HasSubstr;

std::string fingerprint(const TlsIdentity& identity) {
  return fingerprint_of_certificate(identity.certificate_pem).value();
}

class NodePort : public ::testing::Test {
 protected:
  NodePort() { start(); }
  ~NodePort() override {
    loop_.call([&] {
      client_.reset();
      server_.reset();
    });
  }
  void start() {
    ServerLimits limits;
    limits.idle = std::chrono::seconds(2);
    const uint16_t port = port_;
    auto server = loop_.call([&] {
      return listen_node(
          loop_.loop, fmt::format("127.0.0.1:{}", port), server_identity_,
          [this](const std::string& peer) {
            const std::lock_guard lock(mutex_);
            return peer == welcome_;
          },
          [this](Exchange& exchange) { return handle(exchange); }, "SHOALDL1",
          [this](UniqueFd socket, std::string) { raw_.set_value(std::move(socket)); }, limits);
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    port_ = server_->port();
  }
  asio::awaitable<void> handle(Exchange& exchange) {
    ++requests_;
    order_ += exchange.request().body + ";";
    const std::string path = exchange.request().path;
    if (path == "/stream") {
      co_await exchange.begin(200, {});
      for (int i = 0; i < 3; ++i) co_await exchange.write(fmt::format("<{}>", i));
      co_await exchange.end();
      co_return;
    }
    if (path == "/big") {
      co_await exchange.begin(200, {});
      const std::string piece(1 << 20, 'b');
      for (int i = 0; i < 16; ++i) co_await exchange.write(piece);
      co_await exchange.end();
      co_return;
    }
    if (path == "/hang") {
      asio::steady_timer forever(co_await asio::this_coro::executor, Deadline::max());
      exchange.on_client_gone([&] { forever.cancel(); });
      boost::system::error_code ignored;
      co_await forever.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      ++left_;
      co_return;
    }
    Response response;
    response.status = path == "/missing" ? 404 : 200;
    response.body = exchange.request().peer_fingerprint + exchange.request().body;
    co_await exchange.respond(std::move(response));
  }
  void connect(const TlsIdentity& identity, const std::string& expected) {
    loop_.call([&] {
      client_ = make_tls_client(loop_.loop, fmt::format("127.0.0.1:{}", port_), identity, expected);
    });
  }
  Result<Response> ask(std::string path, Deadline deadline = soon()) {
    Request request;
    request.path = std::move(path);
    return loop_.await(client_->request(std::move(request), deadline));
  }
  Result<Response> stream(std::string path, std::function<bool(std::string_view)> on_chunk) {
    Request request;
    request.path = std::move(path);
    return loop_.await(client_->stream(std::move(request), soon(), std::move(on_chunk)));
  }

  LoopThread loop_;
  TlsIdentity server_identity_ = make_identity(true);
  TlsIdentity member_ = make_identity(true);
  std::mutex mutex_;
  std::string welcome_ = fingerprint(member_);
  std::promise<UniqueFd> raw_;
  std::atomic<int> requests_ = 0;
  std::atomic<int> left_ = 0;
  std::string order_;  // bodies as they came
  uint16_t port_ = 0;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(NodePort, MembersKnowEachOtherByTheirKeys) {
  connect(member_, fingerprint(server_identity_));
  for (int i = 0; i < 3; ++i) {
    const auto answer = ask("/");
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, fingerprint(member_));
  }
  EXPECT_EQ(client_->peer_fingerprint(), fingerprint(server_identity_));
  EXPECT_EQ(ask("/missing")->status, 404);
}

TEST_F(NodePort, AStrangerReachesNoHandler) {
  connect(make_identity(), fingerprint(server_identity_));
  const auto answer = ask("/");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kPermission) << answer.error().message;
  EXPECT_EQ(requests_, 0);
}

TEST_F(NodePort, AnImpostorIsNotTalkedTo) {
  connect(member_, fingerprint(make_identity()));
  const auto answer = ask("/");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kPermission);
  EXPECT_THAT(answer.error().message, HasSubstr("not the node that was expected"));
  EXPECT_THAT(answer.error().message, HasSubstr(fingerprint(server_identity_)));
}

TEST_F(NodePort, WithoutAnExpectationThePeerMetIsTold) {
  connect(member_, "");
  ASSERT_TRUE(ask("/"));
  EXPECT_EQ(client_->peer_fingerprint(), fingerprint(server_identity_));
}

TEST_F(NodePort, ARemovedMemberIsOutAtItsNextRequest) {
  connect(member_, fingerprint(server_identity_));
  ASSERT_TRUE(ask("/"));
  {
    const std::lock_guard lock(mutex_);
    welcome_ = "nobody";
  }
  EXPECT_FALSE(ask("/"));
  EXPECT_FALSE(ask("/"));
  EXPECT_EQ(requests_, 1);
}

TEST_F(NodePort, OldTlsAndMissingCertificatesAreRefused) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  for (const bool old : {true, false}) {
    RawClient socket(port_);
    SSL* ssl = SSL_new(context);
    if (old) SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    SSL_set_fd(ssl, socket.fd());
    const bool shaken = SSL_connect(ssl) == 1;
    EXPECT_EQ(shaken, !old);
    char byte = 0;
    if (shaken) {
      SSL_write(ssl, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 27);
      EXPECT_LE(SSL_read(ssl, &byte, 1), 0);
    }
    SSL_free(ssl);
  }
  SSL_CTX_free(context);
  EXPECT_EQ(requests_, 0);
}

TEST_F(NodePort, ARawConnectionIsHandedOverWhole) {
  RawClient raw(port_);
  raw.send("SHOA");
  raw.send("LDL1 and more");
  auto handed = raw_.get_future();
  ASSERT_EQ(handed.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  const UniqueFd socket = handed.get();
  char buffer[17] = {};
  ASSERT_EQ(::recv(socket.get(), buffer, sizeof(buffer), MSG_WAITALL), 17);
  EXPECT_EQ(std::string_view(buffer, 17), "SHOALDL1 and more");
  EXPECT_EQ(::fcntl(socket.get(), F_GETFL) & O_NONBLOCK, 0);
  ASSERT_EQ(::send(socket.get(), "back", 4, 0), 4);
  EXPECT_EQ(raw.read_until("back"), "back");
}

TEST_F(NodePort, WhateverIsNeitherGetsNoAnswer) {
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), std::string("SHOALDL2"),
        std::string("\xff\xfe\x00\x01", 4), std::string(100'000, 'z'), std::string("SHO")}) {
    RawClient client(port_);
    client.send(bytes);
    EXPECT_EQ(client.read_all(), "");
    EXPECT_TRUE(client.closed_by_server());
  }
  RawClient half_tls(port_);
  half_tls.send(std::string("\x16\x03\x01\x02\x00garbage that is no handshake", 33));
  half_tls.finish_sending();
  half_tls.read_all();
  EXPECT_TRUE(half_tls.closed_by_server());
  connect(member_, fingerprint(server_identity_));
  EXPECT_TRUE(ask("/"));
}

TEST_F(NodePort, AStreamArrivesWholeAndInOrder) {
  connect(member_, fingerprint(server_identity_));
  std::string got;
  const auto answer = stream("/stream", [&](std::string_view chunk) {
    got += chunk;
    return true;
  });
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(got, "<0><1><2>");
  size_t bytes = 0;
  ASSERT_TRUE(stream("/big", [&](std::string_view chunk) {
    bytes += chunk.size();
    return true;
  }));
  EXPECT_EQ(bytes, size_t{16} << 20);
  const auto missing = stream("/missing", [](std::string_view) { return false; });
  ASSERT_TRUE(missing);
  EXPECT_EQ(missing->status, 404);
  EXPECT_EQ(missing->body, fingerprint(member_));
}

TEST_F(NodePort, AReceiverMayStopAStream) {
  connect(member_, fingerprint(server_identity_));
  const auto answer = stream("/big", [](std::string_view) { return false; });
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kCancelled);
}

TEST_F(NodePort, ADeadlineEndsARequestAndTheHandlerLearnsOfIt) {
  connect(member_, fingerprint(server_identity_));
  const auto answer = ask("/hang", Clock::now() + std::chrono::milliseconds(200));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kDeadline);
  for (int i = 0; i < 1000 && left_ == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(left_, 1);
  EXPECT_TRUE(ask("/"));
}

TEST_F(NodePort, CancelEndsWhatIsUnderWayAndWhatWaits) {
  connect(member_, fingerprint(server_identity_));
  const auto begin = [&](std::string path) {
    Request request;
    request.path = std::move(path);
    return asio::co_spawn(loop_.loop, client_->request(std::move(request), soon()),
                          asio::use_future);
  };
  auto first = begin("/hang");
  auto second = begin("/");
  while (requests_ == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  loop_.call([&] { client_->cancel(); });
  EXPECT_EQ(first.get().error().code, ErrorCode::kCancelled);
  EXPECT_EQ(second.get().error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(ask("/"));
}

TEST_F(NodePort, RequestsQueueOnOneConnectionInTheirOrder) {
  connect(member_, fingerprint(server_identity_));
  std::vector<std::future<Result<Response>>> answers;
  for (int i = 0; i < 20; ++i) {
    Request request;
    request.method = "POST";
    request.body = std::to_string(i);
    answers.push_back(
        asio::co_spawn(loop_.loop, client_->request(std::move(request), soon()), asio::use_future));
  }
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    const auto answer = answers[static_cast<size_t>(i)].get();
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->body, fingerprint(member_) + std::to_string(i));
    expected += std::to_string(i) + ";";
  }
  EXPECT_EQ(order_, expected);
}

TEST_F(NodePort, AClientReconnectsToAServerThatCameBack) {
  connect(member_, fingerprint(server_identity_));
  ASSERT_TRUE(ask("/"));
  loop_.call([&] { server_.reset(); });
  const auto gone = ask("/");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(gone.error().message, HasSubstr(std::to_string(port_)));
  start();
  EXPECT_TRUE(ask("/"));
}

TEST_F(NodePort, APeerThatIsNoTlsServerIsSaid) {
  auto plain = loop_.call([&] { return listen_tcp(loop_.loop, "127.0.0.1:0", {}); });
  ASSERT_TRUE(plain);
  port_ = (*plain)->port();
  connect(member_, fingerprint(server_identity_));
  const auto answer = ask("/");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUnreachable) << answer.error().message;
  loop_.call([&] { plain->reset(); });
}

TEST_F(NodePort, AHalfKeyIsRefusedBeforeListening) {
  const auto server = loop_.call([&] {
    TlsIdentity mixed = server_identity_;
    mixed.private_key_pem = member_.private_key_pem;
    return listen_node(loop_.loop, "127.0.0.1:0", mixed, {}, {}, "SHOALDL1", {});
  });
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(fingerprint_of_certificate("nonsense"));
}

}  // namespace
}  // namespace shoal::http
