// JSON forms of facts, wishes and plans: what docs/formats/plan.md describes. Everything
// that comes in is checked.
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "base/bytes.h"
#include "base/counted.h"
#include "placement/placement.h"

namespace shoal {
namespace {

constexpr size_t kMostNodes = 256;
constexpr size_t kMostRanks = 16;           // that collectives are made for
constexpr int64_t kVersion = 1;             // of topologies and plans; absent in files of people
constexpr std::string_view kAuto = "auto";  // the planner's choice
constexpr size_t kLongestText = 1024;
constexpr int64_t kMostCores = 1 << 20;
constexpr int64_t kLargestCount = int64_t{1} << 40;
// Seconds, and units per second: beyond all machines, and sums and products of it stay finite.
constexpr double kLargestQuantity = 1e18;

Result<std::string> text_or(const Json& json, const char* name, std::string otherwise) {
  SHOAL_ASSIGN(std::string text, json_field_or<std::string>(json, name, std::move(otherwise)));
  if (text.size() > kLongestText) {
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is {} bytes long; {} are allowed",
                name, text.size(), kLongestText);
  }
  return text;
}

Result<double> quantity_or(const Json& json, const char* name, double otherwise) {
  SHOAL_ASSIGN(const double value, json_field_or<double>(json, name, otherwise));
  if (!std::isfinite(value) || value < 0 || value > kLargestQuantity) {
    return fail(ErrorCode::kInvalidArgument,
                "the field '{}' is {}; it must be a number between 0 and {}", name, value,
                kLargestQuantity);
  }
  return value;
}
Result<double> quantity(const Json& json, const char* name) {
  if (!json.is_object() || !json.contains(name)) {
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is missing", name);
  }
  return quantity_or(json, name, 0);
}

Result<int64_t> count_or(const Json& json, const char* name, int64_t otherwise, int64_t least,
                         int64_t most) {
  SHOAL_ASSIGN(const int64_t value, json_field_or<int64_t>(json, name, otherwise));
  if (value < least || value > most) {
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is {}; it must be between {} and {}",
                name, value, least, most);
  }
  return value;
}

Status check_version(const Json& json, std::string_view what) {
  SHOAL_ASSIGN(const int64_t version, json_field_or<int64_t>(json, "version", kVersion));
  if (version == kVersion) return {};
  return fail(ErrorCode::kUnsupported, "a {} of version {}; this Shoal reads version {}", what,
              version, kVersion);
}

Result<KvType> kv_type_or(const Json& json, KvType otherwise) {
  SHOAL_ASSIGN(const std::string name,
               json_field_or<std::string>(json, "kv_type", std::string(kv_type_name(otherwise))));
  return kv_type_named(name);
}

Result<Json> list_field(const Json& json, const char* name, size_t most) {
  SHOAL_ASSIGN(Json list, json_field_or<Json>(json, name, Json::array()));
  if (!list.is_array())
    return fail(ErrorCode::kInvalidArgument, "the field '{}' must be a list", name);
  if (list.size() > most) {
    return fail(ErrorCode::kTooLarge, "the field '{}' has {} entries; {} are allowed", name,
                list.size(), most);
  }
  return list;
}

// A count of bytes; -5, 1.5 and 1e30 are none.
Result<uint64_t> bytes_or(const Json& json, const char* name, std::optional<uint64_t> otherwise) {
  if (json.contains(name) ? json.at(name).is_null() : true) {
    if (otherwise) return *otherwise;
    return fail(ErrorCode::kInvalidArgument, "the field '{}' is missing", name);
  }
  const Json& value = json.at(name);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > kBeyondAnyMachineBytes) {
    return fail(ErrorCode::kInvalidArgument,
                "the field '{}' is {}; it must be a whole number of bytes between 0 and {}", name,
                dump_json(value).substr(0, 64), kBeyondAnyMachineBytes);
  }
  return value.get<uint64_t>();
}

