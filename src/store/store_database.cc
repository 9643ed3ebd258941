#include "store/store_database.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "base/file.h"
#include "base/log.h"

namespace shoal {
namespace {

constexpr int kVersion = 1;

std::unexpected<Error> database_error(sqlite3* connection, std::string_view what) {
  const int code = sqlite3_errcode(connection);
  ErrorCode kind = ErrorCode::kIo;
  if (code == SQLITE_FULL) kind = ErrorCode::kStorageFull;
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) kind = ErrorCode::kBusy;
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) kind = ErrorCode::kCorrupt;
  if (code == SQLITE_READONLY || code == SQLITE_PERM || code == SQLITE_AUTH)
    kind = ErrorCode::kPermission;
  const char* path = sqlite3_db_filename(connection, "main");
  return fail(kind, "{} {}: {}", what, path != nullptr ? path : "the store's database",
              sqlite3_errmsg(connection));
}

// One statement, its parameters bound in order, its rows read one after the other.
class Statement {
 public:
  Statement(sqlite3* connection, const char* sql) : connection_(connection) {
    sqlite3_prepare_v2(connection, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(const std::string& text) {
    if (statement_ != nullptr) {
      sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                        SQLITE_TRANSIENT);
    }
    return *this;
  }
  // SQLite's integers are signed; numbers over their range come back as they went in.
  Statement& bind(uint64_t value) {
    if (statement_ != nullptr)
      sqlite3_bind_int64(statement_, ++bound_, static_cast<int64_t>(value));
    return *this;
  }

  Result<bool> next() {  // false: no more rows
    if (statement_ == nullptr) return database_error(connection_, "cannot use");
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return database_error(connection_, "cannot use");
  }
  Status run() {
    SHOAL_ASSIGN(bool more, next());
    while (more) {
      SHOAL_ASSIGN(more, next());
    }
    return {};
  }
  std::string text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return bytes == nullptr
               ? ""
               : std::string(bytes, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  uint64_t number(int column) const {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
  }

 private:
  sqlite3* connection_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

FileRow file_row(const Statement& statement) {
  return {statement.text(0),
          statement.text(1),
          {statement.number(2), static_cast<int64_t>(statement.number(3)), statement.number(4),
           statement.number(5)}};
}

Result<std::vector<ModelRow>> all_models(Statement& statement) {
  std::vector<ModelRow> rows;
  while (true) {
    SHOAL_ASSIGN(const bool more, statement.next());
    if (!more) return rows;
    rows.push_back({statement.text(0), statement.text(1), statement.text(2)});
  }
}

constexpr const char* kFileColumns =
    "SELECT path, sha256, size_bytes, modified_ns, inode, device FROM files ";

}  // namespace

Result<FileFacts> facts_of(const std::string& path) {
  struct stat facts;
  if (::stat(path.c_str(), &facts) != 0) return system_error("cannot open", path);
  if (S_ISDIR(facts.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is a directory; name a .gguf file inside it",
                path);
  if (!S_ISREG(facts.st_mode))
    return fail(ErrorCode::kInvalidArgument, "{} is not a regular file", path);
  return FileFacts{static_cast<uint64_t>(facts.st_size),
                   facts.st_mtim.tv_sec * int64_t{1'000'000'000} + facts.st_mtim.tv_nsec,
                   static_cast<uint64_t>(facts.st_ino), static_cast<uint64_t>(facts.st_dev)};
}

StoreDatabase::~StoreDatabase() {
  sqlite3_close_v2(connection_);
}

Result<std::unique_ptr<StoreDatabase>> StoreDatabase::connect(const std::string& path) {
  sqlite3* connection = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &connection,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr);
  std::unique_ptr<StoreDatabase> database(new StoreDatabase(connection));
  if (code != SQLITE_OK) return database_error(connection, "cannot open");
  sqlite3_busy_timeout(connection, 10'000);
  SHOAL_TRY(database->prepare_tables());
  return database;
}

Status StoreDatabase::prepare_tables() {
  SHOAL_TRY(Statement(connection_, "PRAGMA journal_mode = WAL").run());
  SHOAL_TRY(Statement(connection_, "PRAGMA synchronous = NORMAL").run());
  Statement version(connection_, "PRAGMA user_version");
  SHOAL_ASSIGN(const bool answered, version.next());
  const uint64_t found = answered ? version.number(0) : 0;
  if (found > kVersion) {
    return fail(
        ErrorCode::kUnsupported,
        "{} was written by a newer Shoal (version {} of its tables; this one knows {}); use "
        "that one, or another --home",
        sqlite3_db_filename(connection_, "main"), found, kVersion);
  }
  for (const char* sql :
       {"CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size_bytes "
        "INTEGER NOT NULL, "
        "modified_ns INTEGER NOT NULL, inode INTEGER NOT NULL, device INTEGER NOT NULL) STRICT",
        "CREATE INDEX IF NOT EXISTS files_by_sha256 ON files (sha256)",
        "CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, path TEXT NOT NULL, source TEXT "
        "NOT NULL) STRICT",
        "CREATE INDEX IF NOT EXISTS models_by_path ON models (path)",
        "CREATE TABLE IF NOT EXISTS sets (path TEXT PRIMARY KEY, sha256 TEXT NOT NULL) STRICT"}) {
    SHOAL_TRY(Statement(connection_, sql).run());
  }
  if (found == kVersion) return {};
  return Statement(connection_, "PRAGMA user_version = 1").run();
}

Result<std::unique_ptr<StoreDatabase>> StoreDatabase::open(const std::string& path) {
  auto database = connect(path);
  if (database || database.error().code != ErrorCode::kCorrupt) return database;
  const std::string aside = path + ".damaged";
  log::warn(
      "{}; it is set aside as {} and begun anew, models on disk are found again by their files",
      database.error().message, aside);
  if (std::rename(path.c_str(), aside.c_str()) != 0) return system_error("cannot set aside", path);
  ::unlink((path + "-wal").c_str());
  ::unlink((path + "-shm").c_str());
  return connect(path);
}

Status StoreDatabase::put_file(const FileRow& row) {
  return Statement(connection_, "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)")
      .bind(row.path)
      .bind(row.sha256)
      .bind(row.facts.size_bytes)
      .bind(static_cast<uint64_t>(row.facts.modified_ns))
      .bind(row.facts.inode)
      .bind(row.facts.device)
      .run();
}

Result<std::optional<FileRow>> StoreDatabase::file_at(const std::string& path) const {
  Statement statement(connection_, (std::string(kFileColumns) + "WHERE path = ?").c_str());
  SHOAL_ASSIGN(const bool found, statement.bind(path).next());
  if (!found) return std::nullopt;
  return file_row(statement);
}

Result<std::vector<FileRow>> StoreDatabase::files_with(const std::string& sha256) const {
  Statement statement(connection_,
                      (std::string(kFileColumns) + "WHERE sha256 = ? ORDER BY path").c_str());
  statement.bind(sha256);
  std::vector<FileRow> rows;
  while (true) {
    SHOAL_ASSIGN(const bool more, statement.next());
    if (!more) return rows;
    rows.push_back(file_row(statement));
  }
}

Status StoreDatabase::forget_file(const std::string& path) {
  SHOAL_TRY(Statement(connection_, "DELETE FROM models WHERE path = ?").bind(path).run());
  SHOAL_TRY(Statement(connection_, "DELETE FROM sets WHERE path = ?").bind(path).run());
  return Statement(connection_, "DELETE FROM files WHERE path = ?").bind(path).run();
}

Status StoreDatabase::put_set(const std::string& path, const std::string& sha256) {
  return Statement(connection_, "INSERT OR REPLACE INTO sets VALUES (?, ?)")
      .bind(path)
      .bind(sha256)
      .run();
}

Result<std::vector<std::string>> StoreDatabase::sets_with(const std::string& sha256) const {
  Statement statement(connection_, "SELECT path FROM sets WHERE sha256 = ? ORDER BY path");
  statement.bind(sha256);
  std::vector<std::string> paths;
  while (true) {
    SHOAL_ASSIGN(const bool more, statement.next());
    if (!more) return paths;
    paths.push_back(statement.text(0));
  }
}

Status StoreDatabase::put_model(const ModelRow& row) {
  return Statement(connection_, "INSERT OR REPLACE INTO models VALUES (?, ?, ?)")
      .bind(row.name)
      .bind(row.path)
      .bind(row.source)
      .run();
}

Result<std::optional<ModelRow>> StoreDatabase::model_named(const std::string& name) const {
  Statement statement(connection_, "SELECT name, path, source FROM models WHERE name = ?");
  SHOAL_ASSIGN(const bool found, statement.bind(name).next());
  if (!found) return std::nullopt;
  return ModelRow{statement.text(0), statement.text(1), statement.text(2)};
}

Result<std::vector<ModelRow>> StoreDatabase::models() const {
  Statement statement(connection_, "SELECT name, path, source FROM models ORDER BY name");
  return all_models(statement);
}

Result<std::vector<ModelRow>> StoreDatabase::models_at(const std::string& path) const {
  Statement statement(connection_,
                      "SELECT name, path, source FROM models WHERE path = ? ORDER BY name");
  return all_models(statement.bind(path));
}

}  // namespace shoal
