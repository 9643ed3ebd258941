#include "cluster/member_store.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <optional>

#include "base/file.h"

namespace shoal::cluster {
namespace {

constexpr int kSchemaVersion = 1;

std::unexpected<Error> database_error(sqlite3* database, const std::string& path) {
  const int code = sqlite3_errcode(database) & 0xff;
  const char* why = sqlite3_errmsg(database);
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return fail(ErrorCode::kCorrupt,
                "{} is damaged ({}): put it back from a backup, or move it away; this node then "
                "starts as a cluster of "
                "one and must be invited again",
                path, why);
  }
  if (code == SQLITE_FULL)
    return fail(ErrorCode::kStorageFull, "cannot write {}: the disk is full", path);
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return fail(ErrorCode::kConflict,
                "{} is in use by another process: is another daemon running in this home?", path);
  }
  if (code == SQLITE_PERM || code == SQLITE_READONLY || code == SQLITE_AUTH) {
    return fail(ErrorCode::kPermission, "cannot write {}: {}", path, why);
  }
  return fail(ErrorCode::kIo, "cannot use {}: {}", path, why);
}

// A prepared statement; errors are kept until the end.
class Statement {
 public:
  Statement(sqlite3* database, const std::string& path, const char* sql)
      : database_(database), path_(path) {
    good_ = sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr) == SQLITE_OK;
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int index, const std::string& text) {
    if (good_)
      good_ = sqlite3_bind_text(statement_, index, text.data(), static_cast<int>(text.size()),
                                SQLITE_TRANSIENT) == SQLITE_OK;
    return *this;
  }
  Statement& bind(int index, int64_t number) {
    if (good_) good_ = sqlite3_bind_int64(statement_, index, number) == SQLITE_OK;
    return *this;
  }
  Result<bool> step() {  // true: there is a row
    const int code = good_ ? sqlite3_step(statement_) : SQLITE_ERROR;
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return database_error(database_, path_);
  }
  Status run() {
    SHOAL_TRY(step());
    return {};
  }
  std::string text(int column) const {
    const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return data == nullptr
               ? ""
               : std::string(data, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }

 private:
  sqlite3* database_;
  const std::string& path_;
  sqlite3_stmt* statement_ = nullptr;
  bool good_ = false;
};

Status execute(sqlite3* database, const std::string& path, const char* sql) {
  if (sqlite3_exec(database, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return database_error(database, path);
}

}  // namespace

void MemberStore::Close::operator()(sqlite3* database) const {
  sqlite3_close(database);
}

Result<MemberStore> MemberStore::open(const std::string& home) {
  SHOAL_TRY(make_directories(home));
  const std::string path = home + "/cluster.db";
  // Made here first, so that it is never readable by others, whatever the process's mask.
  const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!made) return system_error("cannot open", path);
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE, nullptr);
  std::unique_ptr<sqlite3, Close> database(raw);
  if (opened != SQLITE_OK) return database_error(database.get(), path);
  sqlite3_busy_timeout(database.get(), 1000);
  MemberStore store(std::move(database), path);
  SHOAL_TRY(store.prepare());
  return store;
}

Status MemberStore::prepare() {
  Statement version(database_.get(), path_, "PRAGMA user_version");
  SHOAL_TRY(version.step());
  const int64_t found = version.number(0);
  if (found > kSchemaVersion) {
    return fail(ErrorCode::kUnsupported,
                "{} was written by a newer Shoal (format {}, this one knows {}): update this node",
                path_, found, kSchemaVersion);
  }
  Statement check(database_.get(), path_, "PRAGMA quick_check(1)");
  SHOAL_TRY(check.step());
  if (check.text(0) != "ok") {
    return fail(ErrorCode::kCorrupt,
                "{} is damaged ({}): put it back from a backup, or move it away; this node then "
                "starts as a cluster of "
                "one and must be invited again",
                path_, check.text(0));
  }
  return execute(database_.get(), path_,
                 "PRAGMA synchronous=FULL;"
                 "BEGIN IMMEDIATE;"
                 "CREATE TABLE IF NOT EXISTS member(id TEXT PRIMARY KEY, name TEXT NOT NULL, "
                 "addresses TEXT NOT NULL,"
                 " joined_unix_s INTEGER NOT NULL, removed INTEGER NOT NULL, counter INTEGER NOT "
                 "NULL, writer TEXT NOT NULL);"
                 "CREATE TABLE IF NOT EXISTS setting(name TEXT PRIMARY KEY, value TEXT NOT NULL,"
                 " counter INTEGER NOT NULL, writer TEXT NOT NULL);"
                 "PRAGMA user_version=1;"
                 "COMMIT;");
}

