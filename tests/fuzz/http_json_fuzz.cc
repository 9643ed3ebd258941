// HTTP messages from strangers, and the JSON in them: no crash, limits kept, and the same request
// however its bytes are cut into pieces.
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "api/gate.h"
#include "api/request.h"
#include "http/message.h"

namespace {

using shoal::http::Request;

constexpr uint64_t kHeaderBytes = 2048;
constexpr uint64_t kBodyBytes = 16384;

void demand(bool holds) {
  if (!holds) std::abort();
}

// The first request of `input`, offered in pieces of `piece_bytes`; nothing when it is refused or
// not whole.
std::optional<Request> read_request(std::string_view input, size_t piece_bytes) {
  shoal::http::ServerLimits limits;
  limits.header_bytes = kHeaderBytes;
  limits.body_bytes = kBodyBytes;
  shoal::http::RequestParser parser(limits);
  size_t begin = 0;
  for (size_t end = 0; end < input.size();) {
    end = std::min(input.size(), end + piece_bytes);
    const auto used = parser.add(input.substr(begin, end - begin));
    if (!used) return std::nullopt;
    demand(*used <= end - begin);
    begin += *used;
    if (parser.done()) return parser.take();
    demand(end - begin <= kHeaderBytes);  // what a connection would have to keep
  }
  return std::nullopt;
}

void ask_api(const Request& request) {
  shoal::api::ApiOptions options;
  (void)shoal::api::check_origin(request, options);
  options.api_key = "key";
  demand(!shoal::api::has_key(request, options) || request.headers.contains("Authorization"));
  (void)shoal::api::check_content_type(request);
  for (const bool chat : {true, false}) {
    const auto question = chat ? shoal::api::parse_chat(request.body, 1)
                               : shoal::api::parse_completion(request.body, 1);
    if (!question) {
      (void)shoal::api::error_response(question.error());
      continue;
    }
    demand(!question->choices.empty() && question->choices.size() <= shoal::api::kMostChoices);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t piece_bytes = size_t{1} + data[0];
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto in_pieces = read_request(input, piece_bytes);
  if (in_pieces) {
    const auto at_once = read_request(input, input.size());
    demand(at_once && at_once->method == in_pieces->method && at_once->path == in_pieces->path);
    demand(at_once->headers == in_pieces->headers && at_once->body == in_pieces->body);
    demand(in_pieces->body.size() <= kBodyBytes);
    ask_api(*in_pieces);
  }
  Request bare;
  bare.body = input;
  ask_api(bare);
  shoal::http::ResponseParser response(data[0] & 1, kBodyBytes);
  size_t used = 0;
  while (used < input.size() && !response.done()) {
    const auto count = response.add(input.substr(used));
    if (!count || *count == 0) break;
    used += *count;
  }
  return 0;
}
