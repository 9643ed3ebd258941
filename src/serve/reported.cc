#include "serve/reported.h"

#include <algorithm>
#include <span>

#include "supervise/shard_order.h"

namespace shoal::serve {
namespace {

enum class Is { kText, kCount, kObject, kList };

struct Field {
  const char* name;
  Is type;
  bool needed;
};

bool is(const Json& value, Is type) {
  switch (type) {
    case Is::kText:
      return value.is_string();
    case Is::kCount:
      return value.is_number_unsigned();
    case Is::kObject:
      return value.is_object();
    case Is::kList:
      return value.is_array();
  }
  return false;
}

bool fits(const Json& entry, std::span<const Field> fields) {
  return entry.is_object() && std::ranges::all_of(fields, [&](const Field& field) {
           const auto value = entry.find(field.name);
           return value == entry.end() ? !field.needed : is(*value, field.type);
         });
}

std::vector<Json> entries(const Json& state, const char* name, std::span<const Field> fields) {
  std::vector<Json> list;
  if (!state.is_object() || !state.contains(name) || !state.at(name).is_array()) return list;
  for (const Json& entry : state.at(name)) {
    if (fits(entry, fields)) list.push_back(entry);
  }
  return list;
}

void drop_bad_stats(Json& rank) {
  if (rank.contains("stats") && !shard_stats_from_json(rank["stats"])) rank.erase("stats");
}

constexpr Field kModel[] = {
    {"name", Is::kText, true}, {"sha256", Is::kText, true}, {"size_bytes", Is::kCount, true}};
constexpr Field kShard[] = {{"instance", Is::kText, true},     {"generation", Is::kCount, true},
                            {"state", Is::kText, true},        {"done_bytes", Is::kCount, true},
                            {"total_bytes", Is::kCount, true}, {"error", Is::kObject, false},
                            {"complaint", Is::kText, false},   {"pid", Is::kCount, false}};
constexpr Field kInstance[] = {{"id", Is::kText, true},          {"model", Is::kText, true},
                               {"state", Is::kText, true},       {"generation", Is::kCount, true},
                               {"coordinator", Is::kText, true}, {"reason", Is::kText, false},
                               {"sha256", Is::kText, false},     {"lead", Is::kText, false},
                               {"plan", Is::kObject, false},     {"plan_reason", Is::kText, false},
                               {"ranks", Is::kList, false}};
constexpr Field kRank[] = {{"rank", Is::kCount, true},
                           {"node", Is::kText, true},
                           {"node_name", Is::kText, true},
                           {"state", Is::kText, true},
                           {"pid", Is::kCount, false}};

}  // namespace

std::vector<Json> reported_models(const Json& state) {
  return entries(state, "models", kModel);
}

std::vector<Json> reported_shards(const Json& state) {
  std::vector<Json> shards = entries(state, "shards", kShard);
  std::ranges::for_each(shards, drop_bad_stats);
  return shards;
}

std::vector<Json> reported_instances(const Json& state) {
  std::vector<Json> instances = entries(state, "instances", kInstance);
  std::erase_if(instances, [](const Json& instance) {
    if (!instance.contains("ranks")) return false;
    return !std::ranges::all_of(instance["ranks"],
                                [](const Json& rank) { return fits(rank, kRank); });
  });
  for (Json& instance : instances) {
    if (instance.contains("ranks")) std::ranges::for_each(instance["ranks"], drop_bad_stats);
  }
  return instances;
}

}  // namespace shoal::serve
