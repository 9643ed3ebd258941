// A member that is broken, of another version or hostile must not bring this node's daemon down by
// what it says of itself.
#include "serve/reported.h"

#include <gtest/gtest.h>

#include "supervise/shard_order.h"

namespace shoal::serve {
namespace {

Json good_state() {
  const Json rank = {{"rank", 0u},       {"node", "n"}, {"node_name", "alder"},
                     {"state", "ready"}, {"pid", 7u},   {"stats", to_json(ShardStats{})}};
  return {{"models", {{{"name", "m"}, {"sha256", "aa"}, {"size_bytes", 5u}}}},
          {"shards",
           {{{"instance", "i"},
             {"generation", 3u},
             {"rank", 0},
             {"state", "failed"},
             {"done_bytes", 1u},
             {"total_bytes", 2u},
             {"error", {{"code", "io"}, {"message", "struck"}}},
             {"complaint", "struck"},
             {"stats", to_json(ShardStats{})},
             {"pid", 7u}}}},
          {"instances",
           {{{"id", "i"},
             {"model", "m"},
             {"state", "ready"},
             {"generation", 3u},
             {"coordinator", "n"},
             {"plan", Json::object()},
             {"ranks", Json::array({rank})}}}}};
}

size_t count_of(const Json& state, const std::string& list) {
  if (list == "models") return reported_models(state).size();
  return list == "shards" ? reported_shards(state).size() : reported_instances(state).size();
}

TEST(Reported, WhatThisDaemonWritesComesThrough) {
  const Json state = good_state();
  EXPECT_EQ(Json(reported_models(state)), state["models"]);
  EXPECT_EQ(Json(reported_shards(state)), state["shards"]);
  EXPECT_EQ(Json(reported_instances(state)), state["instances"]);
}

TEST(Reported, WhatIsNoStateIsEmpty) {
  for (const char* text : {"null", "5", "[]", "\"x\"", "{}", R"({"models": 5, "shards": {}})",
                           R"({"models": [5, null, []], "shards": ["x"], "instances": [{}]})"}) {
    const Json state = *parse_json(text);
    for (const char* list : {"models", "shards", "instances"})
      EXPECT_EQ(count_of(state, list), 0u) << text;
  }
}

// Every field in turn: of another type than all of them have.
TEST(Reported, AnEntryWithAFieldOfAnotherTypeIsLeftOut) {
  for (const char* list : {"models", "shards", "instances"}) {
    const Json good = good_state();
    for (const auto& [name, value] : good[list][0].items()) {
      Json bad = good;
      bad[list][0][name] = -0.5;
      const bool ignored = name == "stats" || (name == "rank" && list == std::string("shards"));
      EXPECT_EQ(count_of(bad, list), ignored ? 1u : 0u) << list << " " << name;
    }
  }
  for (const char* name : {"rank", "node", "node_name", "state", "pid"}) {
    Json bad = good_state();
    bad["instances"][0]["ranks"][0][name] = Json::array();
    EXPECT_TRUE(reported_instances(bad).empty()) << name;
  }
  Json bad = good_state();
  bad["instances"][0]["ranks"][0] = "rank 0";
  EXPECT_TRUE(reported_instances(bad).empty());
}

TEST(Reported, StatisticsThatAreNoneAreLeftOutAlone) {
  Json state = good_state();
  state["shards"][0]["stats"]["steps"] = "many";
  state["instances"][0]["ranks"][0]["stats"] = {{"decode_steps", "x"}};
  ASSERT_EQ(reported_shards(state).size(), 1u);
  EXPECT_FALSE(reported_shards(state)[0].contains("stats"));
  ASSERT_EQ(reported_instances(state).size(), 1u);
  EXPECT_FALSE(reported_instances(state)[0]["ranks"][0].contains("stats"));
}

}  // namespace
}  // namespace shoal::serve
