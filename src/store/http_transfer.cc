#include "store/http_transfer.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

#include "base/bytes.h"
#include "base/units.h"
#include "store/model_name.h"

namespace shoal {
namespace {

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// "bytes 100-199/200", "bytes */200" (RFC 9110, 14.4)
void read_content_range(std::string_view value, ResponseHead& head) {
  if (!value.starts_with("bytes")) return;
  value = trimmed(value.substr(5));
  const auto slash = value.find('/');
  if (slash == std::string_view::npos) return;
  head.range_total = number(trimmed(value.substr(slash + 1)));
  const auto dash = value.find('-');
  if (dash != std::string_view::npos && dash < slash)
    head.range_begin = number(trimmed(value.substr(0, dash)));
}

void read_header(std::string_view line, ResponseHead& head) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string name = lower_case(trimmed(line.substr(0, colon)));
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (name == "content-type") head.content_type = lower_case(value);
  if (name == "content-encoding") head.content_encoding = lower_case(value);
  if (name == "content-length") head.content_length = number(value);
  if (name == "content-range") read_content_range(value, head);
  if (name == "etag") head.etag = value;
  if (name == "last-modified") head.last_modified = value;
  if (name == "location") head.location = value;
  if (name == "retry-after")
    head.retry_after_s = static_cast<int>(std::min<uint64_t>(number(value).value_or(0), 3600));
  if (name == "x-error-message") head.error_message = value.substr(0, 300);
  if (name == "x-linked-etag") head.linked_etag = value;
  if (name == "x-linked-size") head.linked_size_bytes = number(value);
}

// What libcurl's callbacks share for the length of one transfer.
struct Transfer {
  const HttpHandlers& handlers;
  CancelFlag cancel;
  ResponseHead head;
  std::optional<Error> stopped;  // our own reason for ending the transfer

  bool run(const std::function<Status()>& handler) {
    Status status = handler();
    if (!status) stopped = std::move(status).error();
    return status.has_value();
  }
};

size_t on_header_line(char* data, size_t, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, count);
  if (line.starts_with("HTTP/")) {
    ResponseHead fresh;  // a redirect's answer follows; what it said of the file stays known
    fresh.linked_etag = std::move(transfer.head.linked_etag);
    fresh.linked_size_bytes = transfer.head.linked_size_bytes;
    const auto space = line.find(' ');
    if (space != std::string_view::npos) {
      fresh.status = static_cast<int>(number(line.substr(space + 1, 3)).value_or(0));
    }
    transfer.head = std::move(fresh);
  } else if (trimmed(line).empty()) {
    const bool interim = transfer.head.status >= 100 && transfer.head.status < 200;
    if (!interim && transfer.handlers.on_head &&
        !transfer.run([&] { return transfer.handlers.on_head(transfer.head); })) {
      return 0;
    }
  } else {
    read_header(line, transfer.head);
  }
  return count;
}

size_t on_body_bytes(char* data, size_t, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (transfer.head.status < 200 || transfer.head.status >= 300 || !transfer.handlers.on_body)
    return count;
  const auto bytes = std::as_bytes(std::span(data, count));
  return transfer.run([&] { return transfer.handlers.on_body(bytes); }) ? count : 0;
}

int on_tick(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(user);
  return is_cancelled(transfer.cancel) ? 1 : 0;
}

std::string ca_file_of(const HttpOptions& options) {
  if (!options.ca_file.empty()) return options.ca_file;
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return "";
}

std::string base64(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint32_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j)
      text += j <= bytes.size() - i ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

// A peer is whoever proves the key of the pinned fingerprint; certificate authorities, names and
// proxies have no part.
Status set_peer(CURL* curl, const PeerSource& peer) {
  SHOAL_ASSIGN(const Bytes fingerprint, from_hex(peer.pinned_fingerprint_hex));
  if (fingerprint.size() != 32) {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is no node id: 64 hexadecimal digits are expected",
                peer.pinned_fingerprint_hex);
  }
  const auto blob = [](const std::string& text) {
    return curl_blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
  };
  curl_blob certificate = blob(peer.certificate_pem);
  curl_blob key = blob(peer.private_key_pem);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  // TLS 1.3 has no handshake without a server certificate unless a session is resumed, and none is.
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_3);
  curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
  const CURLcode pinned =
      curl_easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, ("sha256//" + base64(fingerprint)).c_str());
  if (pinned != CURLE_OK) return fail(ErrorCode::kInternal, "this libcurl cannot pin a key");
  if (!peer.certificate_pem.empty()) {
    curl_easy_setopt(curl, CURLOPT_SSLCERTTYPE, "PEM");
    curl_easy_setopt(curl, CURLOPT_SSLCERT_BLOB, &certificate);
    curl_easy_setopt(curl, CURLOPT_SSLKEYTYPE, "PEM");
    curl_easy_setopt(curl, CURLOPT_SSLKEY_BLOB, &key);
  }
  return {};
}

