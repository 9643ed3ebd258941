// The durable member list: SQLite in HOME/cluster.db (mode 0600), written whole in one transaction
// whenever it changes, which is when somebody joins, leaves or moves. Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "cluster/member_list.h"

struct sqlite3;

namespace shoal::cluster {

class MemberStore {
 public:
  // kCorrupt for a damaged file and kUnsupported for one of a newer Shoal; neither is replaced.
  static Result<MemberStore> open(const std::string& home);
  Result<MemberList> load();
  Status save(const MemberList& list);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  MemberStore(std::unique_ptr<sqlite3, Close> database, std::string path)
      : database_(std::move(database)), path_(std::move(path)) {}
  Status prepare();
  Status write(const MemberList& list);

  std::unique_ptr<sqlite3, Close> database_;
  std::string path_;
};

}  // namespace shoal::cluster
