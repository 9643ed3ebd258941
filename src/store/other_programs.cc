#include "store/other_programs.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "gguf/part_name.h"
#include "store/model_name.h"
#include "store/model_parts.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

constexpr int kMostEntries = 50'000;  // of one folder with all below it
constexpr int kMostDepth = 6;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The first of the variables that is set, with `below` behind it, else ~/`otherwise`; "" without a
// home directory.
std::string folder_of(const char* variable, const std::string& below,
                      const std::string& otherwise) {
  if (const std::string set = environment(variable); !set.empty()) return set + below;
  const std::string home = environment("HOME");
  return home.empty() ? "" : home + "/" + otherwise;
}

std::string cache_folder(const std::string& below) {
  return folder_of("XDG_CACHE_HOME", "/" + below, ".cache/" + below);
}

// Regular files (and links to such) below a folder, in the order of their paths.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error);
  for (int count = 0; !error && at != fs::end(at) && count < kMostEntries; ++count) {
    std::error_code ignored;
    if (at.depth() >= kMostDepth) at.disable_recursion_pending();
    if (at->is_regular_file(ignored)) files.push_back(at->path());
    at.increment(error);
  }
  std::ranges::sort(files);
  return files;
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> folders;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.is_directory(ignored)) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

class Finds {
 public:
  void add(const std::string& name, const fs::path& path, const std::string& kept_by) {
    const std::string file = fs::absolute(path).lexically_normal().string();
    if (first_file(file) != file || !names_.insert(name).second) return;
    const auto size_bytes = size_of_model(file);  // of a split model every part is there
    if (!size_bytes || *size_bytes == 0) return;
    models_.push_back({name, file, "", *size_bytes, kept_by, files_of_model(file).size(), kept_by});
  }
  std::vector<ModelFile> take() { return std::move(models_); }

 private:
  std::set<std::string> names_;
  std::vector<ModelFile> models_;
};

bool is_model(const fs::path& path) {
  const std::string name = path.filename().string();
  return is_gguf_name(name) && !is_companion_name(name);
}

// --- Hugging Face: hub/models--OWNER--REPO/snapshots/REVISION/FILE, links to blobs ---

void add_snapshots(Finds& finds, const fs::path& repository, const std::string& repo) {
  std::vector<fs::path> snapshots = folders_in(repository / "snapshots");
  const auto main = read_file((repository / "refs/main").string(), 256);
  // The revision that "main" means comes first, and its files take the names.
  std::ranges::stable_partition(snapshots, [&](const fs::path& snapshot) {
    return main && main->starts_with(snapshot.filename().string());
  });
  for (const fs::path& snapshot : snapshots) {
    for (const fs::path& file : files_below(snapshot)) {
      if (!is_model(file)) continue;
      finds.add(fmt::format("hf:{}/{}", repo, file.lexically_relative(snapshot).string()), file,
                "Hugging Face's cache");
    }
  }
}

void add_hugging_face(Finds& finds) {
  std::string hub = environment("HF_HUB_CACHE");
  if (hub.empty()) hub = environment("HUGGINGFACE_HUB_CACHE");
  if (hub.empty() && !environment("HF_HOME").empty()) hub = environment("HF_HOME") + "/hub";
  if (hub.empty()) hub = cache_folder("huggingface/hub");
  if (hub.empty()) return;
  for (const fs::path& repository : folders_in(hub)) {
    const std::string name = repository.filename().string();
    constexpr std::string_view kStart = "models--";
    const auto between = name.find("--", kStart.size());
    if (!name.starts_with(kStart) || between == std::string::npos) continue;
    const std::string repo =
        name.substr(kStart.size(), between - kStart.size()) + "/" + name.substr(between + 2);
    if (!parse_model_name("hf:" + repo)) continue;
    add_snapshots(finds, repository, repo);
  }
}

// --- llama.cpp: OWNER_REPO_FILE.gguf, with FILE.gguf.json that names the address ---

// "https://HOST/OWNER/REPO/resolve/REVISION/FILE" -> "hf:OWNER/REPO/FILE", "" for others.
std::string name_of_address(std::string_view url) {
  const auto scheme = url.find("://");
  if (scheme == std::string_view::npos) return "";
  const auto host_end = url.find('/', scheme + 3);
  const auto resolve = url.find("/resolve/");
  if (host_end == std::string_view::npos || resolve == std::string_view::npos ||
      resolve < host_end) {
    return "";
  }
  const auto file = url.find('/', resolve + 9);
  if (file == std::string_view::npos) return "";
  const std::string name = fmt::format("hf:{}/{}", url.substr(host_end + 1, resolve - host_end - 1),
                                       url.substr(file + 1, url.find('?', file) - file - 1));
  return parse_model_name(name) ? name : "";
}

