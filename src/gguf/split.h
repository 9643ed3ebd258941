// A split model: several GGUF files that hold one model's tensors, the first of them its metadata
// as well. Used by gguf.cc alone. The rules: docs/formats/gguf-support.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gguf/gguf.h"

namespace shoal::gguf {

struct SplitFacts {
  int64_t number = 1;  // from 1; the file counts from 0
  int64_t count = 1;
  std::optional<int64_t> tensor_count;  // of all parts
};

// nullopt for a model in one file. kCorrupt for numbers that cannot be.
Result<std::optional<SplitFacts>> split_facts(const File& file);
// Where the parts of the model lie of which `path` is one, by its name and by what it says of
// itself, in order.
Result<std::vector<std::string>> parts_beside(const std::string& path, const SplitFacts& facts);
// That `parts`, in order, are the parts of one model, before they are joined. kCorrupt names the
// file at fault.
Status check_parts(const std::vector<File>& parts);

}  // namespace shoal::gguf
