// Wheels of a Python package index: the simple repository interface in JSON (PEP 691) and HTML (PEP
// 503). find_wheel asks the network and blocks; the rest is pure. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/catalogue.h"
#include "store/http_transfer.h"
#include "store/pip_settings.h"

namespace shoal {

struct Wheel {
  std::string file_name;
  std::string url;         // absolute; "" when `local_path` is set
  std::string local_path;  // in a folder of find-links
  std::string sha256;      // "" when the index gives none
  std::optional<uint64_t> size_bytes;
};

// The wheel of the source's package in its version. kNotFound names the indexes asked and the
// versions they have.
Result<Wheel> find_wheel(const PackageSource& source, const PipSettings& settings,
                         const NetworkPatience& patience, CancelFlag cancel);

// All files of a project page at `page_url`.
Result<std::vector<Wheel>> parse_index_json(std::string_view text, const std::string& page_url);
std::vector<Wheel> parse_index_html(std::string_view text, const std::string& page_url);
std::string normalised_package(std::string_view name);  // PEP 503: "A_b.C" -> "a-b-c"
// The version when `file_name` is a wheel of the package, else "".
std::string version_of_wheel(std::string_view file_name, std::string_view package);

}  // namespace shoal