Result<LinkFacts> link_from_json(const Json& json) {
  if (!json.is_object()) return fail(ErrorCode::kInvalidArgument, "it must be a JSON object");
  LinkFacts link;
  SHOAL_ASSIGN(link.a, json_field<std::string>(json, "a"));
  SHOAL_ASSIGN(link.b, json_field<std::string>(json, "b"));
  SHOAL_ASSIGN(link.round_trip_s, quantity(json, "round_trip_s"));
  SHOAL_ASSIGN(link.bytes_per_s, quantity(json, "bytes_per_s"));
  return link;
}

Json to_json(const PlannedRank& rank) {
  return {{"node", rank.node},         {"node_name", rank.node_name},
          {"share", rank.share},       {"cut", to_json(rank.cut)},
          {"stage", rank.stage},       {"weight_bytes", rank.weight_bytes},
          {"kv_bytes", rank.kv_bytes}, {"memory_bytes", rank.memory_bytes}};
}

Result<PlannedRank> planned_rank_from_json(const Json& json) {
  PlannedRank rank;
  SHOAL_ASSIGN(rank.node, json_field<std::string>(json, "node"));
  SHOAL_ASSIGN(rank.node_name, text_or(json, "node_name", ""));
  SHOAL_ASSIGN(rank.share, quantity(json, "share"));
  SHOAL_ASSIGN(const Json cut, json_field<Json>(json, "cut"));
  SHOAL_ASSIGN(rank.cut, rank_cut_from_json(cut));
  SHOAL_ASSIGN(const int64_t stage, count_or(json, "stage", 0, 0, kMostRanks - 1));
  rank.stage = static_cast<int>(stage);
  SHOAL_ASSIGN(rank.weight_bytes, json_field<uint64_t>(json, "weight_bytes"));
  SHOAL_ASSIGN(rank.kv_bytes, json_field<uint64_t>(json, "kv_bytes"));
  SHOAL_ASSIGN(rank.memory_bytes, json_field<uint64_t>(json, "memory_bytes"));
  return rank;
}

// Within a stage ranks take up where the one before ended, from 0 on, and none is empty; stages
// take up each other's layers likewise, unless there is one of all layers.
Status check_cuts(const std::vector<PlannedRank>& ranks) {
  const auto follows = [](const Range& range, const Range& before) {
    return range.begin == before.end && range.end > range.begin && range.end <= kLargestCount;
  };
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const bool first = rank == 0 || ranks[rank].stage != ranks[rank - 1].stage;
    const int stage_before = rank == 0 ? -1 : ranks[rank - 1].stage;
    if (ranks[rank].stage != stage_before + (first ? 1 : 0)) {
      return fail(ErrorCode::kInvalidArgument,
                  "rank {} is of stage {} after one of stage {}; stages are numbered from 0 and "
                  "their ranks follow one another",
                  rank, ranks[rank].stage, stage_before);
    }
    const RankCut& cut = ranks[rank].cut;
    const RankCut before = rank == 0 ? RankCut{} : ranks[rank - 1].cut;
    const bool whole_layers = cut.layers == Range{} && ranks.back().stage == 0;
    if (!whole_layers &&
        !(first ? follows(cut.layers, before.layers) : cut.layers == before.layers)) {
      return fail(ErrorCode::kInvalidArgument,
                  "the layers of rank {} are neither those of its stage nor the next", rank);
    }
    for (const CutKind kind : kCutKinds) {
      const Range last = first ? Range{} : before[kind];
      if (cut[kind] == Range{} && last == Range{}) continue;  // none of these
      if (follows(cut[kind], last)) continue;
      return fail(ErrorCode::kInvalidArgument,
                  "the {} of rank {} do not follow on those of the rank before",
                  cut_kind_words(kind), rank);
    }
  }
  return {};
}

}  // namespace

Json to_json(const NodeFacts& node) {
  return {{"id", node.id},
          {"name", node.name},
          {"memory_bytes", node.memory_bytes},
          {"memory_reserved_bytes", node.memory_reserved_bytes},
          {"cores", node.cores},
          {"threads", node.threads},
          {"isa", node.isa},
          {"read_bytes_per_s", node.read_bytes_per_s},
          {"decode_bytes_per_s", node.decode_bytes_per_s},
          {"multiply_adds_per_s", node.multiply_adds_per_s},
          {"float_multiply_adds_per_s", node.float_multiply_adds_per_s}};
}

