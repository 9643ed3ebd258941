#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

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
       "'memory_bytes' is -5; it must be a whole number of bytes"},
      {R"({"nodes":[{"id":"a","memory_bytes":1.5,"read_bytes_per_s":1}]})", "is 1.5"},
      {R"({"nodes":[{"id":"a","memory_bytes":18446744073709551615,"read_bytes_per_s":1}]})",
       "is 18446744073709551615"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"memory_reserved_bytes":"x",
                     "read_bytes_per_s":1}]})",
       "node a: the field 'memory_reserved_bytes' is \"x\""},
      {R"({"nodes":[{"id":"a","memory_bytes":5}]})", "'read_bytes_per_s' is missing"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":0}]})",
       "node a: the field 'read_bytes_per_s' is 0"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1},{"memory_bytes":5}]})",
       "the node after a: a node has neither"},
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
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1}],"links":{}})",
       "'links' must be a list"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1}],"links":[3]})",
       "link 1: it must be a JSON object"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1},
                    {"id":"b","memory_bytes":5,"read_bytes_per_s":1}],
           "links":[{"a":"a","b":"b","round_trip_s":1,"bytes_per_s":1},
                    {"a":"b","b":"a","round_trip_s":1,"bytes_per_s":1}]})",
       "two links between b and a"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1},
                    {"id":"b","memory_bytes":5,"read_bytes_per_s":1}],
           "links":[{"a":"a","b":"b","round_trip_s":-1,"bytes_per_s":1}]})",
       "link 1: the field 'round_trip_s' is -1"},
      {R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1},
                    {"id":"b","memory_bytes":5,"read_bytes_per_s":1}],
           "links":[{"a":"a","b":"b","round_trip_s":1}]})",
       "link 1: the field 'bytes_per_s' is missing"},
  };
  for (const auto& one : cases) {
    const auto topology = topology_of(one.text);
    ASSERT_FALSE(topology) << one.text;
    EXPECT_THAT(topology.error().message, HasSubstr(one.says)) << one.text;
  }
}

