// Numbers as people read and write them. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace shoal {

std::string format_bytes(
    uint64_t bytes);  // 98362432 -> "98.4 MB" (decimal, as disks and models are sold)
std::string format_duration(double seconds);  // 0.0123 -> "12.3 ms", 75 -> "1 min 15 s"
Result<uint64_t> parse_bytes(
    std::string_view text);  // "1.8GB", "1800MB", "512MiB", "4096"; kInvalidArgument otherwise

}  // namespace shoal
