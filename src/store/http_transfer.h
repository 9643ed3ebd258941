// One HTTP request by libcurl, with everything that can go wrong on the way sorted for those who
// retry. Blocking; any thread, one object per request. Never on the daemon's loop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace shoal {

// Set by another thread to stop; looked at at least once a second. May be null everywhere.
using CancelFlag = const std::atomic<bool>*;
inline bool is_cancelled(CancelFlag cancel) {
  return cancel != nullptr && cancel->load();
}

// How patient transfers are. The defaults suit people; tests are less patient.
struct NetworkPatience {
  int connect_timeout_ms = 20'000;
  int slow_bytes_per_s = 1024;  // slower than this for slow_after_s counts as a lost connection
  int slow_after_s = 30;
  int attempts = 6;          // in a row that bring nothing new
  int first_pause_ms = 500;  // doubled from one attempt to the next
  int longest_pause_ms = 15'000;
};

// A node of this cluster as a server: proven by its key, not by a certificate authority.
struct PeerSource {
  std::string url;  // "https://HOST:PORT/control/files/<sha256>"
  std::string
      pinned_fingerprint_hex;   // SHA-256 of its certificate's SubjectPublicKeyInfo: its node id
  std::string certificate_pem;  // ours, for mutual TLS
  std::string private_key_pem;
};

struct HttpOptions {
  std::vector<std::string>
      headers;          // "Name: value"; an Authorization is dropped at a redirect to another host
  std::string ca_file;  // "": CURL_CA_BUNDLE, SSL_CERT_FILE, else libcurl's own
  const PeerSource* peer = nullptr;  // outlives the transfer
  uint64_t range_bytes = 0;          // ask for so many bytes from the offset; 0: to the end
  NetworkPatience patience;
};

// What an answer says of itself before its body.
struct ResponseHead {
  int status = 0;
  std::string content_type;
  std::string content_encoding;
  std::string etag;
  std::string last_modified;
  std::string location;
  std::optional<uint64_t> content_length;
  std::optional<uint64_t> range_begin;  // of Content-Range
  std::optional<uint64_t> range_total;  // likewise; also of a 416
  int retry_after_s = 0;
  std::string error_message;  // X-Error-Message
  // Of any response on the way, redirects included: what the file is, said by who sends us on.
  std::string linked_etag;
  std::optional<uint64_t> linked_size_bytes;
};

struct HttpOutcome {
  ResponseHead head;  // the last one
  std::string effective_url;
  std::optional<Error> error;
  bool may_pass = false;       // the error is of the kind that a later attempt may not meet
  bool never_reached = false;  // no connection came about
};

struct HttpHandlers {
  // After each response's head, redirects included. An error ends the transfer and becomes its
  // outcome.
  std::function<Status(const ResponseHead&)> on_head;
  std::function<Status(std::span<const std::byte>)> on_body;  // bodies of 2xx answers only
};

// GET from `offset` (0: the whole, without a Range header). A status of 400 and more is not an
// error here: look at `head`.
HttpOutcome http_get(const std::string& url, uint64_t offset, const HttpOptions& options,
                     const HttpHandlers& handlers, CancelFlag cancel);

// A small document, with retries. kNotFound, kPermission, kUnreachable, kTooLarge.
struct Document {
  std::string text;
  std::string content_type;
  std::string effective_url;
};
Result<Document> http_get_document(const std::string& url, const HttpOptions& options,
                                   uint64_t limit_bytes, CancelFlag cancel);

// Sleeps; false when cancelled meanwhile.
bool pause_unless_cancelled(int pause_ms, CancelFlag cancel);
int pause_before_attempt_ms(const NetworkPatience& patience, int failures, int retry_after_s);

// The sentence for a status that is neither a success nor worth another attempt (see
// is_passing_status).
Error status_error(const ResponseHead& head, const std::string& url);
bool is_passing_status(int status);  // 408, 425, 429, 5xx

// For sentences: without user, password and query.
std::string shown_url(const std::string& url);
// `reference` as found in a page at `base`; "" when it is none.
std::string resolve_url(const std::string& base, const std::string& reference);
// `url` with the user and password of `base` when both name the same host and port and `url` has
// none of its own.
std::string with_credentials_of(const std::string& base, const std::string& url);
// One path segment or several ('/' kept), percent-encoded.
std::string encode_path(std::string_view path);

}  // namespace shoal
