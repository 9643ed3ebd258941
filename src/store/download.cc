#include "store/download.h"

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "base/units.h"
#include "store/part_file.h"
#include "store/progress_meter.h"

namespace shoal {
namespace {

constexpr uint64_t kWorthwhileBytes =
    64 << 10;  // an attempt that brought so much starts the count of failures anew
constexpr int kMostRestarts = 3;

// "\"abc\"" and W/"abc" -> abc
std::string bare_etag(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  return std::string(etag);
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

class Download {
 public:
  Download(const DownloadRequest& request, const OnTransfer& on_transfer, CancelFlag cancel)
      : request_(request),
        origin_(request.origin.empty() ? shown_url(request.url) : request.origin),
        shown_(shown_url(request.url)),
        expected_sha256_(request.expected_sha256),
        part_(request.destination),
        meter_(on_transfer),
        cancel_(cancel) {}

  Result<Downloaded> run();

 private:
  enum class Next { kDone, kAgain, kStartOver };

  std::optional<uint64_t> total() const;
  bool is_complete() const {
    return total() && part_.size_bytes() == *total() && part_.size_bytes() > 0;
  }
  Status check_space();
  Status fetch();
  Result<Next> attempt();
  Result<Next> after_failure(const Error& error, bool may_pass, bool never_reached,
                             int retry_after_s);
  Result<Next> start_over(const Error& error_if_again);

  Status on_head(const ResponseHead& head);
  Status check_claims(const ResponseHead& head);
  Status check_kind(const ResponseHead& head) const;
  Status begin_body(const ResponseHead& head);
  Status on_body(std::span<const std::byte> bytes);

  const DownloadRequest& request_;
  const std::string origin_;
  const std::string shown_;
  std::string expected_sha256_;  // the request's, else what the server promises
  PartFile part_;
  ProgressMeter meter_;
  CancelFlag cancel_;
  bool use_ranges_ = true;
  bool must_start_over_ =
      false;  // said by on_head: what we hold is not the beginning of this answer
  uint64_t size_before_attempt_ = 0;
  int failures_ = 0;
  int restarts_ = 0;
  bool ever_progressed_ = false;
};

std::optional<uint64_t> Download::total() const {
  if (request_.expected_size_bytes) return request_.expected_size_bytes;
  return part_.identity() ? part_.identity()->total_bytes : std::nullopt;
}

Status Download::check_space() {
  if (!total() || *total() <= part_.size_bytes()) return {};
  return check_free_space(parent_directory(request_.destination), *total() - part_.size_bytes());
}

// Before anything is written: what the server (or the one who redirects to it) says that the file
// is.
Status Download::check_claims(const ResponseHead& head) {
  if (head.linked_size_bytes && request_.expected_size_bytes &&
      *head.linked_size_bytes != *request_.expected_size_bytes) {
    return fail(ErrorCode::kCorrupt,
                "{} is a file of {} bytes where {} are expected: it is another file", shown_,
                *head.linked_size_bytes, *request_.expected_size_bytes);
  }
  const std::string claimed = bare_etag(head.linked_etag);
  if (!is_sha256(claimed)) return {};
  if (expected_sha256_.empty()) expected_sha256_ = claimed;
  if (claimed == expected_sha256_) return {};
  return fail(ErrorCode::kCorrupt,
              "{} is another file than the one expected: its SHA-256 is {}, not {}", shown_,
              claimed, expected_sha256_);
}

Status Download::check_kind(const ResponseHead& head) const {
  if (!request_.instead_content_type.empty() &&
      head.content_type.starts_with(request_.instead_content_type)) {
    return fail(ErrorCode::kConflict, "{} is not one file", shown_);
  }
  if (head.content_type.starts_with("text/html")) {
    return fail(ErrorCode::kCorrupt,
                "{} answered with a web page instead of the file; a login page or a filter may "
                "stand between",
                shown_);
  }
  if (!head.content_encoding.empty() && head.content_encoding != "identity") {
    return fail(ErrorCode::kUnsupported,
                "{} sends the file in the encoding '{}', which was not asked for", shown_,
                head.content_encoding);
  }
  return {};
}

Status Download::on_head(const ResponseHead& head) {
  SHOAL_TRY(check_claims(head));
  if (head.status < 200 || head.status >= 300) return {};
  if (head.status != 200 && head.status != 206) {
    return fail(ErrorCode::kUnsupported, "{} answered with status {} instead of the file", shown_,
                head.status);
  }
  SHOAL_TRY(check_kind(head));
  return begin_body(head);
}

Status Download::begin_body(const ResponseHead& head) {
  PartFile::Identity identity{origin_, bare_etag(head.linked_etag), {}};
  if (identity.validator.empty()) identity.validator = bare_etag(head.etag);
  if (identity.validator.empty()) identity.validator = head.last_modified;
  identity.total_bytes = head.status == 206 ? head.range_total : head.content_length;
  if (identity.total_bytes && request_.expected_size_bytes &&
      *identity.total_bytes != *request_.expected_size_bytes) {
    return fail(ErrorCode::kCorrupt,
                "{} is a file of {} bytes where {} are expected: it is another file", shown_,
                *identity.total_bytes, *request_.expected_size_bytes);
  }
  if (head.status == 206) {
    const uint64_t begin = head.range_begin.value_or(UINT64_MAX);
    const auto& known = part_.identity();
    const bool fits = begin == part_.size_bytes() && known &&
                      known->validator == identity.validator &&
                      (!known->total_bytes || !identity.total_bytes ||
                       *known->total_bytes == *identity.total_bytes);
    if (!fits && begin != 0) {
      // Another file than the one begun, or a server that counts otherwise: whole, then.
      use_ranges_ = begin == part_.size_bytes();
      must_start_over_ = true;
      return fail(ErrorCode::kCorrupt, "{} does not go on where the file was left", shown_);
    }
    if (fits) return check_space();
  }
  SHOAL_TRY(part_.start(identity));
  size_before_attempt_ = 0;
  return check_space();
}

Status Download::on_body(std::span<const std::byte> bytes) {
  const auto limit = total();
  if (limit && bytes.size() > *limit - std::min(*limit, part_.size_bytes())) {
    part_.discard();
    return fail(ErrorCode::kCorrupt, "{} sends more than the {} bytes that the file has", shown_,
                *limit);
  }
  for (size_t i = 0; i < bytes.size() && part_.size_bytes() + i < request_.expected_start.size();
       ++i) {
    if (static_cast<char>(bytes[i]) != request_.expected_start[part_.size_bytes() + i]) {
      part_.discard();
      return fail(ErrorCode::kCorrupt, "{} is not a {} file: it begins otherwise", shown_,
                  request_.expected_start);
    }
  }
  SHOAL_TRY(part_.append(bytes));
  if (!limit) SHOAL_TRY(check_free_space(parent_directory(request_.destination), 0));
  meter_.show(part_.size_bytes(), limit.value_or(0));
  return {};
}

Result<Download::Next> Download::start_over(const Error& error_if_again) {
  if (++restarts_ > kMostRestarts) return std::unexpected(error_if_again);
  part_.discard();
  must_start_over_ = false;
  return Next::kStartOver;
}

Result<Download::Next> Download::after_failure(const Error& error, bool may_pass,
                                               bool never_reached, int retry_after_s) {
  if (must_start_over_) return start_over(error);
  if (!may_pass) return std::unexpected(error);
  const uint64_t gained = part_.size_bytes() - std::min(part_.size_bytes(), size_before_attempt_);
  if (gained > 0) ever_progressed_ = true;
  failures_ = gained >= kWorthwhileBytes ? 1 : failures_ + 1;
  // A host that was never reached is rarely there a minute later, and another source may be; one
  // that was is worth the whole patience.
  const int most = never_reached && !ever_progressed_ ? std::min(2, request_.http.patience.attempts)
                                                      : request_.http.patience.attempts;
  if (failures_ >= most) {
    if (part_.size_bytes() == 0) return std::unexpected(error);
    return fail(
        error.code,
        "{} (after {} attempts; {} have arrived and are kept: pull again to go on from there)",
        error.message, failures_, format_bytes(part_.size_bytes()));
  }
  if (!pause_unless_cancelled(
          pause_before_attempt_ms(request_.http.patience, failures_, retry_after_s), cancel_)) {
    return fail(ErrorCode::kCancelled, "the download was cancelled; what has arrived is kept");
  }
  return Next::kAgain;
}

Result<Download::Next> Download::attempt() {
  size_before_attempt_ = part_.size_bytes();
  // Without a validator or a checksum nobody would notice that the file has changed since.
  const bool would_notice =
      !expected_sha256_.empty() || (part_.identity() && !part_.identity()->validator.empty());
  const uint64_t offset = use_ranges_ && would_notice ? part_.size_bytes() : 0;
  HttpHandlers handlers;
  handlers.on_head = [this](const ResponseHead& head) { return on_head(head); };
  handlers.on_body = [this](std::span<const std::byte> bytes) { return on_body(bytes); };
  const HttpOutcome outcome = http_get(request_.url, offset, request_.http, handlers, cancel_);
  const ResponseHead& head = outcome.head;
  if (outcome.error) {
    return after_failure(*outcome.error, outcome.may_pass, outcome.never_reached,
                         head.retry_after_s);
  }
  if (head.status == 416 && offset > 0) {
    if (head.range_total == part_.size_bytes()) return Next::kDone;  // it was whole already
    return start_over(status_error(head, request_.url));
  }
  if (head.status < 200 || head.status >= 300) {
    Error error = status_error(head, request_.url);
    if ((head.status == 401 || head.status == 403) && !request_.permission_hint.empty()) {
      error.message += "; " + request_.permission_hint;
    }
    return after_failure(error, is_passing_status(head.status), false, head.retry_after_s);
  }
  if (total() && part_.size_bytes() < *total()) {
    const Error short_answer{
        ErrorCode::kUnreachable,
        fmt::format("{} ended after {} of {} bytes", shown_, part_.size_bytes(), *total())};
    return after_failure(short_answer, true, false, 0);
  }
  return Next::kDone;
}

Status Download::fetch() {
  if (total() && part_.size_bytes() > *total()) part_.discard();
  SHOAL_TRY(check_space());
  meter_.restart(part_.size_bytes());
  while (!is_complete()) {
    SHOAL_ASSIGN(const Next next, attempt());
    if (next == Next::kDone) break;
  }
  meter_.finish(part_.size_bytes(), total().value_or(part_.size_bytes()));
  return {};
}

Result<Downloaded> Download::run() {
  SHOAL_TRY(part_.open(origin_, [&](uint64_t done, uint64_t total) {
    meter_.show(done, total, true);
    return !is_cancelled(cancel_);
  }));
  for (bool second_try = false;; second_try = true) {
    SHOAL_TRY(fetch());
    if (part_.size_bytes() == 0) {
      part_.discard();
      return fail(ErrorCode::kCorrupt, "{} is an empty file", shown_);
    }
    const Downloaded result{part_.finish_hash(), part_.size_bytes()};
    if (expected_sha256_.empty() || result.sha256 == expected_sha256_) {
      SHOAL_TRY(part_.publish());
      return result;
    }
    // Bytes of an earlier run may have been lost in a power cut or belong to a file since replaced:
    // they get one chance to be fetched anew. Bytes that all came just now do not.
    const bool earlier_bytes_may_be_at_fault = part_.holds_earlier_bytes();
    part_.discard();
    if (second_try || !earlier_bytes_may_be_at_fault) {
      return fail(ErrorCode::kCorrupt,
                  "what {} sent has the SHA-256 {}, not {} as expected; it was thrown away, and no "
                  "other file was touched",
                  shown_, result.sha256, expected_sha256_);
    }
  }
}

}  // namespace

Result<Downloaded> download(const DownloadRequest& request, const OnTransfer& on_transfer,
                            CancelFlag cancel) {
  return Download(request, on_transfer, cancel).run();
}

}  // namespace shoal
