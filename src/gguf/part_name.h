// Names of the files of a split model: PREFIX-00001-of-00003.gguf and so on. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gguf {

struct PartName {
  std::string prefix;  // with the folder
  int number = 1;      // from 1
  int count = 1;
};

// nullopt for a name of another form, and for numbers that cannot be (part 4 of 3, part 0).
std::optional<PartName> parse_part_name(std::string_view path);
std::string part_path(const PartName& name, int number);
// The paths of all parts, in order, when `path` names one of a split model of several; else empty.
std::vector<std::string> part_paths(std::string_view path);
// "dir/m-q8_0-00001-of-00003.gguf" -> "dir/m-q8_0.gguf"; other names as they are.
std::string name_without_part(std::string_view path);

}  // namespace shoal::gguf
