#include "cluster/member_list.h"

#include <algorithm>

#include "base/bytes.h"

namespace shoal::cluster {
namespace {

constexpr size_t kMostEntries = 4096;
constexpr size_t kMostAddresses = 16;
constexpr size_t kLongestName = 64;
constexpr size_t kLongestAddress = 300;
// Far beyond what any cluster writes, far below where adding one would overflow.
constexpr uint64_t kHighestCounter = uint64_t{1} << 62;

Json to_json(const Stamp& stamp) {
  return {{"counter", stamp.counter}, {"writer", stamp.writer}};
}

Result<Stamp> stamp_from_json(const Json& json) {
  Stamp stamp;
  SHOAL_ASSIGN(stamp.counter, json_field<uint64_t>(json, "counter"));
  SHOAL_ASSIGN(stamp.writer, json_field<std::string>(json, "writer"));
  if (stamp.counter > kHighestCounter) {
    return fail(ErrorCode::kInvalidArgument,
                "the counter {} of a member's entry is beyond what can be", stamp.counter);
  }
  if (!stamp.writer.empty() && !is_node_id(stamp.writer)) {
    return fail(ErrorCode::kInvalidArgument, "the writer of a member's entry is not a node id");
  }
  return stamp;
}

Json to_json(const Member& member) {
  return {{"id", member.id},
          {"name", member.name},
          {"addresses", member.addresses},
          {"joined_unix_s", member.joined_unix_s},
          {"removed", member.removed},
          {"stamp", to_json(member.stamp)}};
}

Result<Member> member_from_json(const Json& json) {
  Member member;
  SHOAL_ASSIGN(member.id, json_field<std::string>(json, "id"));
  if (!is_node_id(member.id))
    return fail(ErrorCode::kInvalidArgument, "a member's id is not a node id");
  SHOAL_ASSIGN(const std::string name, json_field_or<std::string>(json, "name", ""));
  member.name = clean_name(name);
  SHOAL_ASSIGN(member.addresses, addresses_from_json(json, "addresses"));
  SHOAL_ASSIGN(member.joined_unix_s, json_field_or<int64_t>(json, "joined_unix_s", 0));
  SHOAL_ASSIGN(member.removed, json_field_or<bool>(json, "removed", false));
  SHOAL_ASSIGN(const Json stamp, json_field<Json>(json, "stamp"));
  SHOAL_ASSIGN(member.stamp, stamp_from_json(stamp));
  return member;
}

}  // namespace

std::string clean_name(std::string_view name) {
  std::string clean(name.substr(0, kLongestName));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return clean;
}

bool is_node_id(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<std::vector<std::string>> addresses_from_json(const Json& json, const char* field) {
  SHOAL_ASSIGN(const Json list, json_field_or<Json>(json, field, Json::array()));
  if (!list.is_array() || list.size() > kMostAddresses) {
    return fail(ErrorCode::kInvalidArgument,
                "the field '{}' must be a list of at most {} addresses", field, kMostAddresses);
  }
  std::vector<std::string> addresses;
  for (const Json& entry : list) {
    if (!entry.is_string() || entry.get_ref<const std::string&>().size() > kLongestAddress) {
      return fail(ErrorCode::kInvalidArgument,
                  "the field '{}' holds something that is not an address", field);
    }
    addresses.push_back(entry.get<std::string>());
  }
  return addresses;
}

void MemberList::add(Member member, const std::string& writer) {
  member.stamp = next(writer);
  member.removed = false;
  entries_[member.id] = std::move(member);
}

void MemberList::remove(const std::string& id, const std::string& writer) {
  Member& member = entries_[id];
  member.id = id;
  member.removed = true;
  member.addresses.clear();
  member.stamp = next(writer);
}

bool MemberList::describe(const std::string& id, const std::string& name,
                          const std::vector<std::string>& addresses) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.removed) return false;
  Member& member = found->second;
  const bool differs = member.name != name || member.addresses != addresses;
  member.name = name;
  member.addresses = addresses;
  return differs;
}

bool MemberList::is_member(const std::string& id) const {
  const auto found = entries_.find(id);
  return found != entries_.end() && !found->second.removed;
}

const Member* MemberList::find(const std::string& id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : &found->second;
}

std::vector<Member> MemberList::members() const {
  std::vector<Member> members;
  for (const auto& [id, member] : entries_) {
    if (!member.removed) members.push_back(member);
  }
  return members;
}

void MemberList::set_link_mode(LinkMode mode, const std::string& writer) {
  link_mode_ = mode;
  link_mode_stamp_ = next(writer);
}

bool MemberList::merge(const MemberList& other) {
  bool changed = false;
  for (const auto& [id, theirs] : other.entries_) {
    const auto found = entries_.find(id);
    if (found != entries_.end() && found->second.stamp >= theirs.stamp) continue;
    entries_[id] = theirs;
    changed = true;
  }
  if (other.link_mode_stamp_ > link_mode_stamp_) {
    link_mode_ = other.link_mode_;
    link_mode_stamp_ = other.link_mode_stamp_;
    changed = true;
  }
  advance(other.counter_);
  return changed;
}

std::string MemberList::digest() const {
  // Stamps alone: names and addresses travel with their own node's heartbeats.
  std::string text;
  for (const auto& [id, member] : entries_) {
    text +=
        fmt::format("{} {} {} {}\n", id, member.removed, member.stamp.counter, member.stamp.writer);
  }
  text += fmt::format("{} {}", link_mode_stamp_.counter, link_mode_stamp_.writer);
  return sha256(text);
}

void MemberList::restore(Member member) {
  advance(member.stamp.counter);
  entries_[member.id] = std::move(member);
}

void MemberList::restore_link_mode(LinkMode mode, Stamp stamp) {
  advance(stamp.counter);
  link_mode_ = mode;
  link_mode_stamp_ = std::move(stamp);
}

Json to_json(const MemberList& list) {
  Json members = Json::array();
  for (const auto& [id, member] : list.entries()) members.push_back(to_json(member));
  return {{"members", std::move(members)},
          {"link_mode", link_mode_name(list.link_mode())},
          {"link_mode_stamp", to_json(list.link_mode_stamp())}};
}

Result<MemberList> member_list_from_json(const Json& json) {
  MemberList list;
  SHOAL_ASSIGN(const Json members, json_field<Json>(json, "members"));
  if (!members.is_array() || members.size() > kMostEntries) {
    return fail(ErrorCode::kInvalidArgument,
                "the field 'members' must be a list of at most {} members", kMostEntries);
  }
  for (const Json& entry : members) {
    SHOAL_ASSIGN(Member member, member_from_json(entry));
    list.restore(std::move(member));
  }
  SHOAL_ASSIGN(const std::string mode_name, json_field<std::string>(json, "link_mode"));
  SHOAL_ASSIGN(const LinkMode mode, link_mode_named(mode_name));
  SHOAL_ASSIGN(const Json stamp_json, json_field<Json>(json, "link_mode_stamp"));
  SHOAL_ASSIGN(Stamp stamp, stamp_from_json(stamp_json));
  list.restore_link_mode(mode, std::move(stamp));
  return list;
}

}  // namespace shoal::cluster
