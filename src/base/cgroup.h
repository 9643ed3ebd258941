// What the control groups (version 1 and 2) of this process leave it of the machine's memory.
// Reads the files under /proc and /sys at every call. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace shoal {

struct CgroupMemory {
  // The tightest of the group and its ancestors; UINT64_MAX where nothing limits.
  uint64_t limit_bytes = UINT64_MAX;
  // Limit minus use, where cached file pages count as free: the kernel drops them first.
  uint64_t available_bytes = UINT64_MAX;
};

// `root` stands before every path that is read, for tests. Without groups, or with files that make
// no sense, nothing limits.
CgroupMemory cgroup_memory(const std::string& root = "");

}  // namespace shoal
