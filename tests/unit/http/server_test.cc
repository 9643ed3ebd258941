// The server over real sockets, with good clients and bad ones.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "http_fixture.h"

namespace shoal::http {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

asio::awaitable<void> pause(int ms) {
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(ms));
  co_await timer.async_wait(asio::use_awaitable);
}

class HttpServer : public ::testing::Test {
 protected:
  ~HttpServer() override {
    loop_.call([&] { server_.reset(); });
  }
  void start(Handler handler, ServerLimits limits = {}) {
    auto server = loop_.call(
        [&] { return listen_tcp(loop_.loop, "127.0.0.1:0", std::move(handler), limits); });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  // Answers with what it understood.
  void start_echo(ServerLimits limits = {}) {
    start(
        [](Exchange& exchange) -> asio::awaitable<void> {
          const Request& request = exchange.request();
          Response response;
          response.headers["Content-Type"] = "text/plain";
          response.body = fmt::format("{} {}?{} [{}]", request.method, request.path, request.query,
                                      request.body);
          co_await exchange.respond(std::move(response));
        },
        limits);
  }
  std::string ask(std::string_view bytes) {
    RawClient client(server_->port());
    client.send(bytes);
    client.finish_sending();
    return client.read_all();
  }

  LoopThread loop_;
  std::unique_ptr<Server> server_;
};

TEST_F(HttpServer, AnswersWithPathQueryAndBody) {
  start_echo();
  const std::string answer =
      ask("POST /a%20b/c?x=%31 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 25\r\n"));
  EXPECT_THAT(answer, HasSubstr("POST /a b/c?x=%31 [hello]"));
}

TEST_F(HttpServer, PipelinedRequestsAreAnsweredInOrder) {
  start([](Exchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().path == "/slow") co_await pause(50);
    Response response;
    response.body = "<" + exchange.request().path + ">";
    co_await exchange.respond(std::move(response));
  });
  RawClient client(server_->port());
  client.send(
      "GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n"
      "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
      "GET /d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string answer = client.read_all();
  const size_t a = answer.find("</slow>"), b = answer.find("</b>"), c = answer.find("</c>"),
               d = answer.find("</d>");
  ASSERT_NE(d, std::string::npos) << answer;
  EXPECT_TRUE(a < b && b < c && c < d);
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  EXPECT_TRUE(client.closed_by_server());
}

TEST_F(HttpServer, RequestsInSmallPiecesArrive) {
  start_echo();
  RawClient client(server_->port());
  for (const char c :
       std::string_view("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")) {
    client.send(std::string_view(&c, 1));
  }
  EXPECT_THAT(client.read_until("[abc]"), HasSubstr("PUT /x?"));
}