void set_public(CURL* curl, const std::string& url, const std::string& ca_file) {
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // Once encrypted, always encrypted.
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR,
                   url.starts_with("https:") ? "https" : "http,https");
  if (!ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file.c_str());
}

struct Failure {
  ErrorCode code;
  bool may_pass;
  bool never_reached;
};

Failure classify(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      return {ErrorCode::kUnreachable, true, true};
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
      return {ErrorCode::kUnreachable, true, false};
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      return {ErrorCode::kPermission, false, false};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return {ErrorCode::kInvalidArgument, false, false};
    case CURLE_OUT_OF_MEMORY:
      return {ErrorCode::kDoesNotFit, false, false};
    default:
      return {ErrorCode::kUnreachable, false, false};
  }
}

Error describe(CURLcode code, const char* detail, const std::string& url,
               const HttpOptions& options) {
  const std::string shown = shown_url(url);
  const std::string why = *detail != '\0' ? detail : curl_easy_strerror(code);
  const ErrorCode kind = classify(code).code;
  switch (code) {
    case CURLE_TOO_MANY_REDIRECTS:
      return {kind, fmt::format("{} redirects in circles (more than 10 times)", shown)};
    case CURLE_PARTIAL_FILE:
      return {kind, fmt::format("{} closed the connection before the end of the file", shown)};
    case CURLE_GOT_NOTHING:
      return {kind, fmt::format("{} closed the connection without an answer", shown)};
    case CURLE_OPERATION_TIMEDOUT:
      return {
          kind,
          fmt::format("{} did not answer in time, or sent less than {} per second for {} s", shown,
                      format_bytes(static_cast<uint64_t>(options.patience.slow_bytes_per_s)),
                      options.patience.slow_after_s)};
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return {kind,
              fmt::format("{} did not prove the key of node {}", shown,
                          options.peer != nullptr ? options.peer->pinned_fingerprint_hex : "")};
    case CURLE_PEER_FAILED_VERIFICATION:
      return {
          kind,
          fmt::format(
              "{} has a certificate that this machine does not trust ({}); if it stands behind a "
              "company's own authority, name that one's file in SSL_CERT_FILE",
              shown, why)};
    default:
      return {kind, fmt::format("cannot fetch {}: {}", shown, why)};
  }
}

using CurlHandle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using CurlList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

CurlHandle new_handle() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  return {curl_easy_init(), curl_easy_cleanup};
}

HttpOutcome failed(Error error) {
  HttpOutcome outcome;
  outcome.error = std::move(error);
  return outcome;
}

void set_common(CURL* curl, const std::string& url, const NetworkPatience& patience) {
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "shoal");
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(patience.connect_timeout_ms));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(patience.slow_bytes_per_s));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(patience.slow_after_s));
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

}  // namespace

