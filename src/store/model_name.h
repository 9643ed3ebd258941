// What a person may write for MODEL: a catalogue name, hf:owner/repo[/file.gguf][:quant],
// ollama:name[:tag], or a path. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace shoal {

struct ModelName {
  enum class Kind { kCatalogue, kHuggingFace, kOllama, kPath };
  Kind kind = Kind::kCatalogue;
  std::string text;   // as given, trimmed; of ollama: with its tag
  std::string repo;   // hf: "owner/name"
  std::string file;   // hf: "" when only a repository was named; of a split model the first part
  std::string quant;  // hf: "" when none was named
};

// kInvalidArgument for an empty name and for an hf: name that is none. Anything that holds a '/',
// starts with '.' or '~', or ends in ".gguf" is a path.
Result<ModelName> parse_model_name(std::string_view text);

std::string lower_case(std::string_view text);
// A name as one folder name: every character but letters, digits, '.', '_' and '-' becomes '-'.
std::string folder_name(std::string_view name);
// A relative path of plain names: none empty, none starting with '.', no backslash, no control
// character.
bool is_plain_relative_path(std::string_view path);
bool is_gguf_name(std::string_view path);  // ends in ".gguf", either case
// What is published beside models under the same ending: projectors, importance matrices.
bool is_companion_name(std::string_view path);
// Whether "…-Q4_K_M.gguf" is of quant "q4_k_m".
bool has_quant(std::string_view file, std::string_view quant);
// Those of `known` that a slip of the keyboard away from `wanted`, nearest first, at most three.
std::vector<std::string> nearest_names(std::string_view wanted,
                                       const std::vector<std::string>& known);

}  // namespace shoal
