#include "gguf/part_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

namespace shoal::gguf {
namespace {

constexpr size_t kDigits = 5;
constexpr std::string_view kBetween = "-of-";
constexpr std::string_view kEnding = ".gguf";

std::optional<int> number_of(std::string_view digits) {
  int value = 0;
  const auto end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end || value < 1) return std::nullopt;
  return value;
}

}  // namespace

std::optional<PartName> parse_part_name(std::string_view path) {
  constexpr size_t kTail = 1 + kDigits + kBetween.size() + kDigits + kEnding.size();
  if (path.size() <= kTail) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kTail);
  const auto same_letter = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == b;
  };
  if (tail.front() != '-' || tail.substr(1 + kDigits, kBetween.size()) != kBetween ||
      !std::ranges::equal(tail.substr(kTail - kEnding.size()), kEnding, same_letter)) {
    return std::nullopt;
  }
  const auto number = number_of(tail.substr(1, kDigits));
  const auto count = number_of(tail.substr(1 + kDigits + kBetween.size(), kDigits));
  if (!number || !count || *number > *count) return std::nullopt;
  return PartName{std::string(path.substr(0, path.size() - kTail)), *number, *count};
}

std::string part_path(const PartName& name, int number) {
  return fmt::format("{}-{:05}-of-{:05}{}", name.prefix, number, name.count, kEnding);
}

std::vector<std::string> part_paths(std::string_view path) {
  const auto name = parse_part_name(path);
  std::vector<std::string> paths;
  if (!name || name->count < 2) return paths;
  for (int number = 1; number <= name->count; ++number) paths.push_back(part_path(*name, number));
  return paths;
}

std::string name_without_part(std::string_view path) {
  const auto name = parse_part_name(path);
  return name ? name->prefix + std::string(kEnding) : std::string(path);
}

}  // namespace shoal::gguf
