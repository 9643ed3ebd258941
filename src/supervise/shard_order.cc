#include "supervise/shard_order.h"

#include <algorithm>

namespace shoal {

Json to_json(const ShardOrder& order) {
  Json keys = Json::array();
  for (const Bytes& key : order.keys) keys.push_back(to_hex(key));
  return {{"instance", to_hex(order.instance)},
          {"generation", order.generation},
          {"rank", order.rank},
          {"plan", to_json(order.plan)},
          {"model_path", order.model_path},
          {"link_mode", std::string(link_mode_name(order.link_mode))},
          {"emulated", order.emulated},
          {"links_given", order.links_given},
          {"verbs", order.verbs},
          {"bench", order.bench},
          {"addresses", order.addresses},
          {"keys", std::move(keys)},
          {"threads", order.threads},
          {"isa", order.isa},
          {"sampling", to_json(order.sampling)}};
}

namespace {

Result<std::vector<std::vector<std::string>>> addresses_from(const Json& json) {
  std::vector<std::vector<std::string>> addresses;
  if (!json.is_array())
    return fail(ErrorCode::kInvalidArgument, "the field 'addresses' is not a list");
  for (const Json& of_rank : json) {
    auto& list = addresses.emplace_back();
    if (!of_rank.is_array())
      return fail(ErrorCode::kInvalidArgument, "the field 'addresses' is not a list of lists");
    for (const Json& address : of_rank) {
      if (!address.is_string())
        return fail(ErrorCode::kInvalidArgument, "an address is not a text");
      list.push_back(address.get<std::string>());
    }
  }
  return addresses;
}

Result<std::vector<Bytes>> keys_from(const Json& json) {
  std::vector<Bytes> keys;
  if (!json.is_array()) return fail(ErrorCode::kInvalidArgument, "the field 'keys' is not a list");
  for (const Json& key : json) {
    if (!key.is_string()) return fail(ErrorCode::kInvalidArgument, "a key is not a text");
    SHOAL_ASSIGN(Bytes bytes, from_hex(key.get<std::string>()));
    keys.push_back(std::move(bytes));
  }
  return keys;
}

}  // namespace

Result<ShardOrder> shard_order_from_json(const Json& json) {
  ShardOrder order;
  SHOAL_ASSIGN(const std::string instance, json_field<std::string>(json, "instance"));
  SHOAL_ASSIGN(const Bytes id, from_hex(instance));
  if (id.size() != order.instance.size())
    return fail(ErrorCode::kInvalidArgument, "an instance id has 32 hexadecimal digits");
  std::copy(id.begin(), id.end(), order.instance.begin());
  SHOAL_ASSIGN(order.generation, json_field<uint64_t>(json, "generation"));
  SHOAL_ASSIGN(order.rank, json_field<int>(json, "rank"));
  SHOAL_ASSIGN(const Json plan, json_field<Json>(json, "plan"));
  SHOAL_ASSIGN(order.plan, plan_from_json(plan));
  SHOAL_ASSIGN(order.model_path, json_field<std::string>(json, "model_path"));
  SHOAL_ASSIGN(const std::string mode, json_field<std::string>(json, "link_mode"));
  SHOAL_ASSIGN(order.link_mode, link_mode_named(mode));
  SHOAL_ASSIGN(order.emulated, json_field<std::string>(json, "emulated"));
  SHOAL_ASSIGN(order.links_given, json_field<bool>(json, "links_given"));
  SHOAL_ASSIGN(order.verbs, json_field<bool>(json, "verbs"));
  SHOAL_ASSIGN(order.bench, json_field<bool>(json, "bench"));
  SHOAL_ASSIGN(const Json addresses, json_field<Json>(json, "addresses"));
  SHOAL_ASSIGN(order.addresses, addresses_from(addresses));
  SHOAL_ASSIGN(const Json keys, json_field<Json>(json, "keys"));
  SHOAL_ASSIGN(order.keys, keys_from(keys));
  SHOAL_ASSIGN(order.threads, json_field<int>(json, "threads"));
  SHOAL_ASSIGN(order.isa, json_field<std::string>(json, "isa"));
  SHOAL_ASSIGN(const Json sampling, json_field<Json>(json, "sampling"));
  SHOAL_ASSIGN(order.sampling, sampling_defaults_from_json(sampling));
  const size_t ranks = order.plan.ranks.size();
  if (order.rank < 0 || static_cast<size_t>(order.rank) >= ranks ||
      order.addresses.size() != ranks || order.keys.size() != ranks || order.threads < 1) {
    return fail(ErrorCode::kInvalidArgument, "an order for rank {} of {} contradicts itself",
                order.rank, ranks);
  }
  return order;
}

Json to_json(const ShardStats& stats) {
  return {{"steps", stats.steps},
          {"decode_steps", stats.decode_steps},
          {"decode_compute_s", stats.decode_compute_s},
          {"decode_wait_s", stats.decode_wait_s},
          {"decode_bytes_sent", stats.decode_bytes_sent},
          {"compute_s", stats.compute_s},
          {"wait_s", stats.wait_s},
          {"bytes_sent", stats.bytes_sent},
          {"bytes_received", stats.bytes_received},
          {"weight_bytes", stats.weight_bytes},
          {"kv_bytes", stats.kv_bytes},
          {"activation_bytes", stats.activation_bytes},
          {"resident_peak_bytes", stats.resident_peak_bytes},
          {"backend", stats.backend},
          {"running", stats.running},
          {"waiting", stats.waiting}};
}

Result<ShardStats> shard_stats_from_json(const Json& json) {
  ShardStats stats;
  SHOAL_ASSIGN(stats.steps, json_field<uint64_t>(json, "steps"));
  SHOAL_ASSIGN(stats.decode_steps, json_field<uint64_t>(json, "decode_steps"));
  SHOAL_ASSIGN(stats.decode_compute_s, json_field<double>(json, "decode_compute_s"));
  SHOAL_ASSIGN(stats.decode_wait_s, json_field<double>(json, "decode_wait_s"));
  SHOAL_ASSIGN(stats.decode_bytes_sent, json_field<uint64_t>(json, "decode_bytes_sent"));
  SHOAL_ASSIGN(stats.compute_s, json_field<double>(json, "compute_s"));
  SHOAL_ASSIGN(stats.wait_s, json_field<double>(json, "wait_s"));
  SHOAL_ASSIGN(stats.bytes_sent, json_field<uint64_t>(json, "bytes_sent"));
  SHOAL_ASSIGN(stats.bytes_received, json_field<uint64_t>(json, "bytes_received"));
  SHOAL_ASSIGN(stats.weight_bytes, json_field<uint64_t>(json, "weight_bytes"));
  SHOAL_ASSIGN(stats.kv_bytes, json_field<uint64_t>(json, "kv_bytes"));
  SHOAL_ASSIGN(stats.activation_bytes, json_field<uint64_t>(json, "activation_bytes"));
  SHOAL_ASSIGN(stats.resident_peak_bytes, json_field<uint64_t>(json, "resident_peak_bytes"));
  SHOAL_ASSIGN(stats.backend, json_field<std::string>(json, "backend"));
  SHOAL_ASSIGN(stats.running, json_field<int64_t>(json, "running"));
  SHOAL_ASSIGN(stats.waiting, json_field<int64_t>(json, "waiting"));
  return stats;
}

}  // namespace shoal
