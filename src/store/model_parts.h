// Models that are split into several files: which files they are, and the one checksum that stands
// for all of them. docs/formats/store.md. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace shoal {

// The files of the model at `path`: its parts, in order, when that is the name of one of several,
// else the path alone. They need not exist.
std::vector<std::string> files_of_model(const std::string& path);
std::string first_file(const std::string& path);
// The identity of a split model: the SHA-256 of its parts' SHA-256 (in hexadecimal, a line each, in
// order). The sum of one file stays what it is.
std::string set_identity(const std::vector<std::string>& sums);
// kNotFound names the part that is missing beside the others.
Result<uint64_t> size_of_model(const std::string& path);

struct ModelPart {
  std::string name;  // without its folder
  std::string sha256;
  uint64_t size_bytes = 0;
};
// A part list as nodes exchange it. Parsing refuses one that is not of the model `sha256`.
std::string part_list_text(const std::vector<ModelPart>& parts);
Result<std::vector<ModelPart>> parse_part_list(std::string_view text, const std::string& sha256);

}  // namespace shoal
