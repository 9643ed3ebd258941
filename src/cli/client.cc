#include "cli/client.h"

#include <curl/curl.h>

#include "cli/interrupt.h"

namespace shoal::cli {

struct Client::Call {
  std::string path;
  const Json* body = nullptr;
  const std::function<void(std::string_view)>* on_line = nullptr;
  std::string received;  // the whole answer, or the line that is not complete yet
  long status = 0;
  void* curl = nullptr;

  // Lines of a good answer go out as they complete; the text of a refusal is kept whole.
  size_t add(std::string_view bytes) {
    received += bytes;
    if (status == 0) curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (on_line == nullptr || status >= 400) return bytes.size();
    size_t begin = 0;
    for (size_t end; (end = received.find('\n', begin)) != std::string::npos; begin = end + 1) {
      if (interrupted()) return 0;
      (*on_line)(std::string_view(received).substr(begin, end - begin));
    }
    received.erase(0, begin);
    return bytes.size();
  }
};

namespace {

// The daemon's own sentence; the API's errors have OpenAI's codes, so the status says more.
Error error_of(const std::string& body, long status) {
  const Result<Json> json = parse_json(body);
  std::optional<Error> error = json ? error_from_json(*json) : std::nullopt;
  if (!error)
    return {ErrorCode::kInternal, fmt::format("the daemon answered with status {}", status)};
  if (error->code != ErrorCode::kInternal) return *error;
  if (status == 404) error->code = ErrorCode::kNotFound;
  if (status == 400) error->code = ErrorCode::kInvalidArgument;
  if (status == 401 || status == 403) error->code = ErrorCode::kPermission;
  return *error;
}

}  // namespace

Client::Client(std::string home, std::string host, std::string api_key)
    : socket_path_(home + "/shoal.sock"),
      host_(std::move(host)),
      api_key_(std::move(api_key)),
      curl_(curl_easy_init()) {
  if (!host_.empty() && host_.find("://") == std::string::npos) host_ = "http://" + host_;
  while (!host_.empty() && host_.back() == '/') host_.pop_back();
}

Client::~Client() {
  curl_easy_cleanup(curl_);
}

std::string Client::where() const {
  return host_.empty() ? socket_path_ : host_;
}

Status Client::perform(Call& call) {
  curl_easy_reset(curl_);
  call.curl = curl_;
  const std::string url = (host_.empty() ? "http://localhost" : host_) + call.path;
  curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
  if (host_.empty()) {
    curl_easy_setopt(curl_, CURLOPT_UNIX_SOCKET_PATH, socket_path_.c_str());
    curl_easy_setopt(curl_, CURLOPT_PROXY, "");
  }
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
  curl_slist* headers = nullptr;
  if (!api_key_.empty())
    headers = curl_slist_append(headers, ("Authorization: Bearer " + api_key_).c_str());
  std::string text;
  if (call.body != nullptr) {
    text = dump_json(*call.body);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, text.c_str());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(text.size()));
  }
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &call);
  curl_easy_setopt(
      curl_, CURLOPT_WRITEFUNCTION,
      +[](char* data, size_t size, size_t count, void* user) -> size_t {
        return static_cast<Call*>(user)->add({data, size * count});
      });
  if (call.on_line != nullptr) {  // asked while the daemon says nothing, too
    curl_easy_setopt(curl_, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(
        curl_, CURLOPT_XFERINFOFUNCTION,
        +[](void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
          return interrupted() ? 1 : 0;
        });
  }
  const CURLcode code = curl_easy_perform(curl_);
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &call.status);
  curl_slist_free_all(headers);
  if (call.on_line != nullptr && interrupted()) return fail(ErrorCode::kCancelled, "interrupted");
  if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
    return fail(ErrorCode::kUnreachable, "no daemon answers at {}; start one with `shoal serve`",
                where());
  }
  if (code != CURLE_OK) {
    return fail(ErrorCode::kUnreachable, "the connection to the daemon at {} broke: {}", where(),
                curl_easy_strerror(code));
  }
  if (call.status >= 400) return std::unexpected(error_of(call.received, call.status));
  return {};
}

Result<Json> Client::get(const std::string& path) {
  Call call;
  call.path = path;
  SHOAL_TRY(perform(call));
  return parse_json(call.received);
}

Result<Json> Client::post(const std::string& path, const Json& body) {
  Call call;
  call.path = path;
  call.body = &body;
  SHOAL_TRY(perform(call));
  return parse_json(call.received);
}

Status Client::stream(const std::string& path, const Json& body,
                      const std::function<void(std::string_view)>& on_line) {
  Call call;
  call.path = path;
  call.body = &body;
  call.on_line = &on_line;
  return perform(call);
}

}  // namespace shoal::cli