TEST_F(HttpServer, HeadHasTheLengthButNoBody) {
  start_echo();
  const std::string answer = ask("HEAD /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 11\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
}

TEST_F(HttpServer, AnOldClientGetsItsAnswerAndTheEnd) {
  start([](Exchange& exchange) -> asio::awaitable<void> {
    co_await exchange.begin(200, {});
    co_await exchange.write("one ");
    co_await exchange.write("two");
    co_await exchange.end();
  });
  const std::string answer = ask("GET / HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(answer.ends_with("\r\n\r\none two")) << answer;
}

TEST_F(HttpServer, ExpectContinueIsAnsweredBeforeTheBody) {
  start_echo();
  RawClient client(server_->port());
  client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_THAT(client.read_until("[ok]"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServer, GarbageIsRefusedAndTheServerLives) {
  start_echo();
  EXPECT_THAT(ask("\x01\x02 rubbish\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask("GET / HTTP/3.7\r\nHost: h\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n"), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(ask("GET / HTTP/1.1\r\n\r\n"), HasSubstr("no Host field"));
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), HasSubstr("two Host fields"));
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServer, AmbiguousBodiesAreRefused) {
  start_echo();
  const auto post = [&](std::string fields) {
    return ask("POST / HTTP/1.1\r\nHost: h\r\n" + fields +
               "\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
  };
  for (const char* fields :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n", "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n", "Content-Length: -1\r\n", "Content-Length: 5x\r\n",
        "Content-Length: 99999999999999999999999\r\n"}) {
    const std::string answer = post(fields);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400")) << fields;
    EXPECT_EQ(answer.find("smuggled"), std::string::npos) << fields;
  }
}

TEST_F(HttpServer, ABodyOverTheLimitIsRefusedWhileItIsSent) {
  ServerLimits limits;
  limits.body_bytes = 1 << 20;
  start_echo(limits);
  RawClient announced(server_->port());
  announced.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 104857600\r\n\r\n");
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(announced.send(piece)) << i;
  EXPECT_THAT(announced.read_until("}}"), StartsWith("HTTP/1.1 413"));

  RawClient chunked(server_->port());
  chunked.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; ++i) chunked.send("80000\r\n" + piece.substr(0, 0x80000) + "\r\n");
  EXPECT_THAT(chunked.read_until("}}"), StartsWith("HTTP/1.1 413"));

  RawClient polite(server_->port());
  polite.send(
      "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
  EXPECT_THAT(polite.read_until("}}"), StartsWith("HTTP/1.1 413"));
}

TEST_F(HttpServer, AHeaderOverTheLimitIsRefused) {
  ServerLimits limits;
  limits.header_bytes = 4096;
  start_echo(limits);
  const std::string wide = "X-Wide: " + std::string(8000, 'x') + "\r\n";
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: h\r\n" + wide + "\r\n"), StartsWith("HTTP/1.1 431"));
  EXPECT_THAT(ask("GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: h\r\n\r\n"),
              StartsWith("HTTP/1.1 431"));
  // Field by field, each far below the limit.
  RawClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: h\r\n");
  for (int i = 0; i < 200; ++i) {
    if (!client.send(fmt::format("X-{}: {}\r\n", i, std::string(60, 'y')))) break;
  }
  EXPECT_THAT(client.read_until("}}"), StartsWith("HTTP/1.1 431"));
  // A chunk's size line without an end.
  RawClient chunked(server_->port());
  chunked.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
               std::string(9000, 'e'));
  EXPECT_THAT(chunked.read_until("}}"), StartsWith("HTTP/1.1 431"));
}

TEST_F(HttpServer, ASlowClientIsLetGo) {
  ServerLimits limits;
  limits.idle = std::chrono::seconds(1);
  start_echo(limits);
  RawClient slow(server_->port());
  slow.send("GET / HT");
  EXPECT_THAT(slow.read_all(), StartsWith("HTTP/1.1 408"));
  EXPECT_TRUE(slow.closed_by_server());
  RawClient silent(server_->port());
  EXPECT_EQ(silent.read_all(), "");
  EXPECT_TRUE(silent.closed_by_server());
}

TEST_F(HttpServer, ConnectionsOverTheLimitAreTurnedAwayUntilOneCloses) {
  ServerLimits limits;
  limits.connections = 2;
  start_echo(limits);
  const std::string request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  RawClient a(server_->port());
  RawClient b(server_->port());
  a.send(request);
  b.send(request);
  EXPECT_THAT(a.read_until("]"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(b.read_until("]"), StartsWith("HTTP/1.1 200"));
  RawClient c(server_->port());
  EXPECT_THAT(c.read_all(), HasSubstr("2 connections are open"));
  a.close();
  std::string answer;
  for (int i = 0; i < 100 && !answer.starts_with("HTTP/1.1 200"); ++i) {
    RawClient again(server_->port());
    again.send(request);
    answer = again.read_until("]");
  }
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServer, AHandlerThatFailsIsA500AndTheServerLives) {
  start([](Exchange& exchange) -> asio::awaitable<void> {
    if (exchange.request().path == "/throws") throw std::runtime_error("secret detail");
    if (exchange.request().path == "/silent") co_return;
    Response response;
    response.body = "[fine]";
    co_await exchange.respond(std::move(response));
  });
  RawClient client(server_->port());
  client.send("GET /throws HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = client.read_until("}}");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 500"));
  EXPECT_EQ(answer.find("secret"), std::string::npos);
  client.send("GET /silent HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(client.read_until("}}"), StartsWith("HTTP/1.1 500"));
  client.send("GET /fine HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(client.read_until("[fine]"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServer, AStreamThatFailsIsCutOffNotCompleted) {
  start([](Exchange& exchange) -> asio::awaitable<void> {
    co_await exchange.begin(200, {});
    co_await exchange.write("part");
    throw std::runtime_error("broken");
  });
  RawClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = client.read_all();
  EXPECT_THAT(answer, HasSubstr("4\r\npart\r\n"));
  EXPECT_FALSE(answer.ends_with("0\r\n\r\n"));
  EXPECT_TRUE(client.closed_by_server());
}

TEST_F(HttpServer, ChunksArriveAsTheyAreWritten) {
  std::promise<void> go_on;
  auto released = go_on.get_future().share();
  start([&](Exchange& exchange) -> asio::awaitable<void> {
    Headers headers;
    headers["Content-Type"] = "text/event-stream";
    co_await exchange.begin(200, std::move(headers));
    co_await exchange.write("first");
    while (released.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      co_await pause(5);
    }
    co_await exchange.write("second");
    co_await exchange.end();
  });
  RawClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.read_until("first\r\n"), HasSubstr("Transfer-Encoding: chunked"));
  go_on.set_value();
  EXPECT_EQ(client.read_all(), "6\r\nsecond\r\n0\r\n\r\n");
}

TEST_F(HttpServer, AClientThatLeavesIsNoticedWhileNothingIsWritten) {
  std::promise<void> gone;
  start([&](Exchange& exchange) -> asio::awaitable<void> {
    asio::steady_timer forever(co_await asio::this_coro::executor, Deadline::max());
    exchange.on_client_gone([&] { forever.cancel(); });
    boost::system::error_code ignored;
    co_await forever.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    gone.set_value();
  });
  RawClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  client.close();
  EXPECT_EQ(gone.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_F(HttpServer, AClientThatStopsReadingIsLetGo) {
  ServerLimits limits;
  limits.idle = std::chrono::seconds(1);
  std::promise<bool> result;
  start(
      [&](Exchange& exchange) -> asio::awaitable<void> {
        co_await exchange.begin(200, {});
        const std::string chunk(1 << 20, 'x');
        bool sent = true;
        for (int i = 0; i < 64 && sent; ++i) sent = co_await exchange.write(chunk);
        result.set_value(sent);
      },
      limits);
  RawClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  auto outcome = result.get_future();
  ASSERT_EQ(outcome.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_FALSE(outcome.get());
}

TEST_F(HttpServer, ALineBreakInAValueStartsNoFieldOfItsOwn) {
  start([](Exchange& exchange) -> asio::awaitable<void> {
    Response response;
    response.headers["X-Echo"] = "a\r\nSet-Cookie: evil";
    co_await exchange.respond(std::move(response));
  });
  EXPECT_EQ(ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").find("\nSet-Cookie"), std::string::npos);
}

TEST_F(HttpServer, RunningOutOfDescriptorsDoesNotEndTheServer) {
  start_echo();
  std::array<RawClient, 3> clients;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const int next = ::dup(clients.back().fd());
  ::close(next);
  rlimit full = before;
  full.rlim_cur = static_cast<rlim_t>(next);
  ::setrlimit(RLIMIT_NOFILE, &full);
  for (RawClient& client : clients) client.connect(server_->port());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ::setrlimit(RLIMIT_NOFILE, &before);
  for (RawClient& client : clients) {
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_THAT(client.read_until("]"), StartsWith("HTTP/1.1 200"));
  }
}

TEST_F(HttpServer, APortInUseIsSaidWithWhatToDo) {
  start_echo();
  const std::string address = fmt::format("127.0.0.1:{}", server_->port());
  const auto second = loop_.call([&] { return listen_tcp(loop_.loop, address, {}); });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_EQ(second.error().message,
            fmt::format("port {} on 127.0.0.1 is in use, perhaps by another shoal; stop it or "
                        "choose another with --listen",
                        server_->port()));
}

TEST_F(HttpServer, BadAddressesAreSaid) {
  for (const char* address : {"", "7465", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "a:b",
                              "203.0.113.77:0", "no.such.host.invalid:0"}) {
    const auto server = loop_.call([&] { return listen_tcp(loop_.loop, address, {}); });
    ASSERT_FALSE(server) << address;
    EXPECT_EQ(server.error().code, ErrorCode::kInvalidArgument) << server.error().message;
  }
}

class UnixServer : public HttpServer {
 protected:
  UnixServer() {
    char pattern[] = "/tmp/shoal-http-XXXXXX";
    folder_ = ::mkdtemp(pattern);
    path_ = folder_ + "/api.sock";
  }
  ~UnixServer() override {
    loop_.call([&] { server_.reset(); });
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
  }
  Status listen() {
    auto server = loop_.call([&] {
      return listen_unix(loop_.loop, path_, [](Exchange& exchange) -> asio::awaitable<void> {
        Response response;
        response.body = "[" + exchange.request().peer_address + "]";
        co_await exchange.respond(std::move(response));
      });
    });
    if (!server) return std::unexpected(server.error());
    server_ = std::move(*server);
    return {};
  }
  std::string folder_, path_;
};

TEST_F(UnixServer, ServesItsOwnerOnlyAndLeavesNothingBehind) {
  ASSERT_TRUE(listen());
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  RawClient client(path_);
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_THAT(client.read_until("]"), HasSubstr("[unix]"));
  loop_.call([&] { server_.reset(); });
  EXPECT_NE(::stat(path_.c_str(), &info), 0);
}

TEST_F(UnixServer, ReplacesASocketThatNobodyListensOn) {
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    std::strncpy(at.sun_path, path_.c_str(), sizeof(at.sun_path) - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  }
  const Status status = listen();
  EXPECT_TRUE(status) << status.error().message;
}

TEST_F(UnixServer, RefusesTheSocketOfALiveDaemon) {
  ASSERT_TRUE(listen());
  auto first = std::move(server_);
  const Status second = listen();
  loop_.call([&] { first.reset(); });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr("another shoal listens on"));
}

TEST_F(UnixServer, RefusesAPathThatIsTooLongOrAFile) {
  ASSERT_TRUE(write_file_atomically(path_, "not a socket"));
  EXPECT_EQ(listen().error().code, ErrorCode::kConflict);
  ::unlink(path_.c_str());
  path_ = folder_ + "/" + std::string(200, 'x');
  EXPECT_EQ(listen().error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace shoal::http