Result<NodeFacts> node_facts_from_json(const Json& json) {
  if (!json.is_object()) return fail(ErrorCode::kInvalidArgument, "a node must be a JSON object");
  NodeFacts node;
  SHOAL_ASSIGN(node.name, text_or(json, "name", ""));
  SHOAL_ASSIGN(node.id, text_or(json, "id", node.name));
  if (node.id.empty())
    return fail(ErrorCode::kInvalidArgument, "a node has neither 'id' nor 'name'");
  const auto within = [&](Error error) { return std::unexpected(error.within("node " + node.id)); };
  const auto memory = bytes_or(json, "memory_bytes", std::nullopt);
  if (!memory) return within(memory.error());
  node.memory_bytes = *memory;
  const auto reserved = bytes_or(json, "memory_reserved_bytes", 0);
  if (!reserved) return within(reserved.error());
  node.memory_reserved_bytes = *reserved;
  const auto cores = count_or(json, "cores", 1, 1, kMostCores);
  if (!cores) return within(cores.error());
  node.cores = static_cast<int>(*cores);
  const auto threads = count_or(json, "threads", *cores, 1, kMostCores);
  if (!threads) return within(threads.error());
  node.threads = static_cast<int>(*threads);
  auto isa = text_or(json, "isa", "");
  if (!isa) return within(isa.error());
  node.isa = std::move(*isa);
  const auto read = quantity(json, "read_bytes_per_s");
  if (!read) return within(read.error());
  node.read_bytes_per_s = *read;
  const auto decode = quantity_or(json, "decode_bytes_per_s", 0);
  if (!decode) return within(decode.error());
  node.decode_bytes_per_s = *decode;
  const auto multiply = quantity_or(json, "multiply_adds_per_s", 0);
  if (!multiply) return within(multiply.error());
  node.multiply_adds_per_s = *multiply;
  const auto floats = quantity_or(json, "float_multiply_adds_per_s", 0);
  if (!floats) return within(floats.error());
  node.float_multiply_adds_per_s = *floats;
  return node;
}

Json to_json(const Topology& topology) {
  Json nodes = Json::array();
  for (const NodeFacts& node : topology.nodes) nodes.push_back(to_json(node));
  Json links = Json::array();
  for (const LinkFacts& link : topology.links) {
    links.push_back({{"a", link.a},
                     {"b", link.b},
                     {"round_trip_s", link.round_trip_s},
                     {"bytes_per_s", link.bytes_per_s}});
  }
  return {{"version", kVersion}, {"nodes", std::move(nodes)}, {"links", std::move(links)}};
}

namespace {

Status add_node(Topology& topology, const Json& entry, std::set<std::string>& ids) {
  Result<NodeFacts> node = node_facts_from_json(entry);
  if (!node) {
    const std::string_view id = topology.nodes.empty() ? "" : topology.nodes.back().id;
    const std::string where = id.empty() ? "the first node" : fmt::format("the node after {}", id);
    const bool named = node.error().message.starts_with("node ");
    return std::unexpected(named ? node.error() : node.error().within(where));
  }
  if (!ids.insert(node->id).second)
    return fail(ErrorCode::kInvalidArgument, "the topology names node {} twice", node->id);
  if (node->read_bytes_per_s == 0) {
    return fail(ErrorCode::kInvalidArgument,
                "node {}: the field 'read_bytes_per_s' is 0; nothing can be predicted of a node "
                "that reads no memory",
                node->id);
  }
  topology.nodes.push_back(std::move(*node));
  return {};
}

Status add_link(Topology& topology, const Json& entry, const std::set<std::string>& ids,
                std::set<std::pair<std::string, std::string>>& pairs) {
  Result<LinkFacts> link = link_from_json(entry);
  if (!link)
    return std::unexpected(link.error().within(fmt::format("link {}", topology.links.size() + 1)));
  for (const std::string& end : {link->a, link->b}) {
    if (!ids.contains(end)) {
      return fail(ErrorCode::kInvalidArgument,
                  "a link leads to node '{}', which the topology does not have",
                  end.substr(0, kLongestText));
    }
  }
  if (link->a == link->b)
    return fail(ErrorCode::kInvalidArgument, "a link leads from node {} to itself", link->a);
  if (!pairs.insert(std::minmax(link->a, link->b)).second) {
    return fail(ErrorCode::kInvalidArgument, "the topology has two links between {} and {}",
                link->a, link->b);
  }
  topology.links.push_back(std::move(*link));
  return {};
}

}  // namespace

