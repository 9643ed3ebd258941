// HTTP/1.1 messages as bytes: parsers for what arrives (Boost.Beast inside message.cc) and the text
// of heads that leave. Private to this module. Pure; one thread per object. What a parser holds is
// bounded by its limits.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "http/http.h"

namespace shoal::http {

// Why bytes are not an acceptable message: what a server answers before it closes.
struct Malformed {
  int status = 400;
  std::string message;
};

// Reads one request from bytes that arrive in pieces.
class RequestParser {
 public:
  explicit RequestParser(const ServerLimits& limits);
  ~RequestParser();

  // How many bytes of `input` are used up; the rest is to be offered again with more behind it.
  std::expected<size_t, Malformed> add(std::string_view input);
  bool started() const;  // a byte of the request has been seen
  bool header_done() const;
  bool done() const;
  // Once header_done():
  bool keep_alive() const;
  bool chunked_answers() const;  // HTTP/1.1
  bool expects_continue() const;
  Request take();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reads one response; 1xx responses before it are skipped.
class ResponseParser {
 public:
  // `head`: the answer to a HEAD request, which has no body whatever its fields say.
  ResponseParser(bool head, uint64_t body_limit_bytes);
  ~ResponseParser();

  // Body bytes go to `sink` when set, else into take().body. `sink` returning false makes add()
  // fail.
  void on_body(std::function<bool(std::string_view)> sink);
  std::expected<size_t, Malformed> add(std::string_view input);
  std::expected<void, Malformed> end_of_input();
  bool started() const;
  bool header_done() const;
  bool done() const;
  bool keep_alive() const;
  const Response& response() const;
  Response take();

 private:
  struct State;
  void restart();
  std::unique_ptr<State> state_;
};

enum class Framing { kLength, kChunked, kUntilClose };
std::string response_head(int status, const Headers& headers, Framing framing, uint64_t body_bytes,
                          bool keep_alive);
std::string request_head(const Request& request, const std::string& host, bool keep_alive);
std::string chunk_frame(std::string_view chunk);

}  // namespace shoal::http
