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
#include "store/model_parts.h"
#include "store/other_programs.h"
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

// Parts of a split model are found by their names, which must stay: of those only the folder is
// looked through for links.
Result<std::string> whole_path(const std::string& path) {
  if (files_of_model(path).size() == 1) return real_path(path);
  const fs::path given = path;
  SHOAL_ASSIGN(const std::string folder,
               real_path(given.has_parent_path() ? given.parent_path().string() : "."));
  return first_file(folder + "/" + given.filename().string());
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

// Where the entry does not say how the file is called, the name that a pull found for it; ""
// before.
std::string Store::destination_of(const CatalogueEntry& entry) const {
  const std::string folder = fmt::format("{}/{}", models_, folder_name(entry.name));
  if (!entry.file_name.empty()) return folder + "/" + entry.file_name;
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(folder, ignored)) {
    if (is_gguf_name(file.path().string())) return first_file(file.path().string());
  }
  for (const auto& file : fs::directory_iterator(folder, ignored)) {  // of an interrupted pull
    const std::string path = file.path().string();
    if (path.ends_with(".part")) return first_file(path.substr(0, path.size() - 5));
  }
  return "";
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

Result<std::optional<Store::Known>> Store::known(const std::string& path) const {
  std::vector<std::string> sums;
  Known all;
  for (const std::string& file : files_of_model(path)) {
    SHOAL_ASSIGN(const std::optional<FileRow> row, known_file(file));
    if (!row) return std::nullopt;
    sums.push_back(row->sha256);
    all.size_bytes += row->facts.size_bytes;
  }
  all.sha256 = set_identity(sums);
  return all;
}

Result<Store::Known> Store::hashed(const std::string& path, const PullProgress& progress,
                                   CancelFlag cancel) const {
  std::vector<std::string> sums;
  Known all;
  SHOAL_ASSIGN(const uint64_t total_bytes, size_of_model(path));
  const PullProgress of_all = [&](PullEvent event) {
    event.done_bytes += all.size_bytes;
    event.total_bytes = total_bytes;
    progress(event);
  };
  for (const std::string& file : files_of_model(path)) {
    SHOAL_ASSIGN(const FileRow row, hashed_file(file, progress ? of_all : progress, cancel));
    sums.push_back(row.sha256);
    all.size_bytes += row.facts.size_bytes;
  }
  all.sha256 = set_identity(sums);
  if (sums.size() == 1) return all;
  const std::lock_guard lock(mutex_);
  SHOAL_TRY(database_->put_set(path, all.sha256));
  return all;
}

Result<std::optional<std::string>> Store::recorded_sum(const std::string& path) const {
  std::vector<std::string> sums;
  const std::lock_guard lock(mutex_);
  for (const std::string& file : files_of_model(path)) {
    SHOAL_ASSIGN(const std::optional<FileRow> row, database_->file_at(file));
    if (!row) return std::nullopt;
    sums.push_back(row->sha256);
  }
  return set_identity(sums);
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

Status Store::record_file(const std::string& path, const std::string& sha256) const {
  SHOAL_ASSIGN(const FileFacts facts, facts_of(path));
  const std::lock_guard lock(mutex_);
  return database_->put_file({path, sha256, facts});
}

// Of a split model the files are recorded already.
Status Store::record(const std::string& name, const std::string& path, const std::string& sha256,
                     const std::string& source) const {
  const bool is_split = files_of_model(path).size() > 1;
  if (!is_split) {
    SHOAL_TRY(record_file(path, sha256));
  }
  const std::lock_guard lock(mutex_);
  if (is_split) {
    SHOAL_TRY(database_->put_set(path, sha256));
  }
  return database_->put_model({name, path, source});
}

void Store::forget(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  if (const Status done = database_->forget_file(path); !done)
    log::warn("{}", done.error().message);
}

Result<ModelFile> Store::resolve_path(const std::string& path) const {
  const auto found_path = whole_path(with_home_directory(path));
  // "model.gguf" alone may be one of a folder of SHOAL_MODELS.
  if (!found_path && found_path.error().code == ErrorCode::kNotFound &&
      path.find('/') == std::string::npos) {
    if (auto found = named_elsewhere(path)) return *found;
  }
  if (!found_path) return std::unexpected(found_path.error());
  const std::string& whole = *found_path;
  SHOAL_ASSIGN(const uint64_t size_bytes, size_of_model(whole));
  ModelFile file{whole, whole, "", size_bytes, "this machine", files_of_model(whole).size()};
  SHOAL_ASSIGN(const std::optional<Known> sum, known(whole));
  if (sum) file.sha256 = sum->sha256;
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
  {
    const std::lock_guard lock(mutex_);
    SHOAL_ASSIGN(model, database_->model_named(name));
  }
  if (!model) return std::nullopt;
  const std::vector<std::string> files = files_of_model(model->path);
  for (const std::string& file : files) {
    if (exists(file)) continue;
    forget(file);
    return std::nullopt;
  }
  SHOAL_ASSIGN(const std::optional<std::string> before, recorded_sum(model->path));
  SHOAL_ASSIGN(const std::optional<Known> unchanged, known(model->path));
  if (unchanged) {
    return ModelFile{name,          model->path, unchanged->sha256, unchanged->size_bytes,
                     model->source, files.size()};
  }
  if (!before) return std::nullopt;
  std::vector<std::string> sums;
  for (const std::string& file : files) {
    SHOAL_ASSIGN(std::string sum, sha256_of_file(file));
    sums.push_back(std::move(sum));
  }
  const std::string now = set_identity(sums);
  if (now != *before) {
    return fail(ErrorCode::kCorrupt,
                "{} has changed on disk since '{}' was pulled: its SHA-256 is {}, and was {}; "
                "`shoal rm {}` and `shoal pull {}` "
                "fetch it anew, or name the file by its path to use it as it is",
                model->path, name, now, *before, name, name);
  }
  for (size_t i = 0; i < files.size(); ++i) SHOAL_TRY(record_file(files[i], sums[i]));  // touched
  SHOAL_ASSIGN(const uint64_t size_bytes, size_of_model(model->path));
  return ModelFile{name, model->path, now, size_bytes, model->source, files.size()};
}

// A file that lies where a pull would put it but that the database does not know: after a moved
// home, or a lost database.
Result<std::optional<ModelFile>> Store::resolve_unrecorded(const std::string& name,
                                                           const std::string& destination,
                                                           const CatalogueEntry* entry) const {
  if (!exists(destination)) return std::nullopt;
  SHOAL_ASSIGN(const std::string whole, whole_path(destination));
  for (const std::string& file : files_of_model(whole)) {
    if (!exists(file)) return std::nullopt;  // an interrupted pull of a split model
  }
  SHOAL_ASSIGN(const Known row, hashed(whole, {}, nullptr));
  if (entry != nullptr && !entry->sha256.empty() && row.sha256 != entry->sha256) {
    return fail(ErrorCode::kCorrupt,
                "{} is not the file of '{}' in the catalogue: its SHA-256 is {}, not {}; `shoal "
                "pull {}` replaces it, or name "
                "the file by its path to use it as it is",
                destination, name, row.sha256, entry->sha256, name);
  }
  const std::string source = "this machine";
  SHOAL_TRY(record(name, whole, row.sha256, source));
  return ModelFile{name, whole, row.sha256, row.size_bytes, source, files_of_model(whole).size()};
}

std::vector<ModelFile> Store::elsewhere() const {
  std::vector<ModelFile> found = models_of_other_programs();
  for (ModelFile& file : found) {
    const auto sum = known(file.path);
    if (sum && *sum) file.sha256 = (*sum)->sha256;
  }
  return found;
}

std::optional<ModelFile> Store::named_elsewhere(const std::string& name) const {
  const std::string plain = is_gguf_name(name) ? name.substr(0, name.size() - 5) : name;
  for (ModelFile& file : elsewhere()) {
    if (file.name == name || lower_case(file.name) == lower_case(plain)) return std::move(file);
  }
  return std::nullopt;
}

Result<std::optional<ModelFile>> Store::entry_elsewhere(const CatalogueEntry& entry) const {
  for (ModelFile& file : elsewhere()) {
    if (entry.sha256.empty()) {  // then it is what its source calls so
      for (const ModelSource& source : entry.sources) {
        const auto* wanted = std::get_if<HuggingFaceSource>(&source);
        if (wanted == nullptr || !file.name.starts_with("hf:" + wanted->repo + "/")) continue;
        if (has_quant(file.name, entry.quantisation)) return std::move(file);
      }
      continue;
    }
    if (file.size_bytes != entry.size_bytes) continue;
    SHOAL_ASSIGN(const Known sum, hashed(file.path, {}, nullptr));
    if (sum.sha256 != entry.sha256) continue;
    file.sha256 = sum.sha256;
    return std::move(file);
  }
  return std::nullopt;
}

// What another program has of a model that is to be pulled.
std::optional<ModelFile> Store::found_before_pull(const ModelName& name) const {
  const auto found = resolve(name.text);
  if (found && !found->kept_by.empty()) return *found;
  return std::nullopt;
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
    for (ModelFile& found : elsewhere()) {
      if (found.name == prefix + file) return std::move(found);
    }
    return fail(ErrorCode::kNotFound, "{}{} is not on this machine; `shoal pull {}{}` fetches it",
                prefix, file, prefix, file);
  }
  std::vector<std::string> fitting;
  ModelFile of_another_program;
  SHOAL_ASSIGN(const std::vector<ModelFile> files, list());
  for (const ModelFile& candidate : files) {
    if (candidate.name.starts_with(prefix) && (quant.empty() || has_quant(candidate.name, quant))) {
      fitting.push_back(candidate.name);
      if (!candidate.kept_by.empty()) of_another_program = candidate;
    }
  }
  if (fitting.size() == 1 && !of_another_program.path.empty()) return of_another_program;
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
  const Result<const CatalogueEntry*> named = known.find(name);
  const CatalogueEntry* entry = named ? *named : nullptr;
  if (entry != nullptr) {
    SHOAL_ASSIGN(auto stored, resolve_stored(entry->name));
    if (stored) return *stored;
    const std::string destination = destination_of(*entry);
    if (!destination.empty()) {
      SHOAL_ASSIGN(stored, resolve_unrecorded(entry->name, destination, entry));
    }
    if (stored) return *stored;
    SHOAL_ASSIGN(const auto found, entry_elsewhere(*entry));
    if (found) return *found;
    return fail(ErrorCode::kNotFound, "{} is not on this machine; `shoal pull {}` fetches it ({})",
                entry->name, entry->name, format_bytes(entry->size_bytes));
  }
  if (auto found = named_elsewhere(name)) return *found;
  SHOAL_ASSIGN(const std::vector<ModelFile> files, list());
  std::vector<std::string> family;
  for (const ModelFile& file : files) {
    if (file.name.starts_with(lower_case(name) + ":")) family.push_back(file.name);
  }
  if (family.size() == 1) {
    SHOAL_ASSIGN(const auto stored, resolve_stored(family.front()));
    if (stored) return *stored;
  }
  if (family.empty() && !named)
    return std::unexpected(named.error());  // several, none of them here
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
    case ModelName::Kind::kOllama:
      if (auto found = named_elsewhere(name.text)) return *found;
      return fail(ErrorCode::kNotFound,
                  "Ollama keeps no model '{}' on this machine (OLLAMA_MODELS says where it keeps "
                  "them); `ollama pull {}` fetches it, and `shoal list` shows what there is",
                  name.text, name.text.substr(7));
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
    const auto size_bytes = size_of_model(model.path);
    if (!size_bytes) continue;
    SHOAL_ASSIGN(const std::optional<Known> sum, known(model.path));
    files.push_back({model.name, model.path, sum ? sum->sha256 : "", *size_bytes, model.source,
                     files_of_model(model.path).size()});
  }
  // Files of the catalogue that a lost database has forgotten.
  if (const auto known = catalogue()) {
    for (const CatalogueEntry& entry : known->entries()) {
      if (std::ranges::find(files, entry.name, &ModelFile::name) != files.end()) continue;
      const std::string path = destination_of(entry);
      const auto size_bytes = size_of_model(path);
      if (!size_bytes || (!entry.sha256.empty() && *size_bytes != entry.size_bytes)) continue;
      files.push_back(
          {entry.name, path, "", *size_bytes, "this machine", files_of_model(path).size()});
    }
  }
  for (ModelFile& found : elsewhere()) {
    const bool is_listed = std::ranges::any_of(files, [&](const ModelFile& file) {
      return file.name == found.name || file.path == found.path;
    });
    if (!is_listed) files.push_back(std::move(found));
  }
  std::ranges::sort(files, {}, &ModelFile::name);
  return files;
}