HttpOutcome http_get(const std::string& url, uint64_t offset, const HttpOptions& options,
                     const HttpHandlers& handlers, CancelFlag cancel) {
  const CurlHandle handle = new_handle();
  if (!handle) return failed({ErrorCode::kInternal, "libcurl did not start"});
  CURL* curl = handle.get();
  Transfer transfer{handlers, cancel, {}, {}};
  char detail[CURL_ERROR_SIZE] = "";
  set_common(curl, url, options.patience);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header_line);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_tick);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  if (options.peer != nullptr) {
    if (Status set = set_peer(curl, *options.peer); !set) return failed(set.error());
  } else {
    set_public(curl, url, ca_file_of(options));
  }
  CurlList headers(nullptr, curl_slist_free_all);
  for (const std::string& header : options.headers) {
    headers.reset(curl_slist_append(headers.release(), header.c_str()));
  }
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  const std::string range = options.range_bytes > 0
                                ? fmt::format("{}-{}", offset, offset + options.range_bytes - 1)
                                : fmt::format("{}-", offset);
  if (offset > 0 || options.range_bytes > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());

  const CURLcode code = curl_easy_perform(curl);
  HttpOutcome outcome;
  outcome.head = std::move(transfer.head);
  char* effective = nullptr;
  curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &effective);
  outcome.effective_url = effective != nullptr ? effective : url;
  if (transfer.stopped) {
    outcome.error = std::move(transfer.stopped);
  } else if (is_cancelled(cancel)) {
    outcome.error =
        Error{ErrorCode::kCancelled, "the download was cancelled; what has arrived is kept"};
  } else if (code != CURLE_OK) {
    const Failure failure = classify(code);
    outcome.error = describe(code, detail, url, options);
    outcome.may_pass = failure.may_pass;
    outcome.never_reached = failure.never_reached;
  }
  return outcome;
}

bool is_passing_status(int status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

Error status_error(const ResponseHead& head, const std::string& url) {
  const std::string shown = shown_url(url);
  const std::string said =
      head.error_message.empty() ? "" : fmt::format(" (\"{}\")", head.error_message);
  switch (head.status) {
    case 401:
      return {ErrorCode::kPermission, fmt::format("{} asks who you are (401){}", shown, said)};
    case 403:
      return {ErrorCode::kPermission,
              fmt::format("{} refuses to hand out the file (403){}", shown, said)};
    case 404:
    case 410:
      return {ErrorCode::kNotFound, fmt::format("there is no {} ({}){}", shown, head.status, said)};
    case 429:
      return {ErrorCode::kBusy,
              fmt::format("{} asks us to slow down (429){}; try again later", shown, said)};
    default:
      return {head.status >= 500 ? ErrorCode::kUnreachable : ErrorCode::kUnsupported,
              fmt::format("{} answered with status {}{}", shown, head.status, said)};
  }
}

bool pause_unless_cancelled(int pause_ms, CancelFlag cancel) {
  for (; pause_ms > 0 && !is_cancelled(cancel); pause_ms -= 50) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min(pause_ms, 50)));
  }
  return !is_cancelled(cancel);
}

int pause_before_attempt_ms(const NetworkPatience& patience, int failures, int retry_after_s) {
  const int64_t doubled = int64_t{patience.first_pause_ms} << std::min(failures - 1, 16);
  const int64_t asked = int64_t{std::min(retry_after_s, 60)} * 1000;
  return static_cast<int>(std::max(std::min<int64_t>(doubled, patience.longest_pause_ms), asked));
}

Result<Document> http_get_document(const std::string& url, const HttpOptions& options,
                                   uint64_t limit_bytes, CancelFlag cancel) {
  for (int failures = 0;;) {
    Document document;
    HttpHandlers handlers;
    handlers.on_body = [&](std::span<const std::byte> bytes) -> Status {
      document.text += as_text(bytes);
      if (document.text.size() <= limit_bytes) return {};
      return fail(ErrorCode::kTooLarge, "{} is over {} long", shown_url(url),
                  format_bytes(limit_bytes));
    };
    const HttpOutcome outcome = http_get(url, 0, options, handlers, cancel);
    const int status = outcome.head.status;
    if (!outcome.error && status >= 200 && status < 300) {
      document.content_type = outcome.head.content_type;
      document.effective_url = outcome.effective_url;
      return document;
    }
    const Error error = outcome.error ? *outcome.error : status_error(outcome.head, url);
    const bool may_pass = outcome.error ? outcome.may_pass : is_passing_status(status);
    ++failures;
    // A host that cannot be reached at all is rarely there a minute later; another source may be.
    if (!may_pass || failures >= (outcome.never_reached ? 2 : options.patience.attempts))
      return std::unexpected(error);
    if (!pause_unless_cancelled(
            pause_before_attempt_ms(options.patience, failures, outcome.head.retry_after_s),
            cancel)) {
      return fail(ErrorCode::kCancelled, "the request to {} was cancelled", shown_url(url));
    }
  }
}

}  // namespace shoal
