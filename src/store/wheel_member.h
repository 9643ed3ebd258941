// Takes one file out of a wheel (a ZIP archive). Blocking; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "store/download.h"

namespace shoal {

// Unpacks `member` to `destination` (flushed, renamed into place) while hashing, and keeps it only
// if it has exactly this size and checksum; otherwise the destination is as it was. Memory does not
// grow with the file, and what the archive claims of sizes is not believed. kNotFound, kCorrupt,
// kUnsupported (encrypted), kStorageFull, kCancelled.
Status extract_wheel_member(const std::string& wheel_path, const std::string& member,
                            const std::string& destination, uint64_t expected_size_bytes,
                            const std::string& expected_sha256, const OnTransfer& on_transfer,
                            CancelFlag cancel);

}  // namespace shoal
