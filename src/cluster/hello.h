// What a heartbeat and its answer carry. docs/formats/control-plane.md lists the fields. Pure; any
// thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/member_list.h"
#include "placement/placement.h"

namespace shoal::cluster {

struct LinkMeasure {
  double round_trip_s = 0;
  double bytes_per_s = 0;
  bool operator==(const LinkMeasure&) const = default;
};

struct Hello {
  int protocol = 0;
  uint64_t incarnation = 0;
  bool hears_you = false;
  std::string refusal;  // why the sender excludes the receiver; empty when it does not
  std::string name;
  std::vector<std::string> addresses;
  NodeFacts facts;
  Json state = Json::object();               // the daemon's own (instances and the like)
  std::map<std::string, LinkMeasure> links;  // that the sender measured, by node id
  std::string list_digest;
  std::optional<MemberList> list;  // when the receiver's differs, as far as the sender knows
};

Json to_json(const Hello& hello);
// The protocol version is read first and alone: of a version not ours only `protocol` is filled in.
Result<Hello> hello_from_json(const Json& json, int our_protocol);

}  // namespace shoal::cluster
