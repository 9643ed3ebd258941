#include "http/message.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>

#include "http/url.h"

namespace shoal::http {
namespace {

namespace beast = boost::beast;
using beast::error_code;
using beast::string_view;

std::string_view text(string_view view) {
  return {view.data(), view.size()};
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const CaseInsensitive less;
  return !less(a, b) && !less(b, a);
}

// Beast's grammar over our own storage: nothing is reserved on the word of a Content-Length.
template <bool kIsRequest>
class Grammar final : public beast::http::basic_parser<kIsRequest> {
 public:
  using Base = beast::http::basic_parser<kIsRequest>;

  Grammar(uint64_t header_limit_bytes, uint64_t body_limit_bytes)
      : header_limit_bytes_(header_limit_bytes) {
    this->header_limit(static_cast<uint32_t>(std::min<uint64_t>(header_limit_bytes, 16 << 20)));
    this->body_limit(body_limit_bytes);
  }

  std::expected<size_t, Malformed> add(std::string_view input) {
    size_t used = 0;
    while (used < input.size() && !this->is_done()) {
      error_code error;
      const bool in_header = !this->is_header_done();
      const size_t count =
          this->put(boost::asio::const_buffer(input.data() + used, input.size() - used), error);
      used += count;
      if (refused_) return std::unexpected(*refused_);
      if (in_header) {
        // Beast's own limit counts the first line apart and forgets the fields that it has passed
        // on.
        header_bytes_ += count;
        const size_t waiting = this->is_header_done() ? 0 : input.size() - used;
        if (header_bytes_ + waiting > header_limit_bytes_) {
          return std::unexpected(header_too_large());
        }
        this->eager(this->is_header_done());  // only now may one call read on, past the header
      }
      if (error == beast::http::error::need_more) {
        if (input.size() - used > header_limit_bytes_) return std::unexpected(header_too_large());
        break;
      }
      if (error) return std::unexpected(explain(error));
    }
    return used;
  }

  Malformed header_too_large() const {
    return {431, fmt::format("the request's header is larger than the limit of {} bytes",
                             header_limit_bytes_)};
  }

  Malformed explain(const error_code& error) const {
    if (error == beast::http::error::header_limit) return header_too_large();
    if (error == beast::http::error::body_limit) {
      return {413, "the body is larger than this server accepts"};
    }
    return {400, fmt::format("not a valid HTTP/1.1 message: {}", error.message())};
  }

  void refuse(int status, std::string message, error_code& error) {
    refused_ = Malformed{status, std::move(message)};
    error = beast::http::error::bad_field;
  }

  Request request;
  Response response;
  std::function<bool(std::string_view)> sink;
  bool http_1_1 = false;

 protected:
  void on_request_impl(beast::http::verb, string_view method, string_view target, int version,
                       error_code& error) override {
    http_1_1 = version >= 11;
    request.method = text(method);
    std::string_view rest = text(target);
    // The absolute form that proxies send; its authority outranks the Host field (RFC 9112, 3.2.2).
    if (const size_t scheme = rest.find("://"); rest.front() != '/' && scheme != rest.npos) {
      rest.remove_prefix(scheme + 3);
      const size_t slash = rest.find_first_of("/?");
      authority_ = rest.substr(0, slash);
      rest = slash == rest.npos ? std::string_view("/") : rest.substr(slash);
    }
    const size_t mark = rest.find('?');
    const auto path = percent_decode(rest.substr(0, mark));
    if (!path) {
      refuse(400, "the path is not valid percent-encoding", error);
      return;
    }
    request.path = path->empty() ? "/" : *path;
    request.query = mark == rest.npos ? std::string_view() : rest.substr(mark + 1);
  }

  void on_response_impl(int code, string_view, int version, error_code&) override {
    http_1_1 = version >= 11;
    response.status = code;
  }

  void on_field_impl(beast::http::field, string_view name, string_view value,
                     error_code& error) override {
    if (this->is_header_done()) return;  // trailers say nothing here
    Headers& headers = kIsRequest ? request.headers : response.headers;
    const auto [entry, fresh] = headers.emplace(std::string(text(name)), std::string(text(value)));
    if (fresh) return;
    if (equal_ignoring_case(text(name), "host")) {
      refuse(400, "the request has two Host fields", error);
      return;
    }
    entry->second += equal_ignoring_case(text(name), "cookie") ? "; " : ", ";
    entry->second += text(value);
  }

  void on_header_impl(error_code& error) override {
    Headers& headers = kIsRequest ? request.headers : response.headers;
    // Any other coding would be read as "no body", and its bytes as the next message.
    if (const auto coding = headers.find("Transfer-Encoding");
        coding != headers.end() && !equal_ignoring_case(coding->second, "chunked")) {
      refuse(400, fmt::format("the transfer coding '{}' is not supported", coding->second), error);
      return;
    }
    if constexpr (kIsRequest) {
      if (!authority_.empty()) headers["Host"] = authority_;
      if (http_1_1 && !headers.contains("Host")) {
        refuse(400, "the request has no Host field", error);
      }
    }
  }

  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view body, error_code& error) override {
    keep(text(body), error);
    return body.size();
  }
  void on_chunk_header_impl(uint64_t, string_view, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, string_view body, error_code& error) override {
    keep(text(body), error);
    return body.size();
  }
  void on_finish_impl(error_code&) override {}

