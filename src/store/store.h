// Models on disk: HOME/models with files that a person recognises, and HOME/store.db that knows
// their checksums. Every function may be called from any thread at any time and by several
// processes over one home; those that fetch or hash block for as long as that takes, so never from
// the daemon's loop. A killed process leaves nothing that the next one cannot go on from.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/catalogue.h"
#include "store/http_transfer.h"

namespace shoal {

class StoreDatabase;
struct FileRow;
struct ModelName;

struct ModelFile {
  std::string
      name;  // "smollm2:135m", "hf:owner/repo/file.gguf", or the path of a file outside the store
  std::string path;         // absolute; of a split model its first part's
  std::string sha256;       // "": not yet computed (add_path does); of a split model set_identity
  uint64_t size_bytes = 0;  // of all parts
  std::string
      source;  // where it came from, for people: "Hugging Face (owner/repo)", "this machine"
  size_t part_count = 1;  // above 1: a split model, whose parts lie beside `path`
  std::string kept_by;    // another program that keeps it, "Ollama"; used in place, never deleted
};

// What a node answers instead of a file when the checksum is that of a split model, and its type.
inline constexpr std::string_view kPartListType = "application/vnd.shoal.parts+json";

// What a pull is doing, for a progress bar: at most about ten times a second.
struct PullEvent {
  enum class Phase {
    kWaiting,   // another pull of the same model is under way; this one takes over its result
    kChecking,  // hashing what is on disk
    kDownloading,
    kUnpacking,
    kNote,  // `note` is a sentence to show: a source was given up, the next one is tried
  };
  Phase phase = Phase::kDownloading;
  std::string source;  // as in ModelFile
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;  // 0: not known
  double bytes_per_s = 0;
  std::string note;
};
using PullProgress = std::function<void(const PullEvent&)>;

class Store {
 public:
  // Makes what is missing of `home`. kIo, kPermission, kUnsupported (a newer Shoal's database).
  static Result<std::unique_ptr<Store>> open(const std::string& home,
                                             NetworkPatience patience = {});
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // The file that MODEL means and that is on disk: a catalogue name (also without its tag when that
  // is unambiguous), an hf: name, a path. kNotFound says what to do: `shoal pull X`, or the nearest
  // names. Does not read a path's file, so its sha256 is "" unless known already. A stored file
  // that changed on disk since it was hashed is hashed again; kCorrupt when it is no longer what
  // was pulled.
  Result<ModelFile> resolve(std::string_view model) const;

  // Fetches MODEL from the first of its sources that has it, and nothing when it is here already.
  // Of two pulls of one model the second waits for the first.
  Result<ModelFile> pull(std::string_view model, const PullProgress& progress = {},
                         CancelFlag cancel = nullptr);
  // Fetches a file that another node has. `name` is what that node calls it; a path is reduced to
  // its file name. `size_bytes` 0: not known.
  Result<ModelFile> pull_from_peer(const std::string& sha256, const std::string& name,
                                   const PeerSource& peer, uint64_t size_bytes = 0,
                                   const PullProgress& progress = {}, CancelFlag cancel = nullptr);

  // What is in the store and what other programs keep (other_programs.h), by name. Files outside
  // that add_path has seen are not listed.
  Result<std::vector<ModelFile>> list() const;
  // Deletes a model's file, or what an interrupted pull left of it; never anything outside
  // HOME/models. kNotFound, kInvalidArgument, kBusy (being pulled).
  Status remove(std::string_view model);
  // A file with these contents, in the store or seen by add_path, unchanged since it was hashed.
  std::optional<ModelFile> find_by_sha256(const std::string& sha256) const;
  // The parts of a split model as another node asks for them, of the type kPartListType. "": their
  // checksums are not known.
  std::string part_list(const ModelFile& file) const;
  // Takes note of a file outside the store and its checksum, which is computed once and reused
  // while size, time of change and inode stay the same.
  Result<ModelFile> add_path(const std::string& path, const PullProgress& progress = {},
                             CancelFlag cancel = nullptr);

