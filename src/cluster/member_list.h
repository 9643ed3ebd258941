// Who belongs to the cluster, as a value that merges: every member keeps the whole list, the last
// writer of an entry wins by (Lamport counter, writer), and a removal is an entry that stays, so
// that a removed node does not come back by gossip. Pure; one thread at a time.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal::cluster {

struct Stamp {
  uint64_t counter = 0;
  std::string writer;  // node id
  auto operator<=>(const Stamp&) const = default;
};

struct Member {
  std::string id;
  std::string name;
  std::vector<std::string> addresses;  // last known addresses of its node port
  int64_t joined_unix_s = 0;  // by the clock of who added it; shown to people, decides nothing
  bool removed = false;
  Stamp stamp;
  bool operator==(const Member&) const = default;
};

class MemberList {
 public:
  // Adds or brings back a node, written by `writer`.
  void add(Member member, const std::string& writer);
  void remove(const std::string& id, const std::string& writer);
  // What a node says of itself; not stamped, because nobody else says it. True when it differs from
  // what was known.
  bool describe(const std::string& id, const std::string& name,
                const std::vector<std::string>& addresses);

  bool is_member(const std::string& id) const;
  const Member* find(const std::string& id) const;  // removed ones too
  std::vector<Member> members() const;              // without removed ones, by id
  const std::map<std::string, Member>& entries() const { return entries_; }

  LinkMode link_mode() const { return link_mode_; }
  const Stamp& link_mode_stamp() const { return link_mode_stamp_; }
  void set_link_mode(LinkMode mode, const std::string& writer);

  // Takes what is newer in `other`. True when anything changed.
  bool merge(const MemberList& other);
  // Equal for lists whose merge would change neither.
  std::string digest() const;

  uint64_t counter() const { return counter_; }
  void advance(uint64_t counter) { counter_ = std::max(counter_, counter); }
  // As read from a store: the entry as it is.
  void restore(Member member);
  void restore_link_mode(LinkMode mode, Stamp stamp);

  bool operator==(const MemberList&) const = default;

 private:
  Stamp next(const std::string& writer) { return {++counter_, writer}; }

  std::map<std::string, Member> entries_;
  LinkMode link_mode_ = LinkMode::kTls;
  Stamp link_mode_stamp_;
  uint64_t counter_ = 0;  // of the highest stamp seen
};

Json to_json(const MemberList& list);
Result<MemberList> member_list_from_json(const Json& json);

// What a stranger calls itself, fit for a terminal: no control characters, at most 64 bytes.
std::string clean_name(std::string_view name);
bool is_node_id(std::string_view text);  // 64 lower-case hexadecimal digits
Result<std::vector<std::string>> addresses_from_json(const Json& json, const char* field);

}  // namespace shoal::cluster
