// One file from one address onto the disk: resumed, retried, verified. The part file's rules are
// part_file.h's. Blocking; any thread, one download per destination at a time (the store's lock
// sees to it).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "store/http_transfer.h"

namespace shoal {

struct TransferProgress {
  bool checking = false;  // hashing what an earlier run left
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;  // 0: not known
  double bytes_per_s = 0;
};
// At most ten times a second, and at the end.
using OnTransfer = std::function<void(const TransferProgress&)>;

struct DownloadRequest {
  std::string url;
  std::string origin;           // what the bytes are known by across runs; "": the URL, shown
  std::string destination;      // its directory exists
  std::string expected_sha256;  // "": not known
  std::optional<uint64_t> expected_size_bytes;
  std::string expected_start;   // the file's first bytes, "GGUF"; "": anything
  std::string permission_hint;  // added to the sentence of a 401 or 403
  // An answer of this type is not the file but says what to fetch in its place: kConflict.
  std::string instead_content_type;
  HttpOptions http;
};

struct Downloaded {
  std::string sha256;
  uint64_t size_bytes = 0;
};

// On success the file lies at the destination, flushed. On failure the destination is as it was,
// and what is of use for another try stays beside it. kStorageFull, kCorrupt (a checksum, a length
// or a web page instead of a file), kNotFound, kPermission, kUnreachable, kCancelled.
Result<Downloaded> download(const DownloadRequest& request, const OnTransfer& on_transfer,
                            CancelFlag cancel);

}  // namespace shoal
