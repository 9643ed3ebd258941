// The API over real loopback HTTP, with a backend that plays back events.
#pragma once

#include <gmock/gmock.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>

#include "../http/http_fixture.h"
#include "api/api.h"

namespace shoal::api {

inline Event accepted(int64_t prompt_tokens) {
  Event event;
  event.kind = Event::Kind::kAccepted;
  event.prompt_tokens = prompt_tokens;
  return event;
}
inline Event token(int64_t number, std::string text) {
  Event event;
  event.number = number;
  event.text = std::move(text);
  return event;
}
inline Event done(std::string reason) {
  Event event;
  event.kind = Event::Kind::kDone;
  event.finish_reason = std::move(reason);
  event.timings = {
      .queue_s = 0.5, .prefill_s = 0.25, .decode_s = 0.5, .prompt_tokens = 4, .output_tokens = 3};
  return event;
}
inline Event failed(ErrorCode code, std::string message) {
  Event event;
  event.kind = Event::Kind::kError;
  event.error = {code, std::move(message)};
  return event;
}

// Plays a list of events; after the last it waits to be cancelled.
class PlayedStream final : public EventStream {
 public:
  PlayedStream(asio::io_context& loop, std::deque<Event> events, std::atomic<int>& cancelled)
      : timer_(loop, Deadline::max()), events_(std::move(events)), cancelled_(cancelled) {}
  asio::awaitable<Event> next() override {
    if (events_.empty() && !stopped_) {
      boost::system::error_code ignored;
      co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (stopped_) co_return failed(ErrorCode::kCancelled, "cancelled");
    Event event = std::move(events_.front());
    events_.pop_front();
    co_return event;
  }
  void cancel() override {
    if (std::exchange(stopped_, true)) return;
    ++cancelled_;
    timer_.cancel();
  }

 private:
  asio::steady_timer timer_;
  std::deque<Event> events_;
  std::atomic<int>& cancelled_;
  bool stopped_ = false;
};

class PlayingBackend final : public ApiBackend {
 public:
  explicit PlayingBackend(asio::io_context& loop) : loop_(loop) {}
  asio::awaitable<Result<std::unique_ptr<EventStream>>> start(GenerateRequest request) override {
    requests.push_back(request);
    if (refusal) co_return std::unexpected(*refusal);
    std::deque<Event> events = scripts.front();
    if (scripts.size() > 1) scripts.pop_front();
    co_return std::make_unique<PlayedStream>(loop_, std::move(events), cancelled);
  }
  std::vector<ModelEntry> models() override {
    return {{"smollm2:135m", 1700000000, "shoal", "ready"}, {"hf:a/b:q4", 1, "shoal", "on disk"}};
  }
  Json health() override { return {{"status", "ok"}, {"nodes", 2}}; }

  std::deque<std::deque<Event>> scripts;  // one for each start; the last is played again
  std::optional<Error> refusal;
  std::vector<GenerateRequest> requests;
  std::atomic<int> cancelled = 0;

 private:
  asio::io_context& loop_;
};

class ApiTest : public ::testing::Test {
 protected:
  ApiTest() { backend_.scripts = {hello()}; }
  ~ApiTest() override {
    loop_.call([&] {
      client_.reset();
      server_.reset();
    });
  }
  static std::deque<Event> hello() {
    return {accepted(4), token(0, "Hel"), token(1, ""), token(2, "lo"), done("stop")};
  }
  void start(ApiOptions options = {}) {
    api_ = std::make_unique<Api>(backend_, std::move(options));
    auto server = loop_.call([&] {
      return http::listen_tcp(loop_.loop, "127.0.0.1:0",
                              [this](http::Exchange& exchange) { return api_->handle(exchange); });
    });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    loop_.call([&] {
      client_ = http::make_tcp_client(loop_.loop, fmt::format("127.0.0.1:{}", server_->port()));
    });
  }
  http::Response ask(http::Request request) {
    if (!server_) start();
    auto response = loop_.await(client_->request(std::move(request), http::soon()));
    EXPECT_TRUE(response) << response.error().message;
    return response ? std::move(*response) : http::Response{.status = 0};
  }
  http::Response get(std::string path, http::Headers headers = {}) {
    http::Request request;
    request.path = std::move(path);
    request.headers = std::move(headers);
    return ask(std::move(request));
  }
  http::Response post(std::string path, std::string body, http::Headers headers = {}) {
    http::Request request;
    request.method = "POST";
    request.path = std::move(path);
    request.body = std::move(body);
    request.headers = std::move(headers);
    request.headers.emplace("Content-Type", "application/json");
    return ask(std::move(request));
  }
  // A chat about nothing, with more fields.
  http::Response chat(const std::string& more = "") {
    return post("/v1/chat/completions",
                R"({"model":"m","messages":[{"role":"user","content":"hi"}])" +
                    (more.empty() ? "" : "," + more) + "}");
  }
  http::Response complete(const std::string& more) {
    return post("/v1/completions", R"({"model":"m",)" + more + "}");
  }
  static Json json(const http::Response& response) {
    auto parsed = parse_json(response.body);
    EXPECT_TRUE(parsed) << response.body;
    return parsed ? *parsed : Json();
  }
  // The data lines of a stream; "[DONE]" as a string.
  static std::vector<Json> chunks(const http::Response& response) {
    std::vector<Json> list;
    std::string_view rest = response.body;
    while (!rest.empty()) {
      const size_t end = rest.find("\n\n");
      EXPECT_NE(end, rest.npos);
      const std::string_view line = rest.substr(0, end);
      EXPECT_TRUE(line.starts_with("data: ")) << line;
      list.push_back(line == "data: [DONE]" ? Json("[DONE]")
                                            : parse_json(line.substr(6)).value_or(Json()));
      rest.remove_prefix(end + 2);
    }
    return list;
  }
  // One error in OpenAI's shape.
  static void expect_error(const http::Response& response, int status, const std::string& part,
                           const Json& param = nullptr) {
    EXPECT_EQ(response.status, status) << response.body;
    const Json error = json(response).value("error", Json::object());
    EXPECT_THAT(error.value("message", ""), ::testing::HasSubstr(part));
    EXPECT_TRUE(error.contains("type") && error["type"].is_string());
    EXPECT_EQ(error.value("param", Json("absent")), param) << response.body;
    EXPECT_TRUE(error.contains("code"));
  }

  http::LoopThread loop_;
  PlayingBackend backend_{loop_.loop};
  std::unique_ptr<Api> api_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<http::Client> client_;
};

}  // namespace shoal::api