 private:
  void keep(std::string_view bytes, error_code& error) {
    if (sink) {
      if (!sink(bytes)) refuse(499, "stopped by the receiver", error);
    } else {
      (kIsRequest ? request.body : response.body) += bytes;
    }
  }

  uint64_t header_limit_bytes_;
  uint64_t header_bytes_ = 0;
  std::string authority_;
  std::optional<Malformed> refused_;
};

void append_fields(std::string& head, const Headers& headers) {
  for (const auto& [name, value] : headers) {
    head += name;
    head += ": ";
    // A line break inside a value would start a field of its own.
    for (const char c : value) head += (c == '\r' || c == '\n' || c == '\0') ? ' ' : c;
    head += "\r\n";
  }
}

}  // namespace

bool CaseInsensitive::operator()(std::string_view a, std::string_view b) const {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [&](char x, char y) { return lower(x) < lower(y); });
}

struct RequestParser::State {
  explicit State(const ServerLimits& limits) : grammar(limits.header_bytes, limits.body_bytes) {}
  Grammar<true> grammar;
};

RequestParser::RequestParser(const ServerLimits& limits)
    : state_(std::make_unique<State>(limits)) {}
RequestParser::~RequestParser() = default;
std::expected<size_t, Malformed> RequestParser::add(std::string_view input) {
  return state_->grammar.add(input);
}
bool RequestParser::started() const {
  return state_->grammar.got_some();
}
bool RequestParser::header_done() const {
  return state_->grammar.is_header_done();
}
bool RequestParser::done() const {
  return state_->grammar.is_done();
}
bool RequestParser::keep_alive() const {
  return state_->grammar.keep_alive();
}
bool RequestParser::chunked_answers() const {
  return state_->grammar.http_1_1;
}
bool RequestParser::expects_continue() const {
  const auto field = state_->grammar.request.headers.find("Expect");
  return field != state_->grammar.request.headers.end() &&
         equal_ignoring_case(field->second, "100-continue");
}
Request RequestParser::take() {
  return std::move(state_->grammar.request);
}

struct ResponseParser::State {
  State(bool is_head, uint64_t limit) : head(is_head), body_limit_bytes(limit) {}
  bool head;
  uint64_t body_limit_bytes;
  std::function<bool(std::string_view)> sink;
  std::unique_ptr<Grammar<false>> grammar;
};

ResponseParser::ResponseParser(bool head, uint64_t body_limit_bytes)
    : state_(std::make_unique<State>(head, body_limit_bytes)) {
  restart();
}
ResponseParser::~ResponseParser() = default;
void ResponseParser::restart() {
  state_->grammar = std::make_unique<Grammar<false>>(64 << 10, state_->body_limit_bytes);
  if (state_->head) state_->grammar->skip(true);
  state_->grammar->sink = state_->sink;
}
void ResponseParser::on_body(std::function<bool(std::string_view)> sink) {
  state_->sink = std::move(sink);
  state_->grammar->sink = state_->sink;
}
std::expected<size_t, Malformed> ResponseParser::add(std::string_view input) {
  size_t used = 0;
  while (true) {
    const auto count = state_->grammar->add(input.substr(used));
    if (!count) return count;
    used += *count;
    if (!done() || response().status >= 200 || response().status == 101) return used;
    restart();
  }
}
std::expected<void, Malformed> ResponseParser::end_of_input() {
  error_code error;
  if (!started()) return std::unexpected(Malformed{400, "the answer is empty"});
  state_->grammar->put_eof(error);
  if (error) return std::unexpected(Malformed{400, "the answer ends too early"});
  return {};
}
bool ResponseParser::started() const {
  return state_->grammar->got_some();
}
bool ResponseParser::header_done() const {
  return state_->grammar->is_header_done();
}
bool ResponseParser::done() const {
  return state_->grammar->is_done();
}
bool ResponseParser::keep_alive() const {
  return state_->grammar->keep_alive();
}
const Response& ResponseParser::response() const {
  return state_->grammar->response;
}
Response ResponseParser::take() {
  return std::move(state_->grammar->response);
}

std::string response_head(int status, const Headers& headers, Framing framing, uint64_t body_bytes,
                          bool keep_alive) {
  const auto reason = beast::http::obsolete_reason(beast::http::int_to_status(status));
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", status, text(reason));
  append_fields(head, headers);
  const bool bodiless = status < 200 || status == 204 || status == 304;
  if (framing == Framing::kLength && !bodiless) {
    head += fmt::format("Content-Length: {}\r\n", body_bytes);
  }
  if (framing == Framing::kChunked) head += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive || framing == Framing::kUntilClose) head += "Connection: close\r\n";
  return head + "\r\n";
}

std::string request_head(const Request& request, const std::string& host, bool keep_alive) {
  std::string head = fmt::format("{} {}", request.method, percent_encode_path(request.path));
  if (!request.query.empty()) head += "?" + request.query;
  head += " HTTP/1.1\r\n";
  if (!request.headers.contains("Host")) head += fmt::format("Host: {}\r\n", host);
  append_fields(head, request.headers);
  const bool carries = request.method != "GET" && request.method != "HEAD";
  if (carries || !request.body.empty()) {
    head += fmt::format("Content-Length: {}\r\n", request.body.size());
  }
  if (!keep_alive) head += "Connection: close\r\n";
  return head + "\r\n";
}

std::string chunk_frame(std::string_view chunk) {
  std::string frame = fmt::format("{:x}\r\n", chunk.size());
  frame += chunk;
  return frame += "\r\n";
}

}  // namespace shoal::http