std::optional<ModelFile> Store::find_by_sha256(const std::string& sha256) const {
  const std::string wanted = lower_case(sha256);
  std::vector<std::string> candidates;
  {
    const std::lock_guard lock(mutex_);
    const auto rows = database_->files_with(wanted);
    if (rows) {
      for (const FileRow& row : *rows) candidates.push_back(row.path);
    }
    const auto sets = database_->sets_with(wanted);
    if (sets) candidates.insert(candidates.end(), sets->begin(), sets->end());
  }
  for (const std::string& path : candidates) {
    // One part of a split model is a file like any other here: a node may ask for it alone.
    const auto part = known_file(path);
    const bool is_file = part && *part && (*part)->sha256 == wanted;
    const auto whole = is_file ? Result<std::optional<Known>>(std::nullopt) : known(path);
    const bool is_set = whole && *whole && (*whole)->sha256 == wanted;
    if (!is_file && !is_set) continue;
    ModelFile file{path,           path,
                   wanted,         is_file ? (*part)->facts.size_bytes : (*whole)->size_bytes,
                   "this machine", is_file ? 1 : files_of_model(path).size()};
    const std::lock_guard lock(mutex_);
    const auto models = database_->models_at(path);
    if (models && !models->empty()) {
      file.name = models->front().name;
      file.source = models->front().source;
    }
    return file;
  }
  return std::nullopt;
}

