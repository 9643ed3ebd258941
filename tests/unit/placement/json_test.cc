#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cards.h"

namespace shoal {
namespace {

using testing::HasSubstr;

Result<Topology> topology_of(std::string_view text) {
  const auto json = parse_json(text);
  if (!json) return std::unexpected(json.error());
  return topology_from_json(*json);
}

TEST(PlacementJson, ATopologyComesBackAsItWas) {
  Topology topology;
  topology.nodes = {node("a", 8), node("b", 4, 20)};
  topology.nodes[1].memory_reserved_bytes = 17;
  topology.nodes[1].isa = "avx2";
  topology.nodes[1].cores = topology.nodes[1].threads = 12;
  topology.links = {link("a", "b", 1e-4, 1.2e8)};
  const auto again = topology_of(dump_json(to_json(topology)));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(to_json(*again), to_json(topology));
}

TEST(PlacementJson, ATopologyFileMayBeShort) {
  const auto topology =
      topology_of(R"({"nodes":[{"name":"desk","memory_bytes":16000000000,"cores":8,
      "read_bytes_per_s":4e10}]})");
  ASSERT_TRUE(topology) << topology.error().message;
  EXPECT_EQ(topology->nodes[0].id, "desk");
  EXPECT_EQ(topology->nodes[0].threads, 8);
}

TEST(PlacementJson, HostileTopologiesAreRefusedInSentences) {
  const struct {
    const char* text;
    const char* says;
  } cases[] = {
      {"[]", "must be a JSON object"},
      {"{}", "has no nodes"},
      {R"({"nodes":7})", "'nodes' must be a list"},
      {R"({"nodes":[7]})", "a node must be a JSON object"},
      {R"({"nodes":[{}]})", "neither 'id' nor 'name'"},
      {R"({"nodes":[{"id":"a"}]})", "node a: the field 'memory_bytes' is missing"},
      {R"({"nodes":[{"id":"a","memory_bytes":-5,"read_bytes_per_s":1}]})",
       "'memory_bytes' has the wrong type"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":-1}]})",
       "'read_bytes_per_s' is -1"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1,"cores":0}]})", "'cores' is 0"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":"fast"}]})", "wrong type"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1},
                    {"id":"a","memory_bytes":5,"read_bytes_per_s":1}]})",
       "names node a twice"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1}],
           "links":[{"a":"a","b":"z","round_trip_s":1,"bytes_per_s":1}]})",
       "leads to node 'z'"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1}],
           "links":[{"a":"a","b":"a","round_trip_s":1,"bytes_per_s":1}]})",
       "to itself"},
  };
  for (const auto& one : cases) {
    const auto topology = topology_of(one.text);
    ASSERT_FALSE(topology) << one.text;
    EXPECT_THAT(topology.error().message, HasSubstr(one.says)) << one.text;
  }
}

TEST(PlacementJson, NumbersTooLargeForAnythingAreRefused) {
  EXPECT_FALSE(topology_of(R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1e999}]})"));
  EXPECT_FALSE(
      topology_of(R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1,"cores":1e300}]})"));
  EXPECT_FALSE(topology_of("{\"nodes\":[{\"id\":\"" + std::string(5000, 'x') +
                           "\",\"memory_bytes\":5,\"read_bytes_per_s\":1}]}"));
  Json many = {{"nodes", Json::array()}};
  for (int i = 0; i < 300; ++i) many["nodes"].push_back(to_json(node("n" + std::to_string(i), 1)));
  const auto topology = topology_from_json(many);
  ASSERT_FALSE(topology);
  EXPECT_THAT(topology.error().message, HasSubstr("300 entries"));
}

TEST(PlacementJson, APlanComesBackAsItWasAndItsHashIsStable) {
  Topology topology{{node("a", 8), node("b", 8)}, {link("a", "b", 3e-5, 2e9)}};
  const auto placement = place(topology, big_card(), {.context = 2048});
  ASSERT_TRUE(placement);
  Plan plan = *placement->chosen();
  plan.sha256 = std::string(64, 'a');
  const auto text = dump_json(to_json(plan));
  const auto again = plan_from_json(*parse_json(text));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(dump_json(to_json(*again)), text);
  EXPECT_EQ(sha256_of_plan(*again), sha256_of_plan(plan));
  plan.ranks[0].memory_bytes += 1;
  EXPECT_NE(sha256_of_plan(*again), sha256_of_plan(plan));
}

TEST(PlacementJson, PlansThatDoNotCoverTheModelOnceAreRefused) {
  Topology topology{{node("a", 8), node("b", 8)}, {link("a", "b", 3e-5, 2e9)}};
  const auto placement = place(topology, big_card(), {.context = 2048});
  ASSERT_TRUE(placement);
  const Json good = to_json(*placement->chosen());
  Plan overlapping = *placement->chosen();
  overlapping.ranks[1].cut[CutKind::kHeads].begin -= 1;
  const auto refused = plan_from_json(to_json(overlapping));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "the attention heads of rank 1 do not follow on those of the rank before");
  for (const char* field : {"ranks", "context", "sequences"}) {
    Json without = good;
    without.erase(field);
    EXPECT_FALSE(plan_from_json(without)) << field;
  }
  Json odd = good;
  odd["kv_type"] = "f8";
  EXPECT_FALSE(plan_from_json(odd));
}

TEST(PlacementJson, StagesTakeUpEachOthersLayers) {
  const ModelCard card = big_card();
  Plan plan;
  plan.context = 512;
  plan.sequences = 1;
  plan.payload = Payload::kBf16;
  for (const Range layers : {Range{0, 3}, Range{3, card.layer_count}}) {
    PlannedRank rank;
    rank.node = std::to_string(layers.begin);
    rank.cut = whole(card);
    rank.cut.layers = layers;
    rank.stage = static_cast<int>(plan.ranks.size());
    plan.ranks.push_back(rank);
  }
  const auto again = plan_from_json(to_json(plan));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(to_json(*again), to_json(plan));

  Plan overlapping = plan;
  overlapping.ranks[1].cut.layers.begin = 2;
  const auto refused = plan_from_json(to_json(overlapping));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "the layers of rank 1 are neither those of its stage nor the next");
  Plan skipping = plan;
  skipping.ranks[1].stage = 2;
  EXPECT_FALSE(plan_from_json(to_json(skipping)));
}

TEST(PlacementJson, AWishFromNothingIsTheDefault) {
  const auto wish = wish_from_json(Json::object());
  ASSERT_TRUE(wish);
  EXPECT_EQ(to_json(*wish), to_json(Wish{}));
  EXPECT_FALSE(wish_from_json(Json{{"sequences", 0}}));
  EXPECT_FALSE(wish_from_json(Json{{"context", "long"}}));
  EXPECT_FALSE(wish_from_json(Json::array()));
}

}  // namespace
}  // namespace shoal