  // Where the files of MODEL (hf: or of the catalogue) lie on Hugging Face, a split model's parts
  // in order, for looking into them from afar. kNotFound, kInvalidArgument.
  Result<std::vector<HuggingFaceSource>> remote_files(std::string_view model,
                                                      CancelFlag cancel = nullptr) const;

  // Built in, with HOME/catalogue.toml merged over it, as it is now. kInvalidArgument names the
  // line at fault.
  Result<Catalogue> catalogue() const { return load_catalogue(home_); }
  const std::string& models_directory() const { return models_; }
  const NetworkPatience& patience() const { return patience_; }

 private:
  friend class Pull;  // one pull under way; in store_pull.cc

  Store(std::string home, std::unique_ptr<StoreDatabase> database, NetworkPatience patience);

  std::string destination_of(const CatalogueEntry& entry) const;
  std::string destination_of_hugging_face(const std::string& repo, const std::string& file) const;
  std::string lock_path(const std::string& destination) const;
  bool is_inside(const std::string& path) const;

  Result<ModelFile> resolve_path(const std::string& path) const;
  Result<std::optional<ModelFile>> resolve_stored(const std::string& name) const;
  Result<std::optional<ModelFile>> resolve_unrecorded(const std::string& name,
                                                      const std::string& destination,
                                                      const CatalogueEntry* entry) const;
  Result<ModelFile> resolve_hugging_face(const std::string& repo, const std::string& file,
                                         const std::string& quant) const;
  Result<ModelFile> resolve_catalogue(const std::string& name) const;
  std::unexpected<Error> unknown_name(const std::string& name, const Catalogue& catalogue) const;

  // Of other programs: all; the one of an hf: or ollama: name or a file's name; the file of a
  // catalogue's entry, whose checksum is then right (computed when need be) where it is known.
  std::vector<ModelFile> elsewhere() const;
  std::optional<ModelFile> named_elsewhere(const std::string& name) const;
  Result<std::optional<ModelFile>> entry_elsewhere(const CatalogueEntry& entry) const;
  std::optional<ModelFile> found_before_pull(const ModelName& name) const;

  // A model on disk, in one file or several.
  struct Known {
    std::string sha256;
    uint64_t size_bytes = 0;
  };
  // Its checksum, where it is known and nothing has changed since.
  Result<std::optional<Known>> known(const std::string& path) const;
  // The same, computed when need be.
  Result<Known> hashed(const std::string& path, const PullProgress& progress,
                       CancelFlag cancel) const;
  // The same, whatever has changed since; as it was recorded.
  Result<std::optional<std::string>> recorded_sum(const std::string& path) const;
  Result<ModelFile> pull_entry(const CatalogueEntry& entry, const PullProgress& progress,
                               CancelFlag cancel);
  Result<ModelFile> pull_parts_from_peer(const std::string& sha256, const std::string& name,
                                         const std::string& destination, const PeerSource& peer,
                                         const PullProgress& progress, CancelFlag cancel);

  // The row of one file whose checksum is known and that has not changed since.
  Result<std::optional<FileRow>> known_file(const std::string& path) const;
  // The same, computed when need be.
  Result<FileRow> hashed_file(const std::string& path, const PullProgress& progress,
                              CancelFlag cancel) const;
  Status record(const std::string& name, const std::string& path, const std::string& sha256,
                const std::string& source) const;
  Status record_file(const std::string& path, const std::string& sha256) const;
  void forget(const std::string& path) const;
  Result<std::string> path_to_remove(std::string_view model) const;
  Result<bool> remove_file(const std::string& path, std::string_view model) const;

  const std::string home_;
  const std::string models_;  // HOME/models, absolute, without symbolic links
  const NetworkPatience patience_;
  mutable std::mutex mutex_;  // around database_
  std::unique_ptr<StoreDatabase> database_;
};

}  // namespace shoal
