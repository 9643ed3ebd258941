#include "store/store.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "store/file_lock.h"
#include "store/model_name.h"
#include "store/part_file.h"
#include "store/store_database.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

std::string with_home_directory(const std::string& path) {
  const char* home = std::getenv("HOME");
  if (home == nullptr || (path != "~" && !path.starts_with("~/"))) return path;
  return home + path.substr(1);
}

Result<std::string> real_path(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::canonical(path, error);
  if (!error) return whole.string();
  errno = error.value();
  return system_error("cannot open", path);
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

}  // namespace

Store::Store(std::string home, std::unique_ptr<StoreDatabase> database, NetworkPatience patience)
    : home_(std::move(home)),
      models_(home_ + "/models"),
      patience_(patience),
      database_(std::move(database)) {}
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::open(const std::string& home, NetworkPatience patience) {
  SHOAL_TRY(make_directories(home));
  SHOAL_ASSIGN(std::string absolute, real_path(home));
  SHOAL_TRY(make_directories(absolute + "/models/.locks"));
  SHOAL_ASSIGN(auto database, StoreDatabase::open(absolute + "/store.db"));
  return std::unique_ptr<Store>(new Store(std::move(absolute), std::move(database), patience));
}

std::string Store::destination_of(const CatalogueEntry& entry) const {
  return fmt::format("{}/{}/{}", models_, folder_name(entry.name), entry.file_name);
}

// No catalogue name has the folder "hf": theirs hold a '-' where the colon was.
std::string Store::destination_of_hugging_face(const std::string& repo,
                                               const std::string& file) const {
  return fmt::format("{}/hf/{}/{}", models_, repo, file);
}

std::string Store::lock_path(const std::string& destination) const {
  return fmt::format("{}/.locks/{}.lock", models_, sha256(destination).substr(0, 24));
}

bool Store::is_inside(const std::string& path) const {
  const auto folder = real_path(parent_directory(path));
  return folder && (*folder == models_ || folder->starts_with(models_ + "/"));
}

Result<std::optional<FileRow>> Store::known_file(const std::string& path) const {
  SHOAL_ASSIGN(const FileFacts facts, facts_of(path));
  const std::lock_guard lock(mutex_);
  SHOAL_ASSIGN(std::optional<FileRow> row, database_->file_at(path));
  if (row && row->facts != facts) row.reset();
  return row;
}

Result<FileRow> Store::hashed_file(const std::string& path, const PullProgress& progress,
                                   CancelFlag cancel) const {
  SHOAL_ASSIGN(std::optional<FileRow> known, known_file(path));
  if (known) return *known;
  SHOAL_ASSIGN(const FileFacts before, facts_of(path));
  Clock::time_point shown = Clock::now();
  const auto start = shown;
  SHOAL_ASSIGN(std::string sum, sha256_of_file(path, [&](uint64_t done_bytes) {
                 if (progress && (seconds_since(shown) > 0.1 || done_bytes == before.size_bytes)) {
                   shown = Clock::now();
                   const double elapsed_s = std::max(1e-6, seconds_since(start));
                   progress({PullEvent::Phase::kChecking, path, done_bytes, before.size_bytes,
                             static_cast<double>(done_bytes) / elapsed_s, ""});
                 }
                 return !is_cancelled(cancel);
               }));
  SHOAL_ASSIGN(const FileFacts after, facts_of(path));
  if (after != before) {
    return fail(ErrorCode::kConflict,
                "{} changed while it was being read; wait until it is complete and try again",
                path);
  }
  FileRow row{path, std::move(sum), after};
  const std::lock_guard lock(mutex_);
  // A checksum that cannot be kept is computed again next time; it is no less right.
  if (const Status kept = database_->put_file(row); !kept) log::warn("{}", kept.error().message);
  return row;
}

Status Store::record(const std::string& name, const std::string& path, const std::string& sha256,
                     const std::string& source) const {
  SHOAL_ASSIGN(const FileFacts facts, facts_of(path));
  const std::lock_guard lock(mutex_);
  SHOAL_TRY(database_->put_file({path, sha256, facts}));
  return database_->put_model({name, path, source});
}

void Store::forget(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  if (const Status done = database_->forget_file(path); !done)
    log::warn("{}", done.error().message);
}