Result<MemberList> MemberStore::load() {
  MemberList list;
  Statement rows(database_.get(), path_,
                 "SELECT id, name, addresses, joined_unix_s, removed, counter, writer FROM member");
  while (true) {
    SHOAL_ASSIGN(const bool more, rows.step());
    if (!more) break;
    const auto addresses = parse_json(rows.text(2));
    const auto listed = addresses
                            ? addresses_from_json(Json{{"addresses", *addresses}}, "addresses")
                            : std::unexpected(addresses.error());
    if (!is_node_id(rows.text(0)) || !listed || rows.number(5) < 0) {
      return fail(ErrorCode::kCorrupt,
                  "{} holds a member entry that cannot be ('{}'): put the file back from a backup",
                  path_, rows.text(0).substr(0, 64));
    }
    list.restore({rows.text(0),
                  rows.text(1),
                  *listed,
                  rows.number(3),
                  rows.number(4) != 0,
                  {static_cast<uint64_t>(rows.number(5)), rows.text(6)}});
  }
  Statement settings(database_.get(), path_, "SELECT name, value, counter, writer FROM setting");
  while (true) {
    SHOAL_ASSIGN(const bool more, settings.step());
    if (!more) break;
    const auto counter = static_cast<uint64_t>(std::max<int64_t>(0, settings.number(2)));
    if (settings.text(0) == "counter") list.advance(counter);
    if (settings.text(0) != "link_mode") continue;
    SHOAL_ASSIGN(const LinkMode mode, link_mode_named(settings.text(1)));
    list.restore_link_mode(mode, {counter, settings.text(3)});
  }
  return list;
}

Status MemberStore::save(const MemberList& list) {
  SHOAL_TRY(execute(database_.get(), path_, "BEGIN IMMEDIATE"));
  const Status written = write(list);
  if (!written) {
    (void)execute(database_.get(), path_, "ROLLBACK");
    return written;
  }
  return execute(database_.get(), path_, "COMMIT");
}

Status MemberStore::write(const MemberList& list) {
  sqlite3* database = database_.get();
  SHOAL_TRY(execute(database, path_, "DELETE FROM member; DELETE FROM setting"));
  for (const auto& [id, member] : list.entries()) {
    SHOAL_TRY(Statement(database, path_, "INSERT INTO member VALUES(?,?,?,?,?,?,?)")
                  .bind(1, id)
                  .bind(2, member.name)
                  .bind(3, dump_json(Json(member.addresses)))
                  .bind(4, member.joined_unix_s)
                  .bind(5, int64_t{member.removed})
                  .bind(6, static_cast<int64_t>(member.stamp.counter))
                  .bind(7, member.stamp.writer)
                  .run());
  }
  const auto put = [&](const char* name, std::string_view value, uint64_t counter,
                       const std::string& writer) {
    return Statement(database, path_, "INSERT INTO setting VALUES(?,?,?,?)")
        .bind(1, std::string(name))
        .bind(2, std::string(value))
        .bind(3, static_cast<int64_t>(counter))
        .bind(4, writer)
        .run();
  };
  SHOAL_TRY(put("link_mode", link_mode_name(list.link_mode()), list.link_mode_stamp().counter,
                list.link_mode_stamp().writer));
  return put("counter", "", list.counter(), "");
}

}  // namespace shoal::cluster
