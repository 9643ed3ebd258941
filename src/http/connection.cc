#include "http/connection.h"

#include "base/json.h"
#include "base/log.h"
#include "http/message.h"

namespace shoal::http {
namespace {

constexpr std::chrono::milliseconds kLinger{10'000};

// What the handler sees of a request. Lives in serve_connection()'s frame while the handler runs.
class Answer final : public Exchange {
 public:
  Answer(Wire& wire, Request request, bool keep_alive, bool chunked, ServerLimits limits)
      : wire_(wire),
        request_(std::move(request)),
        limits_(limits),
        keep_alive_(keep_alive),
        chunked_(chunked) {}

  const Request& request() const override { return request_; }

  asio::awaitable<void> respond(Response response) override {
    if (state_ != State::kNothing) {
      log::error("a handler answered {} {} twice", request_.method, request_.path);
      co_return;
    }
    std::string bytes = response_head(response.status, response.headers, Framing::kLength,
                                      response.body.size(), keep_alive_);
    if (!is_head()) bytes += response.body;
    state_ = State::kStreaming;
    if (co_await send(bytes)) state_ = State::kComplete;
  }

  asio::awaitable<void> begin(int status, Headers headers) override {
    if (state_ != State::kNothing) {
      log::error("a handler answered {} {} twice", request_.method, request_.path);
      co_return;
    }
    const Framing framing = chunked_ ? Framing::kChunked : Framing::kUntilClose;
    if (!chunked_) keep_alive_ = false;
    const std::string head = response_head(status, headers, framing, 0, keep_alive_);
    state_ = State::kStreaming;
    co_await send(head);
  }

  asio::awaitable<bool> write(std::string_view chunk) override {
    if (state_ != State::kStreaming) co_return false;
    if (chunk.empty() || is_head()) co_return !wire_.closed();
    if (!chunked_) co_return co_await send(chunk);
    const std::string frame = chunk_frame(chunk);
    co_return co_await send(frame);
  }

  asio::awaitable<void> end() override {
    if (state_ != State::kStreaming) co_return;
    bool sent = true;
    if (chunked_ && !is_head()) sent = co_await send("0\r\n\r\n");
    if (sent) state_ = State::kComplete;
  }

  void on_client_gone(std::function<void()> callback) override {
    wire_.on_end(std::move(callback));
  }

  bool begun() const { return state_ != State::kNothing; }
  bool complete() const { return state_ == State::kComplete; }
  bool keep_alive() const { return keep_alive_; }
  bool client_gone() const { return wire_.ended(); }

 private:
  enum class State { kNothing, kStreaming, kComplete };

  bool is_head() const { return request_.method == "HEAD"; }
  // A client that does not read is given up after the idle time.
  asio::awaitable<bool> send(std::string_view bytes) {
    wire_.set_deadline(Clock::now() + limits_.idle);
    const bool sent = co_await wire_.write(bytes);
    wire_.set_deadline(kNoDeadline);
    if (!sent) wire_.close();
    co_return sent;
  }

  Wire& wire_;
  Request request_;
  ServerLimits limits_;
  State state_ = State::kNothing;
  bool keep_alive_;
  bool chunked_;
};

asio::awaitable<void> refuse(Wire& wire, int status, std::string message, bool lingering) {
  const std::string answer = error_answer(status, message);
  wire.set_deadline(Clock::now() + kLinger);
  if (co_await wire.write(answer) && lingering) co_await wire.linger(kLinger);
}

// False: the connection is over.
asio::awaitable<bool> read_request(Wire& wire, RequestParser& parser, const ServerLimits& limits) {
  wire.set_deadline(Clock::now() + limits.idle);
  bool in_request = false;
  bool told_to_continue = false;
  while (true) {
    if (!wire.input().empty()) {
      const auto used = parser.add(wire.input());
      if (!used) {
        co_await refuse(wire, used.error().status, used.error().message, true);
        co_return false;
      }
      wire.consume(*used);
      if (parser.done()) break;
      if (!in_request) wire.set_deadline(Clock::now() + limits.idle);
      in_request = true;
      if (parser.header_done() && parser.expects_continue() && !told_to_continue) {
        told_to_continue = true;
        if (!co_await wire.write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
      }
    }
    if (!co_await wire.wait_more()) {
      if (wire.timed_out() && in_request) {
        co_await refuse(
            wire, 408,
            fmt::format("the request did not arrive whole within {} s", limits.idle.count()),
            false);
      }
      co_return false;
    }
  }
  wire.set_deadline(kNoDeadline);
  co_return true;
}

// False: the answer is cut off, so the connection cannot go on.
asio::awaitable<bool> answer_request(Answer& answer, const Handler& handler) {
  std::string problem = "the handler gave no answer";
  try {
    co_await handler(answer);
  } catch (const std::exception& exception) {
    problem = exception.what();
  } catch (...) {
    problem = "an unknown exception";
  }
  answer.on_client_gone(nullptr);
  if (answer.complete()) co_return true;
  if (answer.client_gone()) co_return false;
  if (!answer.begun()) {
    log::error("{} {} failed: {}", answer.request().method, answer.request().path, problem);
    Response response;
    response.status = 500;
    response.headers["Content-Type"] = "application/json";
    response.body =
        dump_json(Json{{"error", {{"message", "internal error; the daemon's log says more"}}}});
    co_await answer.respond(std::move(response));
  }
  co_return answer.complete();
}

}  // namespace

std::string error_answer(int status, std::string_view message) {
  const std::string body = dump_json(Json{{"error", {{"message", message}}}});
  return response_head(status, {{"Content-Type", "application/json"}}, Framing::kLength,
                       body.size(), false) +
         body;
}

asio::awaitable<void> serve_connection(Connection connection, Handler handler,
                                       ServerLimits limits) {
  Wire& wire = *connection.wire;
  bool keep_alive = true;
  while (keep_alive && !wire.closed()) {
    RequestParser parser(limits);
    if (!co_await read_request(wire, parser, limits)) break;
    if (connection.still_welcome && !connection.still_welcome()) break;
    Request request = parser.take();
    request.peer_address = connection.peer_address;
    request.peer_fingerprint = connection.peer_fingerprint;
    Answer answer(wire, std::move(request), parser.keep_alive(), parser.chunked_answers(), limits);
    if (!co_await answer_request(answer, handler)) break;
    keep_alive = answer.keep_alive();
    if (!keep_alive) co_await wire.linger(kLinger);
  }
  wire.close();
}

}  // namespace shoal::http