Result<Topology> topology_from_json(const Json& json) {
  if (!json.is_object()) {
    return fail(ErrorCode::kInvalidArgument,
                "a topology must be a JSON object with 'nodes' and 'links'");
  }
  SHOAL_TRY(check_version(json, "topology"));
  Topology topology;
  std::set<std::string> ids;
  SHOAL_ASSIGN(const Json nodes, list_field(json, "nodes", kMostNodes));
  if (nodes.empty()) return fail(ErrorCode::kInvalidArgument, "the topology has no nodes");
  for (const Json& entry : nodes) SHOAL_TRY(add_node(topology, entry, ids));
  std::set<std::pair<std::string, std::string>> pairs;
  SHOAL_ASSIGN(const Json links, list_field(json, "links", kMostNodes * kMostNodes));
  for (const Json& entry : links) SHOAL_TRY(add_link(topology, entry, ids, pairs));
  return topology;
}

Json to_json(const Wish& wish) {
  return {{"context", wish.context},
          {"sequences", wish.sequences},
          {"kv_type", kv_type_name(wish.kv_type)},
          {"node_count", wish.node_count},
          {"mode", wish.mode ? plan_mode_name(*wish.mode) : kAuto},
          {"payload", wish.payload ? payload_name(*wish.payload) : kAuto}};
}

Result<Wish> wish_from_json(const Json& json) {
  if (!json.is_object()) return fail(ErrorCode::kInvalidArgument, "a wish must be a JSON object");
  Wish wish;
  SHOAL_ASSIGN(wish.context, count_or(json, "context", wish.context, 0, kLargestCount));
  SHOAL_ASSIGN(wish.sequences, count_or(json, "sequences", wish.sequences, 1, 65536));
  SHOAL_ASSIGN(wish.kv_type, kv_type_or(json, wish.kv_type));
  SHOAL_ASSIGN(const int64_t nodes, count_or(json, "node_count", 0, 0, kMostNodes));
  wish.node_count = static_cast<int>(nodes);
  SHOAL_ASSIGN(const std::string mode, text_or(json, "mode", std::string(kAuto)));
  if (mode != kAuto) {
    SHOAL_ASSIGN(wish.mode, plan_mode_named(mode));
  }
  SHOAL_ASSIGN(const std::string payload, text_or(json, "payload", std::string(kAuto)));
  if (payload != kAuto) {
    SHOAL_ASSIGN(wish.payload, payload_named(payload));
  }
  return wish;
}

namespace {

Json to_json(const LinkCost& link) {
  return {{"one_way_s", link.one_way_s}, {"bytes_per_s", link.bytes_per_s}};
}

// None, or one of each stage.
Result<std::vector<LinkCost>> stage_links_from_json(const Json& json, size_t stages) {
  SHOAL_ASSIGN(const Json list, list_field(json, "stage_links", kMostRanks));
  if (!list.empty() && list.size() != stages) {
    return fail(ErrorCode::kInvalidArgument,
                "the field 'stage_links' has {} entries; the plan has {}", list.size(),
                counted(static_cast<int64_t>(stages), "stage"));
  }
  std::vector<LinkCost> links;
  for (const Json& entry : list) {
    LinkCost& link = links.emplace_back();
    SHOAL_ASSIGN(link.one_way_s, quantity(entry, "one_way_s"));
    SHOAL_ASSIGN(link.bytes_per_s, quantity(entry, "bytes_per_s"));
  }
  return links;
}

}  // namespace

