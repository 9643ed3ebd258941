// HOME/store.db: what is known of files on disk, so that names are found and nothing is hashed
// twice. SQLite with a write-ahead log, shared among processes; docs/formats/store.md has the
// tables. Not thread-safe: Store holds a mutex around it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

struct sqlite3;

namespace shoal {

// By which a file is known to be the one that was hashed.
struct FileFacts {
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;
  uint64_t inode = 0;
  uint64_t device = 0;
  bool operator==(const FileFacts&) const = default;
};
// kNotFound, kInvalidArgument for what is no regular file.
Result<FileFacts> facts_of(const std::string& path);

struct FileRow {
  std::string path;  // absolute, no symbolic links
  std::string sha256;
  FileFacts facts;
};

struct ModelRow {
  std::string name;
  std::string path;
  std::string source;  // where it came from, for people
};

class StoreDatabase {
 public:
  // A damaged database is set aside (HOME/store.db.damaged) and begun anew: it only remembers, the
  // files are the truth.
  static Result<std::unique_ptr<StoreDatabase>> open(const std::string& path);
  ~StoreDatabase();
  StoreDatabase(const StoreDatabase&) = delete;
  StoreDatabase& operator=(const StoreDatabase&) = delete;

  Status put_file(const FileRow& row);
  Result<std::optional<FileRow>> file_at(const std::string& path) const;
  Result<std::vector<FileRow>> files_with(const std::string& sha256) const;
  Status forget_file(const std::string& path);  // and every model of that path

  // A split model by its identity (model_parts.h) and its first part.
  Status put_set(const std::string& path, const std::string& sha256);
  Result<std::vector<std::string>> sets_with(const std::string& sha256) const;

  Status put_model(const ModelRow& row);
  Result<std::optional<ModelRow>> model_named(const std::string& name) const;
  Result<std::vector<ModelRow>> models() const;  // by name
  Result<std::vector<ModelRow>> models_at(const std::string& path) const;

 private:
  explicit StoreDatabase(sqlite3* connection) : connection_(connection) {}
  static Result<std::unique_ptr<StoreDatabase>> connect(const std::string& path);
  Status prepare_tables();

  sqlite3* connection_;
};

}  // namespace shoal