std::string Store::part_list(const ModelFile& file) const {
  std::vector<ModelPart> parts;
  for (const std::string& path : files_of_model(file.path)) {
    const auto row = known_file(path);
    if (!row || !*row) return "";
    parts.push_back({fs::path(path).filename().string(), (*row)->sha256, (*row)->facts.size_bytes});
  }
  return part_list_text(parts);
}

Result<ModelFile> Store::add_path(const std::string& path, const PullProgress& progress,
                                  CancelFlag cancel) {
  SHOAL_ASSIGN(const std::string whole, whole_path(with_home_directory(path)));
  SHOAL_TRY(hashed(whole, progress, cancel));
  return resolve_path(whole);
}

// Where the file of MODEL is, or would be if it had been pulled.
Result<std::string> Store::path_to_remove(std::string_view model) const {
  SHOAL_ASSIGN(const ModelName name, parse_model_name(model));
  if (name.kind == ModelName::Kind::kPath) {
    const fs::path path = with_home_directory(name.text);
    SHOAL_ASSIGN(const std::string folder,
                 real_path(path.has_parent_path() ? path.parent_path() : "."));
    return first_file(folder + "/" + path.filename().string());
  }
  if (name.kind == ModelName::Kind::kOllama) {
    SHOAL_ASSIGN(const ModelFile file, resolve(model));
    return file.path;
  }
  if (name.kind == ModelName::Kind::kHuggingFace) {
    if (!name.file.empty()) {  // it may have come from another node, to another folder
      const std::lock_guard lock(mutex_);
      SHOAL_ASSIGN(const auto row,
                   database_->model_named(fmt::format("hf:{}/{}", name.repo, name.file)));
      return row ? row->path : destination_of_hugging_face(name.repo, name.file);
    }
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
  if (entry != nullptr) {
    std::string destination = destination_of(*entry);
    if (!destination.empty()) return destination;
    return fail(ErrorCode::kNotFound, "'{}' is not on this machine: there is nothing to remove",
                model);
  }
  SHOAL_ASSIGN(const ModelFile file, resolve_catalogue(name.text));
  return file.path;
}

Status Store::remove(std::string_view model) {
  if (const auto file = resolve(model); file && !file->kept_by.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is {}, kept by {}; Shoal uses it in place and deletes only what it has "
                "fetched itself, so remove it where it came from",
                model, file->path, file->kept_by);
  }
  SHOAL_ASSIGN(const std::string path, path_to_remove(model));
  if (!is_inside(path) && (exists(path) || !path.starts_with(models_ + "/"))) {
    return fail(ErrorCode::kInvalidArgument,
                "{} lies outside {}; Shoal removes only what it has fetched itself, so delete that "
                "file yourself",
                path, models_);
  }
  bool removed = false;
  for (const std::string& file : files_of_model(path)) {
    SHOAL_ASSIGN(const bool was_there, remove_file(file, model));
    removed |= was_there;
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
  for (std::string folder = parent_directory(path); folder.starts_with(models_ + "/");
       folder = parent_directory(folder)) {
    if (!fs::remove(folder, ignored)) break;  // not empty
  }
  if (removed) return {};
  return fail(ErrorCode::kNotFound, "'{}' is not on this machine: there is nothing to remove",
              model);
}

// One file and what an interrupted pull left of it; whether there was any.
Result<bool> Store::remove_file(const std::string& path, std::string_view model) const {
  SHOAL_ASSIGN(const auto lock, FileLock::try_acquire(lock_path(path)));
  if (!lock)
    return fail(ErrorCode::kBusy, "{} is being pulled at this moment; stop that first", model);
  bool removed = false;
  for (const char* ending : {"", ".part", ".part.json", ".part.json.new", ".unpacking"}) {
    std::error_code error;
    removed |= fs::remove(path + ending, error);
    if (error) return fail(ErrorCode::kIo, "cannot remove {}{}: {}", path, ending, error.message());
  }
  forget(path);
  return removed;
}

}  // namespace shoal