Json to_json(const Plan& plan) {
  Json ranks = Json::array();
  for (const PlannedRank& rank : plan.ranks) ranks.push_back(to_json(rank));
  Json links = Json::array();
  for (const LinkCost& link : plan.stage_links) links.push_back(to_json(link));
  return {{"version", kVersion},
          {"model", plan.model},
          {"sha256", plan.sha256},
          {"file_bytes", plan.file_bytes},
          {"context", plan.context},
          {"sequences", plan.sequences},
          {"kv_type", kv_type_name(plan.kv_type)},
          {"mode", plan_mode_name(plan_mode(plan))},
          {"payload", payload_name(plan.payload)},
          {"ranks", std::move(ranks)},
          {"stage_links", std::move(links)},
          {"prefill_tokens_per_s", plan.prefill_tokens_per_s},
          {"decode_tokens_per_s", plan.decode_tokens_per_s},
          {"all_decode_tokens_per_s", plan.all_decode_tokens_per_s},
          {"time_to_first_token_s", plan.time_to_first_token_s},
          {"token_links_s", plan.token_links_s},
          {"first_token_links_s", plan.first_token_links_s}};
}

Result<Plan> plan_from_json(const Json& json) {
  if (!json.is_object()) return fail(ErrorCode::kInvalidArgument, "a plan must be a JSON object");
  SHOAL_TRY(check_version(json, "plan"));
  Plan plan;
  SHOAL_ASSIGN(plan.model, text_or(json, "model", ""));
  SHOAL_ASSIGN(plan.sha256, text_or(json, "sha256", ""));
  SHOAL_ASSIGN(plan.file_bytes, json_field_or<uint64_t>(json, "file_bytes", 0));
  SHOAL_ASSIGN(plan.context, count_or(json, "context", 0, 1, kLargestCount));
  SHOAL_ASSIGN(plan.sequences, count_or(json, "sequences", 0, 1, 65536));
  SHOAL_ASSIGN(plan.kv_type, kv_type_or(json, KvType::kF16));
  SHOAL_ASSIGN(const std::string payload, json_field_or<std::string>(json, "payload", "f32"));
  SHOAL_ASSIGN(plan.payload, payload_named(payload));
  SHOAL_ASSIGN(const Json ranks, list_field(json, "ranks", kMostRanks));
  if (ranks.empty()) return fail(ErrorCode::kInvalidArgument, "the plan has no ranks");
  for (const Json& entry : ranks) {
    SHOAL_ASSIGN(PlannedRank rank, planned_rank_from_json(entry));
    plan.ranks.push_back(std::move(rank));
  }
  SHOAL_TRY(check_cuts(plan.ranks));
  SHOAL_ASSIGN(plan.stage_links,
               stage_links_from_json(json, static_cast<size_t>(plan.ranks.back().stage) + 1));
  SHOAL_ASSIGN(plan.prefill_tokens_per_s, quantity_or(json, "prefill_tokens_per_s", 0));
  SHOAL_ASSIGN(plan.decode_tokens_per_s, quantity_or(json, "decode_tokens_per_s", 0));
  SHOAL_ASSIGN(plan.all_decode_tokens_per_s, quantity_or(json, "all_decode_tokens_per_s", 0));
  SHOAL_ASSIGN(plan.time_to_first_token_s, quantity_or(json, "time_to_first_token_s", 0));
  SHOAL_ASSIGN(plan.token_links_s, quantity_or(json, "token_links_s", 0));
  SHOAL_ASSIGN(plan.first_token_links_s, quantity_or(json, "first_token_links_s", 0));
  return plan;
}

std::string sha256_of_plan(const Plan& plan) {
  return sha256(dump_json(to_json(plan)));
}

Json to_json(const Placement& placement) {
  Json considered = Json::array();
  for (const Considered& one : placement.considered) {
    considered.push_back({{"chosen", one.chosen},
                          {"possible", one.possible},
                          {"reason", one.reason},
                          {"plan", to_json(one.plan)}});
  }
  return {{"considered", std::move(considered)}};
}

}  // namespace shoal
