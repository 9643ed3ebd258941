#include "store/package_index.h"

#include <algorithm>
#include <filesystem>

#include "base/bytes.h"
#include "base/json.h"
#include "store/model_name.h"

namespace shoal {
namespace {

constexpr uint64_t kMostPageBytes = 64 << 20;
constexpr const char* kAccept =
    "Accept: application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1";

std::string without_entities(std::string_view text) {
  std::string plain(text);
  static const std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&lt;", "<"},  {"&gt;", ">"},  {"&quot;", "\""},
      {"&#39;", "'"}, {"&#43;", "+"}, {"&amp;", "&"}};
  for (const auto& [entity, character] : kEntities) {
    for (size_t at = 0; (at = plain.find(entity, at)) != std::string::npos;
         at += character.size()) {
      plain.replace(at, entity.size(), character);
    }
  }
  return plain;
}

// The value of an attribute inside a tag ("a href='x'"); nullopt when it has none.
std::optional<std::string> attribute(std::string_view tag, std::string_view name) {
  const std::string lower = lower_case(tag);
  for (size_t at = 0; (at = lower.find(name, at)) != std::string::npos; at += name.size()) {
    const bool begins = at > 0 && std::isspace(static_cast<unsigned char>(lower[at - 1]));
    size_t after = lower.find_first_not_of(" \t\r\n", at + name.size());
    if (!begins || after == std::string::npos || lower[after] != '=') continue;
    after = lower.find_first_not_of(" \t\r\n", after + 1);
    if (after == std::string::npos) return std::nullopt;
    const char quote = lower[after];
    const bool quoted = quote == '"' || quote == '\'';
    const size_t begin = quoted ? after + 1 : after;
    size_t end = quoted ? lower.find(quote, begin) : lower.find_first_of(" \t\r\n", begin);
    if (end == std::string::npos) end = tag.size();
    return without_entities(tag.substr(begin, end - begin));
  }
  return std::nullopt;
}

std::string unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = text[i] == '%' && i + 2 < text.size() ? from_hex(text.substr(i + 1, 2))
                                                            : Result<Bytes>(Bytes{});
    if (byte && byte->size() == 1) {
      plain += static_cast<char>(byte->front());
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

Result<std::vector<Wheel>> project_files(const std::string& index, const std::string& package,
                                         const HttpOptions& options, CancelFlag cancel) {
  const std::string base = index.ends_with('/') ? index : index + "/";
  const std::string page = fmt::format("{}{}/", base, normalised_package(package));
  SHOAL_ASSIGN(Document document, http_get_document(page, options, kMostPageBytes, cancel));
  const std::string address = with_credentials_of(page, document.effective_url);
  if (document.content_type.find("json") != std::string::npos)
    return parse_index_json(document.text, address);
  return parse_index_html(document.text, address);
}

std::optional<Wheel> local_wheel(const PackageSource& source, const PipSettings& settings) {
  for (std::string folder : settings.find_links) {
    if (folder.starts_with("file://")) folder = folder.substr(7);
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (version_of_wheel(name, source.package) == source.version)
        return Wheel{name, "", entry->path().string(), "", {}};
    }
  }
  return std::nullopt;
}

}  // namespace

std::string normalised_package(std::string_view name) {
  std::string normal;
  for (const char c : lower_case(name)) {
    const bool separator = c == '-' || c == '_' || c == '.';
    if (!separator) normal += c;
    if (separator && !normal.ends_with('-')) normal += '-';
  }
  return normal;
}

// {distribution}-{version}[-{build}]-{python}-{abi}-{platform}.whl
std::string version_of_wheel(std::string_view file_name, std::string_view package) {
  if (!file_name.ends_with(".whl")) return "";
  const auto dash = file_name.find('-');
  if (dash == std::string_view::npos) return "";
  if (normalised_package(file_name.substr(0, dash)) != normalised_package(package)) return "";
  const auto end = file_name.find('-', dash + 1);
  if (end == std::string_view::npos) return "";
  return std::string(file_name.substr(dash + 1, end - dash - 1));
}

