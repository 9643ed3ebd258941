#include "cluster/hello.h"

#include <charconv>
#include <cmath>

namespace shoal::cluster {
namespace {

constexpr size_t kMostLinks = 4096;
constexpr size_t kLongestText = 1024;

Result<uint64_t> incarnation_from_json(const Json& json) {
  SHOAL_ASSIGN(const std::string text, json_field<std::string>(json, "incarnation"));
  uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (problem != std::errc() || end != text.data() + text.size() || value == 0) {
    return fail(ErrorCode::kInvalidArgument,
                "the field 'incarnation' is not a hexadecimal number above 0");
  }
  return value;
}

Result<std::map<std::string, LinkMeasure>> links_from_json(const Json& json) {
  SHOAL_ASSIGN(const Json list, json_field_or<Json>(json, "links", Json::object()));
  if (!list.is_object() || list.size() > kMostLinks) {
    return fail(ErrorCode::kInvalidArgument,
                "the field 'links' must be an object of at most {} links", kMostLinks);
  }
  std::map<std::string, LinkMeasure> links;
  for (const auto& [id, entry] : list.items()) {
    LinkMeasure link;
    SHOAL_ASSIGN(link.round_trip_s, json_field<double>(entry, "round_trip_s"));
    SHOAL_ASSIGN(link.bytes_per_s, json_field<double>(entry, "bytes_per_s"));
    const bool sane = is_node_id(id) && std::isfinite(link.round_trip_s) &&
                      link.round_trip_s >= 0 && std::isfinite(link.bytes_per_s) &&
                      link.bytes_per_s > 0;
    if (!sane)
      return fail(ErrorCode::kInvalidArgument, "the field 'links' holds a link that cannot be");
    links.emplace(id, link);
  }
  return links;
}

Result<std::string> short_text(const Json& json, const char* field) {
  SHOAL_ASSIGN(std::string text, json_field_or<std::string>(json, field, ""));
  if (text.size() > kLongestText) {
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is {} bytes long", field, text.size());
  }
  return text;
}

}  // namespace

Json to_json(const Hello& hello) {
  Json links = Json::object();
  for (const auto& [id, link] : hello.links) {
    links[id] = {{"round_trip_s", link.round_trip_s}, {"bytes_per_s", link.bytes_per_s}};
  }
  Json json = {{"protocol", hello.protocol},
               {"incarnation", fmt::format("{:x}", hello.incarnation)},
               {"hears_you", hello.hears_you},
               {"refusal", hello.refusal},
               {"name", hello.name},
               {"addresses", hello.addresses},
               {"facts", to_json(hello.facts)},
               {"state", hello.state},
               {"links", std::move(links)},
               {"list_digest", hello.list_digest}};
  if (hello.list) json["list"] = to_json(*hello.list);
  return json;
}

Result<Hello> hello_from_json(const Json& json, int our_protocol) {
  Hello hello;
  SHOAL_ASSIGN(hello.protocol, json_field<int>(json, "protocol"));
  if (hello.protocol != our_protocol) return hello;
  SHOAL_ASSIGN(hello.incarnation, incarnation_from_json(json));
  SHOAL_ASSIGN(hello.hears_you, json_field<bool>(json, "hears_you"));
  SHOAL_ASSIGN(hello.refusal, short_text(json, "refusal"));
  SHOAL_ASSIGN(const std::string name, short_text(json, "name"));
  hello.name = clean_name(name);
  SHOAL_ASSIGN(hello.addresses, addresses_from_json(json, "addresses"));
  SHOAL_ASSIGN(const Json facts, json_field<Json>(json, "facts"));
  SHOAL_ASSIGN(hello.facts, node_facts_from_json(facts));
  SHOAL_ASSIGN(hello.state, json_field_or<Json>(json, "state", Json::object()));
  SHOAL_ASSIGN(hello.links, links_from_json(json));
  SHOAL_ASSIGN(hello.list_digest, short_text(json, "list_digest"));
  if (json.contains("list")) {
    SHOAL_ASSIGN(hello.list, member_list_from_json(json["list"]));
  }
  return hello;
}

}  // namespace shoal::cluster
