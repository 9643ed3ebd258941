#include "store/model_name.h"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "gguf/part_name.h"

namespace shoal {
namespace {

bool is_plain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
}

bool is_repo_part(std::string_view part) {
  return !part.empty() && part.size() <= 96 && part.front() != '.' && part.front() != '-' &&
         std::ranges::all_of(part, is_plain);
}

Result<ModelName> parse_hugging_face(std::string text) {
  const auto bad = [&](std::string_view why) {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is no Hugging Face name: {}; write hf:OWNER/REPO, hf:OWNER/REPO:QUANT or "
                "hf:OWNER/REPO/FILE.gguf",
                text, why);
  };
  ModelName name{.kind = ModelName::Kind::kHuggingFace, .text = text};
  std::string_view rest = std::string_view(text).substr(3);
  const auto first = rest.find('/');
  if (first == std::string_view::npos) return bad("the repository is missing");
  const auto second = rest.find('/', first + 1);
  name.repo = rest.substr(0, second);
  if (second != std::string_view::npos) {
    name.file = rest.substr(second + 1);
    if (!is_plain_relative_path(name.file)) return bad("its file is no plain path");
    if (!is_gguf_name(name.file)) return bad("its file does not end in .gguf");
    if (const auto parts = gguf::part_paths(name.file); !parts.empty()) name.file = parts.front();
  } else if (const auto colon = name.repo.find(':'); colon != std::string::npos) {
    name.quant = name.repo.substr(colon + 1);
    name.repo.resize(colon);
    if (name.quant.empty() || !std::ranges::all_of(name.quant, is_plain)) {
      return bad("the quantisation after the colon is none");
    }
  }
  if (!is_repo_part(name.repo.substr(0, first)) || !is_repo_part(name.repo.substr(first + 1))) {
    return bad("owner and repository hold letters, digits, '.', '_' and '-'");
  }
  return name;
}

Result<ModelName> parse_ollama(std::string text) {
  const std::string_view rest = std::string_view(text).substr(7);
  const auto allowed = [](char c) { return is_plain(c) || c == '/' || c == ':'; };
  if (rest.empty() || rest.ends_with(':') || rest.starts_with('/') || rest.ends_with('/') ||
      !std::ranges::all_of(rest, allowed) || rest.find("..") != std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument, "'{}' is no name of Ollama's; write ollama:NAME:TAG",
                text);
  }
  const auto colon = rest.rfind(':');
  const bool has_tag =
      colon != std::string_view::npos && rest.find('/', colon) == std::string_view::npos;
  if (!has_tag) text += ":latest";  // as Ollama reads it
  return ModelName{.kind = ModelName::Kind::kOllama, .text = std::move(text)};
}

// Edits (insert, delete, replace, swap of neighbours) from one text to the other.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        now[j] = std::min(now[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

}  // namespace

Result<ModelName> parse_model_name(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  if (text.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "the model's name is empty; write a catalogue name such as smollm2:135m, "
                "hf:OWNER/REPO, or a path to a .gguf file");
  }
  if (text.size() > 4096 || text.find('\0') != std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument,
                "the model's name is over 4096 bytes long or holds a zero byte");
  }
  if (text.starts_with("hf:")) return parse_hugging_face(std::string(text));
  if (text.starts_with("ollama:")) return parse_ollama(std::string(text));
  ModelName name{.text = std::string(text)};
  if (text.find('/') != std::string_view::npos || text.front() == '.' || text.front() == '~' ||
      is_gguf_name(text)) {
    name.kind = ModelName::Kind::kPath;
  }
  return name;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::string folder_name(std::string_view name) {
  std::string folder(name.substr(0, 120));
  for (char& c : folder) {
    if (!is_plain(c)) c = '-';
  }
  if (folder.empty() || folder.front() == '.') folder.insert(0, "model");
  return folder;
}

bool is_plain_relative_path(std::string_view path) {
  if (path.empty() || path.size() > 1024) return false;
  size_t begin = 0;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part.size() > 255 || part.front() == '.') return false;
    for (const char c : part) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
    }
    begin = end + 1;
  }
  return true;
}

bool is_gguf_name(std::string_view path) {
  return lower_case(path).ends_with(".gguf");
}

bool is_companion_name(std::string_view path) {
  const std::string name = lower_case(path.substr(path.rfind('/') + 1));
  return name.starts_with("mmproj") || name.find("-mmproj") != std::string::npos ||
         name.find(".mmproj") != std::string::npos || name.find("imatrix") != std::string::npos;
}

bool has_quant(std::string_view file, std::string_view quant) {
  const std::string lower = lower_case(gguf::name_without_part(file));
  const std::string suffix = lower_case(quant) + ".gguf";
  if (!lower.ends_with(suffix)) return false;
  if (lower.size() == suffix.size()) return true;
  const char before = lower[lower.size() - suffix.size() - 1];
  return before == '-' || before == '.' || before == '_' || before == '/';
}

std::vector<std::string> nearest_names(std::string_view wanted,
                                       const std::vector<std::string>& known) {
  const std::string lower = lower_case(wanted.substr(0, 64));
  std::vector<std::pair<size_t, std::string>> near;
  for (const std::string& name : known) {
    const std::string other = lower_case(std::string_view(name).substr(0, 64));
    // The tag is often left out or wrong, so the family alone may match as well.
    const size_t distance = std::min(
        edit_distance(lower, other),
        1 + edit_distance(lower.substr(0, lower.find(':')), other.substr(0, other.find(':'))));
    if (distance <= std::max<size_t>(2, lower.size() / 3)) near.emplace_back(distance, name);
  }
  std::ranges::sort(near);
  std::vector<std::string> names;
  for (auto& [distance, name] : near) {
    if (names.size() < 3 && std::ranges::find(names, name) == names.end())
      names.push_back(std::move(name));
  }
  return names;
}

}  // namespace shoal
