#include "cli/catalogue_list.h"

#include <algorithm>

#include "base/units.h"
#include "cli/screen.h"

namespace shoal::cli {
namespace {

bool is_here(const CatalogueEntry& entry, const std::vector<ModelFile>& files) {
  return std::ranges::find(files, entry.name, &ModelFile::name) != files.end();
}

std::string parameters_text(uint64_t count) {
  const double billions = static_cast<double>(count) / 1e9;
  if (count == 0) return "?";
  return billions < 1 ? fmt::format("{:.0f} M", billions * 1000)
                      : fmt::format("{:.{}f} B", billions, billions < 100 ? 1 : 0);
}

// 131072 -> "128k", as context lengths are spoken of.
std::string context_text(uint64_t tokens) {
  if (tokens == 0) return "?";
  return tokens < 1024 ? fmt::format("{}", tokens) : fmt::format("{}k", tokens / 1024);
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

template <typename T>
Json value_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json package_json(const PackageSource& package) {
  return {{"package", package.package}, {"version", package.version}, {"member", package.member}};
}

Json source_json(const ModelSource& source) {
  Json json;
  if (const auto* file = std::get_if<HuggingFaceSource>(&source)) {
    return {{"kind", "huggingface"},
            {"repo", file->repo},
            {"file", text_or_null(file->file)},
            {"revision", file->revision},
            {"verified", file->verified}};
  }
  if (const auto* package = std::get_if<PackageSource>(&source)) {
    json = package_json(*package);
    json["kind"] = "pypi";
    return json;
  }
  json = {{"kind", "pypi_parts"}, {"parts", Json::array()}};
  for (const PackageSource& part : std::get<PackagePartsSource>(source).parts)
    json["parts"].push_back(package_json(part));
  return json;
}

}  // namespace

std::string catalogue_text(const Catalogue& catalogue, const std::vector<ModelFile>& files) {
  Table table({"model", "params", "type", "size", "context", "licence"});
  bool approximate = false;
  for (const CatalogueEntry& entry : catalogue.entries()) {
    const bool exact = !entry.sha256.empty();
    approximate |= !exact;
    table.add({entry.name + (entry.is_base ? " (base)" : ""),
               parameters_text(entry.parameter_count), entry.quantisation,
               (exact ? "" : "~") + format_bytes(entry.size_bytes),
               context_text(entry.context_tokens),
               entry.licence + (is_here(entry, files) ? ", on disk" : "")});
  }
  std::string text = table.text();
  if (approximate) {
    text += "\n~ as published; the file has not been compared with a checksum of ours.\n";
  }
  return text;
}

Json catalogue_json(const Catalogue& catalogue, const std::vector<ModelFile>& files) {
  Json list = Json::array();
  for (const CatalogueEntry& entry : catalogue.entries()) {
    Json sources = Json::array();
    for (const ModelSource& source : entry.sources) sources.push_back(source_json(source));
    list.push_back({{"name", entry.name},
                    {"title", entry.title},
                    {"licence", entry.licence},
                    {"terms", text_or_null(entry.terms)},
                    {"parameter_count", entry.parameter_count},
                    {"quantisation", entry.quantisation},
                    {"size_bytes", entry.size_bytes},
                    {"size_is_approximate", entry.sha256.empty()},
                    {"sha256", text_or_null(entry.sha256)},
                    {"context_tokens", entry.context_tokens},
                    {"base", entry.is_base},
                    {"tool_format", text_or_null(entry.tool_format)},
                    {"reasoning_format", text_or_null(entry.reasoning_format)},
                    {"sampling",
                     {{"temperature", value_or_null(entry.sampling.temperature)},
                      {"top_p", value_or_null(entry.sampling.top_p)},
                      {"top_k", value_or_null(entry.sampling.top_k)},
                      {"min_p", value_or_null(entry.sampling.min_p)}}},
                    {"sources", std::move(sources)},
                    {"on_disk", is_here(entry, files)}});
  }
  return {{"models", std::move(list)}};
}

}  // namespace shoal::cli