std::string name_of_llama_cpp_file(const fs::path& file) {
  if (const auto text = read_file(file.string() + ".json", 64 << 10)) {
    if (const auto json = parse_json(*text); json && json->is_object()) {
      const auto url = json_field<std::string>(*json, "url");
      if (const std::string name = url ? name_of_address(*url) : ""; !name.empty()) return name;
    }
  }
  // Without it: most repositories of such files end in -GGUF, and no owner's name has a '_'.
  const std::string whole = file.filename().string();
  const auto owner = whole.find('_');
  const auto repo = lower_case(whole).find("-gguf_", owner);
  if (owner != std::string::npos && repo != std::string::npos) {
    const std::string name =
        fmt::format("hf:{}/{}/{}", whole.substr(0, owner),
                    whole.substr(owner + 1, repo + 5 - owner - 1), whole.substr(repo + 6));
    if (parse_model_name(name)) return name;
  }
  return fs::path(gguf::name_without_part(whole)).stem().string();
}

void add_llama_cpp(Finds& finds) {
  const std::string set = environment("LLAMA_CACHE");
  const std::string folder = set.empty() ? cache_folder("llama.cpp") : set;
  if (folder.empty()) return;
  for (const fs::path& file : files_below(folder)) {
    if (is_model(file)) finds.add(name_of_llama_cpp_file(file), file, "llama.cpp's cache");
  }
}

// --- Ollama: manifests/HOST/NAMESPACE/MODEL/TAG, which name blobs/sha256-SUM ---

// The blob of a manifest that is one model and nothing on top of it; "" otherwise.
std::string blob_of(const fs::path& manifest) {
  const auto text = read_file(manifest.string(), 1 << 20);
  const auto json = text ? parse_json(*text) : Result<Json>(std::unexpected(text.error()));
  if (!json || !json->is_object() || !json->contains("layers") || !json->at("layers").is_array())
    return "";
  std::string blob;
  for (const Json& layer : json->at("layers")) {
    const auto type = json_field<std::string>(layer, "mediaType");
    const auto digest = json_field<std::string>(layer, "digest");
    if (!type || !digest) continue;
    // What it computes with an adapter is another model than the blob alone.
    if (type->ends_with(".adapter")) return "";
    if (*type != "application/vnd.ollama.image.model") continue;
    const bool is_sum = digest->starts_with("sha256:") && digest->size() == 7 + 64 &&
                        digest->find_first_not_of("0123456789abcdef", 7) == std::string::npos;
    if (!is_sum || !blob.empty()) return "";
    blob = "sha256-" + digest->substr(7);
  }
  return blob;
}

void add_ollama(Finds& finds, const fs::path& folder) {
  const fs::path manifests = folder / "manifests";
  for (const fs::path& manifest : files_below(manifests)) {
    std::vector<std::string> parts;
    for (const fs::path& part : manifest.lexically_relative(manifests))
      parts.push_back(part.string());
    if (parts.size() != 4) continue;
    const std::string blob = blob_of(manifest);
    if (blob.empty()) continue;
    std::string name = "ollama:";
    if (parts[0] != "registry.ollama.ai") name += parts[0] + "/";
    if (parts[0] != "registry.ollama.ai" || parts[1] != "library") name += parts[1] + "/";
    finds.add(name + parts[2] + ":" + parts[3], folder / "blobs" / blob, "Ollama");
  }
}

// --- SHOAL_MODELS: folders of a person's own, or another node's models ---

void add_folder(Finds& finds, const fs::path& folder) {
  const std::string kept_by = "SHOAL_MODELS (" + folder.string() + ")";
  for (const fs::path& file : files_below(folder)) {
    if (!is_model(file)) continue;
    const std::string relative = file.lexically_relative(folder).string();
    const std::string name = "hf:" + relative.substr(std::min<size_t>(3, relative.size()));
    if (relative.starts_with("hf/") && parse_model_name(name)) {
      finds.add(name, file, kept_by);
    } else {
      finds.add(fs::path(gguf::name_without_part(file.filename().string())).stem().string(), file,
                kept_by);
    }
  }
}

}  // namespace

std::vector<ModelFile> models_of_other_programs() {
  Finds finds;
  std::string folders = environment("SHOAL_MODELS");
  for (size_t begin = 0; begin < folders.size();) {
    const size_t end = std::min(folders.find(':', begin), folders.size());
    if (end > begin) add_folder(finds, folders.substr(begin, end - begin));
    begin = end + 1;
  }
  add_hugging_face(finds);
  add_llama_cpp(finds);
  const std::string ollama = folder_of("OLLAMA_MODELS", "", ".ollama/models");
  if (!ollama.empty()) add_ollama(finds, ollama);
  if (environment("OLLAMA_MODELS").empty()) add_ollama(finds, "/usr/share/ollama/.ollama/models");
  return finds.take();
}

}  // namespace shoal