Result<ModelFile> Store::resolve_path(const std::string& path) const {
  SHOAL_ASSIGN(const std::string whole, real_path(with_home_directory(path)));
  SHOAL_ASSIGN(const FileFacts facts, facts_of(whole));
  ModelFile file{whole, whole, "", facts.size_bytes, "this machine"};
  SHOAL_ASSIGN(const std::optional<FileRow> row, known_file(whole));
  if (row) file.sha256 = row->sha256;
  const std::lock_guard lock(mutex_);
  SHOAL_ASSIGN(const std::vector<ModelRow> models, database_->models_at(whole));
  if (!models.empty()) {
    file.name = models.front().name;
    file.source = models.front().source;
  }
  return file;
}

// By its exact name in the database. nullopt: not there, or its file is gone.
Result<std::optional<ModelFile>> Store::resolve_stored(const std::string& name) const {
  std::optional<ModelRow> model;
  std::optional<FileRow> before;
  {
    const std::lock_guard lock(mutex_);
    SHOAL_ASSIGN(model, database_->model_named(name));
    if (!model) return std::nullopt;
    SHOAL_ASSIGN(before, database_->file_at(model->path));
  }
  if (!exists(model->path)) {
    forget(model->path);
    return std::nullopt;
  }
  SHOAL_ASSIGN(const std::optional<FileRow> known, known_file(model->path));
  if (known)
    return ModelFile{name, model->path, known->sha256, known->facts.size_bytes, model->source};
  if (!before) return std::nullopt;
  SHOAL_ASSIGN(const std::string now, sha256_of_file(model->path));
  if (now != before->sha256) {
    return fail(ErrorCode::kCorrupt,
                "{} has changed on disk since '{}' was pulled: its SHA-256 is {}, and was {}; "
                "`shoal rm {}` and `shoal pull {}` "
                "fetch it anew, or name the file by its path to use it as it is",
                model->path, name, now, before->sha256, name, name);
  }
  SHOAL_TRY(record(name, model->path, now, model->source));  // only touched
  return ModelFile{name, model->path, now, before->facts.size_bytes, model->source};
}

// A file that lies where a pull would put it but that the database does not know: after a moved
// home, or a lost database.
Result<std::optional<ModelFile>> Store::resolve_unrecorded(const std::string& name,
                                                           const std::string& destination,
                                                           const CatalogueEntry* entry) const {
  if (!exists(destination)) return std::nullopt;
  SHOAL_ASSIGN(const std::string whole, real_path(destination));
  SHOAL_ASSIGN(const FileRow row, hashed_file(whole, {}, nullptr));
  if (entry != nullptr && row.sha256 != entry->sha256) {
    return fail(ErrorCode::kCorrupt,
                "{} is not the file of '{}' in the catalogue: its SHA-256 is {}, not {}; `shoal "
                "pull {}` replaces it, or name "
                "the file by its path to use it as it is",
                destination, name, row.sha256, entry->sha256, name);
  }
  const std::string source = "this machine";
  SHOAL_TRY(record(name, whole, row.sha256, source));
  return ModelFile{name, whole, row.sha256, row.facts.size_bytes, source};
}

Result<ModelFile> Store::resolve_hugging_face(const std::string& repo, const std::string& file,
                                              const std::string& quant) const {
  const std::string prefix = "hf:" + repo + "/";
  if (!file.empty()) {
    SHOAL_ASSIGN(auto stored, resolve_stored(prefix + file));
    if (stored) return *stored;
    SHOAL_ASSIGN(stored, resolve_unrecorded(prefix + file, destination_of_hugging_face(repo, file),
                                            nullptr));
    if (stored) return *stored;
    return fail(ErrorCode::kNotFound, "{}{} is not on this machine; `shoal pull {}{}` fetches it",
                prefix, file, prefix, file);
  }
  std::vector<std::string> fitting;
  SHOAL_ASSIGN(const std::vector<ModelFile> files, list());
  for (const ModelFile& candidate : files) {
    if (candidate.name.starts_with(prefix) && (quant.empty() || has_quant(candidate.name, quant))) {
      fitting.push_back(candidate.name);
    }
  }
  if (fitting.size() == 1) {
    SHOAL_ASSIGN(auto stored, resolve_stored(fitting.front()));
    if (stored) return *stored;
    fitting.clear();
  }
  const std::string asked = quant.empty() ? "hf:" + repo : "hf:" + repo + ":" + quant;
  if (fitting.empty()) {
    return fail(ErrorCode::kNotFound, "{} is not on this machine; `shoal pull {}` fetches it",
                asked, asked);
  }
  return fail(ErrorCode::kInvalidArgument, "{} could be any of {}; write one of them", asked,
              fmt::join(fitting, ", "));
}