Result<std::vector<Wheel>> parse_index_json(std::string_view text, const std::string& page_url) {
  SHOAL_ASSIGN(const Json page, parse_json(text));
  if (!page.is_object() || !page.contains("files") || !page.at("files").is_array()) {
    return fail(ErrorCode::kCorrupt, "{} is no page of a package index: it has no list of files",
                shown_url(page_url));
  }
  std::vector<Wheel> wheels;
  for (const Json& file : page.at("files")) {
    const auto name = json_field<std::string>(file, "filename");
    const auto url = json_field<std::string>(file, "url");
    if (!name || !url) continue;
    Wheel wheel{*name, resolve_url(page_url, *url), "", "", {}};
    if (wheel.url.empty()) continue;
    if (file.contains("hashes"))
      wheel.sha256 =
          lower_case(json_field_or<std::string>(file.at("hashes"), "sha256", "").value_or(""));
    if (const auto size = json_field<uint64_t>(file, "size")) wheel.size_bytes = *size;
    wheels.push_back(std::move(wheel));
  }
  return wheels;
}

std::vector<Wheel> parse_index_html(std::string_view text, const std::string& page_url) {
  std::vector<Wheel> wheels;
  for (size_t at = 0; (at = text.find('<', at)) != std::string_view::npos;) {
    const size_t end = text.find('>', at);
    if (end == std::string_view::npos) break;
    const std::string_view tag = text.substr(at + 1, end - at - 1);
    at = end + 1;
    if (tag.size() < 2 || (tag[0] != 'a' && tag[0] != 'A') ||
        !std::isspace(static_cast<unsigned char>(tag[1])))
      continue;
    const auto href = attribute(tag, "href");
    if (!href) continue;
    Wheel wheel;
    const auto hash = href->find('#');
    const std::string_view fragment =
        hash == std::string::npos ? "" : std::string_view(*href).substr(hash + 1);
    if (fragment.starts_with("sha256=")) wheel.sha256 = lower_case(fragment.substr(7, 64));
    const std::string reference = href->substr(0, hash);
    wheel.url = resolve_url(page_url, reference);
    const std::string path = reference.substr(0, reference.find('?'));
    wheel.file_name = unescaped(std::string_view(path).substr(path.rfind('/') + 1));
    if (!wheel.url.empty() && !wheel.file_name.empty()) wheels.push_back(std::move(wheel));
  }
  return wheels;
}

Result<Wheel> find_wheel(const PackageSource& source, const PipSettings& settings,
                         const NetworkPatience& patience, CancelFlag cancel) {
  if (auto wheel = local_wheel(source, settings)) return *wheel;
  HttpOptions options;
  options.headers = {kAccept};
  options.ca_file = settings.ca_file;
  options.patience = patience;
  Error last{ErrorCode::kNotFound,
             fmt::format("no folder of find-links holds {} {}", source.package, source.version)};
  for (const std::string& index : settings.indexes) {
    const auto files = project_files(index, source.package, options, cancel);
    if (!files) {
      last = files.error();
      if (last.code == ErrorCode::kCancelled) break;
      continue;
    }
    std::vector<std::string> versions;
    for (const Wheel& file : *files) {
      const std::string version = version_of_wheel(file.file_name, source.package);
      if (version == source.version && is_plain_relative_path(file.file_name) &&
          file.file_name.find('/') == std::string::npos) {
        Wheel wheel = file;
        wheel.url = with_credentials_of(index, wheel.url);
        return wheel;
      }
      if (!version.empty() && std::ranges::find(versions, version) == versions.end())
        versions.push_back(version);
    }
    last = {
        ErrorCode::kNotFound,
        fmt::format(
            "{} has no wheel of {} {}; it has {}", shown_url(index), source.package, source.version,
            versions.empty() ? "none at all" : fmt::format("{}", fmt::join(versions, ", ")))};
  }
  return std::unexpected(last);
}

}  // namespace shoal
