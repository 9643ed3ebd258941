#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <string_view>

#include "base/file.h"

namespace shoal {
namespace {

// The file names of one version. Values are decimal bytes, or "max" for none.
struct Version {
  const char* limit;
  const char* soft_limit;  // beyond it the kernel throttles without end; "" where there is none
  const char* usage;
  const char* inactive_file;
  const char* active_file;
};
constexpr Version kVersion1 = {"memory.limit_in_bytes", "", "memory.usage_in_bytes",
                               "total_inactive_file", "total_active_file"};
constexpr Version kVersion2 = {"memory.max", "memory.high", "memory.current", "inactive_file",
                               "active_file"};
// Version 1 writes "no limit" as the largest multiple of a page below 2^63.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<uint64_t> number_in(const std::string& path) {
  const auto text = read_file(path, 4096);
  return text ? number(*text) : std::nullopt;
}

uint64_t cached_file_bytes(const std::string& directory, const Version& version) {
  const auto text = read_file(directory + "/memory.stat", 1 << 20);
  if (!text) return 0;
  uint64_t sum = 0;
  std::istringstream lines(*text);
  for (std::string name, value; lines >> name >> value;) {
    if (name == version.inactive_file || name == version.active_file) {
      sum += number(value).value_or(0);
    }
  }
  return sum;
}

void narrow(CgroupMemory& memory, const std::string& directory, const Version& version) {
  uint64_t limit = number_in(directory + "/" + version.limit).value_or(UINT64_MAX);
  if (*version.soft_limit != '\0') {
    limit = std::min(limit, number_in(directory + "/" + version.soft_limit).value_or(UINT64_MAX));
  }
  if (limit >= kNoLimit) return;
  memory.limit_bytes = std::min(memory.limit_bytes, limit);
  uint64_t usage = number_in(directory + "/" + version.usage).value_or(0);
  usage -= std::min(usage, cached_file_bytes(directory, version));
  memory.available_bytes = std::min(memory.available_bytes, limit - std::min(limit, usage));
}

// The group itself, then each ancestor up to where the hierarchy is mounted.
void narrow_upwards(CgroupMemory& memory, const std::string& mount, std::string group,
                    const Version& version) {
  while (true) {
    narrow(memory, mount + group, version);
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (list.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
  return false;
}

// This process's group in one hierarchy, as /proc/self/cgroup names it: "4:memory:/a/b", "0::/a/b".
std::optional<std::string> group_of(const std::string& text, bool version2) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version2 ? controllers.empty() : has_word(controllers, "memory")) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

}  // namespace

CgroupMemory cgroup_memory(const std::string& root) {
  CgroupMemory memory;
  const auto groups = read_file(root + "/proc/self/cgroup", 1 << 20);
  const auto mounts = read_file(root + "/proc/self/mountinfo", 16 << 20);
  if (!groups || !mounts) return memory;
  std::istringstream lines(*mounts);
  for (std::string line; std::getline(lines, line);) {
    // proc(5): id, parent, device, root, mount point, options, optional fields, "-", type, source,
    // options.
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, device, mount_root, mount_point, type, source, options;
    left >> id >> parent >> device >> mount_root >> mount_point;
    right >> type >> source >> options;
    const bool version2 = type == "cgroup2";
    if (!version2 && (type != "cgroup" || !has_word(options, "memory"))) continue;
    const auto group = group_of(*groups, version2);
    if (!group) continue;
    // A container sees a part of the hierarchy: what is above its root is out of sight.
    std::string below = *group == "/" ? "" : *group;
    if (mount_root != "/") {
      const bool inside = below.starts_with(mount_root) &&
                          (below.size() == mount_root.size() || below[mount_root.size()] == '/');
      below = inside ? below.substr(mount_root.size()) : "";
    }
    if (below.find("/..") != std::string::npos) below.clear();
    narrow_upwards(memory, root + mount_point, below, version2 ? kVersion2 : kVersion1);
  }
  return memory;
}

}  // namespace shoal