std::unexpected<Error> Store::unknown_name(const std::string& name,
                                           const Catalogue& catalogue) const {
  std::vector<std::string> known;
  for (const CatalogueEntry& entry : catalogue.entries()) known.push_back(entry.name);
  if (const auto files = list()) {
    for (const ModelFile& file : *files) known.push_back(file.name);
  }
  const std::vector<std::string> near = nearest_names(name, known);
  const std::string hint =
      near.empty() ? "" : fmt::format("; did you mean {}?", fmt::join(near, " or "));
  return fail(ErrorCode::kNotFound,
              "there is no model '{}'{} `shoal list --catalogue` shows the names; hf:OWNER/REPO "
              "and the path of a .gguf file work too",
              name, hint.empty() ? ";" : hint);
}

Result<ModelFile> Store::resolve_catalogue(const std::string& name) const {
  for (const std::string& spelling : {name, lower_case(name)}) {
    SHOAL_ASSIGN(const auto stored, resolve_stored(spelling));
    if (stored) return *stored;
  }
  SHOAL_ASSIGN(const Catalogue known, catalogue());
  SHOAL_ASSIGN(const CatalogueEntry* entry, known.find(name));
  if (entry != nullptr) {
    SHOAL_ASSIGN(auto stored, resolve_stored(entry->name));
    if (stored) return *stored;
    SHOAL_ASSIGN(stored, resolve_unrecorded(entry->name, destination_of(*entry), entry));
    if (stored) return *stored;
    return fail(ErrorCode::kNotFound, "{} is not on this machine; `shoal pull {}` fetches it ({})",
                entry->name, entry->name, format_bytes(entry->size_bytes));
  }
  SHOAL_ASSIGN(const std::vector<ModelFile> files, list());
  std::vector<std::string> family;
  for (const ModelFile& file : files) {
    if (file.name.starts_with(lower_case(name) + ":")) family.push_back(file.name);
  }
  if (family.size() == 1) {
    SHOAL_ASSIGN(const auto stored, resolve_stored(family.front()));
    if (stored) return *stored;
  }
  if (family.size() > 1) {
    return fail(ErrorCode::kInvalidArgument, "'{}' could be any of {}; write one of them", name,
                fmt::join(family, ", "));
  }
  return unknown_name(name, known);
}

Result<ModelFile> Store::resolve(std::string_view model) const {
  SHOAL_ASSIGN(const ModelName name, parse_model_name(model));
  switch (name.kind) {
    case ModelName::Kind::kPath:
      return resolve_path(name.text);
    case ModelName::Kind::kHuggingFace:
      return resolve_hugging_face(name.repo, name.file, name.quant);
    case ModelName::Kind::kCatalogue:
      break;
  }
  return resolve_catalogue(name.text);
}

Result<std::vector<ModelFile>> Store::list() const {
  std::vector<ModelRow> models;
  {
    const std::lock_guard lock(mutex_);
    SHOAL_ASSIGN(models, database_->models());
  }
  std::vector<ModelFile> files;
  for (const ModelRow& model : models) {
    const auto facts = facts_of(model.path);
    if (!facts) continue;
    SHOAL_ASSIGN(const std::optional<FileRow> row, known_file(model.path));
    files.push_back(
        {model.name, model.path, row ? row->sha256 : "", facts->size_bytes, model.source});
  }
  // Files of the catalogue that a lost database has forgotten.
  if (const auto known = catalogue()) {
    for (const CatalogueEntry& entry : known->entries()) {
      const auto facts = facts_of(destination_of(entry));
      if (!facts || facts->size_bytes != entry.size_bytes) continue;
      if (std::ranges::find(files, entry.name, &ModelFile::name) != files.end()) continue;
      files.push_back({entry.name, destination_of(entry), "", facts->size_bytes, "this machine"});
    }
  }
  std::ranges::sort(files, {}, &ModelFile::name);
  return files;
}