TEST(PlacementJson, NumbersTooLargeForAnythingAreRefused) {
  EXPECT_FALSE(topology_of(R"({"nodes":[{"id":"a","memory_bytes":5,"read_bytes_per_s":1e19}]})"));
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

TEST(PlacementJson, TheLinksOfStagesAreOfAllOfThemOrNone) {
  Topology topology{{node("a", 8), node("b", 8)}, {link("a", "b", 3e-5, 2e9)}};
  const auto placement = place(topology, big_card(), {.context = 2048, .mode = PlanMode::kTensor});
  ASSERT_TRUE(placement);
  const Plan plan = *placement->chosen();
  ASSERT_EQ(plan.stage_links.size(), 1u);
  EXPECT_EQ(plan.stage_links[0].one_way_s, 1.5e-5);
  EXPECT_EQ(plan.stage_links[0].bytes_per_s, 2e9);
  const auto again = plan_from_json(to_json(plan));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(to_json(*again), to_json(plan));
  Plan other = plan;
  other.stage_links[0].bytes_per_s *= 2;
  EXPECT_NE(sha256_of_plan(other), sha256_of_plan(plan)) << "ranks would go different ways";

  Json none = to_json(plan);
  none.erase("stage_links");
  EXPECT_TRUE(plan_from_json(none));
  Json many = to_json(plan);
  many["stage_links"].push_back(many["stage_links"][0]);
  EXPECT_EQ(plan_from_json(many).error().message,
            "the field 'stage_links' has 2 entries; the plan has 1 stage");
  Json odd = to_json(plan);
  odd["stage_links"][0]["one_way_s"] = -1;
  EXPECT_FALSE(plan_from_json(odd));
}

TEST(PlacementJson, AnotherVersionIsNamed) {
  Topology topology{{node("a", 8)}, {}};
  const auto placement = place(topology, big_card(), {.context = 2048});
  ASSERT_TRUE(placement);
  Json plan = to_json(*placement->chosen());
  plan["version"] = 2;
  EXPECT_EQ(plan_from_json(plan).error().message,
            "a plan of version 2; this Shoal reads version 1");
  Json nodes = to_json(topology);
  nodes["version"] = 2;
  EXPECT_FALSE(topology_from_json(nodes));
}

TEST(PlacementJson, AWishNamesAModeAndAPayloadOrLeavesThem) {
  for (const PlanMode mode : kPlanModes) {
    const auto wish = wish_from_json({{"mode", plan_mode_name(mode)}, {"payload", "bf16"}});
    ASSERT_TRUE(wish);
    EXPECT_EQ(wish->mode, mode);
    EXPECT_EQ(wish->payload, Payload::kBf16);
    EXPECT_EQ(to_json(*wish_from_json(to_json(*wish))), to_json(*wish));
  }
  const auto automatic = wish_from_json({{"mode", "auto"}, {"payload", "auto"}});
  ASSERT_TRUE(automatic);
  EXPECT_FALSE(automatic->mode || automatic->payload);
  EXPECT_THAT(wish_from_json({{"mode", "sideways"}}).error().message,
              HasSubstr("'sideways' is not a way to divide a model"));
  EXPECT_FALSE(wish_from_json({{"payload", "f8"}}));
  EXPECT_FALSE(wish_from_json({{"mode", 3}}));
}

TEST(PlacementJson, APlanHasAtMostSixteenRanks) {
  Topology topology{{node("a", 8)}, {}};
  const auto placement = place(topology, big_card(), {.context = 2048});
  ASSERT_TRUE(placement);
  Plan plan = *placement->chosen();
  const RankCut all = plan.ranks[0].cut;
  plan.ranks.clear();
  plan.stage_links.clear();
  for (int64_t layer = 0; layer < 16; ++layer) {
    PlannedRank rank;
    rank.node = std::to_string(layer);
    rank.stage = static_cast<int>(layer);
    rank.cut = all;
    rank.cut.layers = {layer, layer + 1};
    plan.ranks.push_back(rank);
  }
  EXPECT_TRUE(plan_from_json(to_json(plan)));
  plan.ranks.push_back(plan.ranks.back());
  plan.ranks.back().stage = 16;
  plan.ranks.back().cut.layers = {16, 17};
  EXPECT_THAT(plan_from_json(to_json(plan)).error().message, HasSubstr("17 entries; 16"));
}

// The examples of docs/formats/plan.md are read as they stand, and written the same.
TEST(PlacementJson, TheExamplesOfTheFormatsPageHold) {
  std::ifstream page(PLAN_FORMAT);
  const std::string text((std::istreambuf_iterator<char>(page)), std::istreambuf_iterator<char>());
  std::vector<Json> examples;
  constexpr std::string_view kFence = "```json\n";
  for (size_t at = text.find(kFence); at != std::string::npos; at = text.find(kFence, at)) {
    at += kFence.size();
    const size_t end = text.find("```", at);
    ASSERT_NE(end, std::string::npos);
    const auto json = parse_json(text.substr(at, end - at));
    ASSERT_TRUE(json) << json.error().message;
    examples.push_back(*json);
    at = end + 3;
  }
  ASSERT_EQ(examples.size(), 3u);
  const auto topology = topology_from_json(examples[0]);
  ASSERT_TRUE(topology) << topology.error().message;
  const auto wish = wish_from_json(examples[1]);
  ASSERT_TRUE(wish) << wish.error().message;
  EXPECT_EQ(to_json(*wish), examples[1]);
  const auto plan = plan_from_json(examples[2]);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(to_json(*plan), examples[2]);
  for (const PlannedRank& rank : plan->ranks) {
    EXPECT_TRUE(std::ranges::any_of(topology->nodes,
                                    [&](const NodeFacts& node) { return node.id == rank.node; }));
  }
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