std::optional<ModelFile> Store::find_by_sha256(const std::string& sha256) const {
  const std::lock_guard lock(mutex_);
  const auto rows = database_->files_with(lower_case(sha256));
  if (!rows) return std::nullopt;
  for (const FileRow& row : *rows) {
    const auto facts = facts_of(row.path);
    if (!facts || *facts != row.facts) continue;
    ModelFile file{row.path, row.path, row.sha256, row.facts.size_bytes, "this machine"};
    const auto models = database_->models_at(row.path);
    if (models && !models->empty()) {
      file.name = models->front().name;
      file.source = models->front().source;
    }
    return file;
  }
  return std::nullopt;
}

Result<ModelFile> Store::add_path(const std::string& path, const PullProgress& progress,
                                  CancelFlag cancel) {
  SHOAL_ASSIGN(const std::string whole, real_path(with_home_directory(path)));
  SHOAL_ASSIGN(const FileRow row, hashed_file(whole, progress, cancel));
  return resolve_path(row.path);
}

// Where the file of MODEL is, or would be if it had been pulled.
Result<std::string> Store::path_to_remove(std::string_view model) const {
  SHOAL_ASSIGN(const ModelName name, parse_model_name(model));
  if (name.kind == ModelName::Kind::kPath) {
    const fs::path path = with_home_directory(name.text);
    SHOAL_ASSIGN(const std::string folder,
                 real_path(path.has_parent_path() ? path.parent_path() : "."));
    return folder + "/" + path.filename().string();
  }
  if (name.kind == ModelName::Kind::kHuggingFace) {
    if (!name.file.empty()) return destination_of_hugging_face(name.repo, name.file);
    SHOAL_ASSIGN(const ModelFile file, resolve_hugging_face(name.repo, name.file, name.quant));
    return file.path;
  }
  {
    const std::lock_guard lock(mutex_);
    for (const std::string& spelling : {name.text, lower_case(name.text)}) {
      SHOAL_ASSIGN(const auto row, database_->model_named(spelling));
      if (row) return row->path;
    }
  }
  SHOAL_ASSIGN(const Catalogue known, catalogue());
  SHOAL_ASSIGN(const CatalogueEntry* entry, known.find(name.text));
  if (entry != nullptr) return destination_of(*entry);
  SHOAL_ASSIGN(const ModelFile file, resolve_catalogue(name.text));
  return file.path;
}

Status Store::remove(std::string_view model) {
  SHOAL_ASSIGN(const std::string path, path_to_remove(model));
  if (!is_inside(path) && (exists(path) || !path.starts_with(models_ + "/"))) {
    return fail(ErrorCode::kInvalidArgument,
                "{} lies outside {}; Shoal removes only what it has fetched itself, so delete that "
                "file yourself",
                path, models_);
  }
  SHOAL_ASSIGN(const auto lock, FileLock::try_acquire(lock_path(path)));
  if (!lock)
    return fail(ErrorCode::kBusy, "{} is being pulled at this moment; stop that first", model);
  bool removed = false;
  for (const char* ending : {"", ".part", ".part.json", ".part.json.new", ".unpacking"}) {
    std::error_code error;
    removed |= fs::remove(path + ending, error);
    if (error) return fail(ErrorCode::kIo, "cannot remove {}{}: {}", path, ending, error.message());
  }
  // Wheels that an interrupted pull left in the model's own folder.
  const bool own_folder = parent_directory(parent_directory(path)) == models_;
  std::error_code ignored;
  std::vector<fs::path> wheels;
  for (const auto& entry : fs::directory_iterator(parent_directory(path), ignored)) {
    if (own_folder && entry.path().filename().string().find(".whl") != std::string::npos)
      wheels.push_back(entry.path());
  }
  for (const fs::path& wheel : wheels) removed |= fs::remove(wheel, ignored);
  forget(path);
  for (std::string folder = parent_directory(path); folder.starts_with(models_ + "/");
       folder = parent_directory(folder)) {
    if (!fs::remove(folder, ignored)) break;  // not empty
  }
  if (removed) return {};
  return fail(ErrorCode::kNotFound, "'{}' is not on this machine: there is nothing to remove",
              model);
}

}  // namespace shoal
