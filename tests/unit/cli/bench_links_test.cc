#include "cli/bench_links.h"

#include <gmock/gmock.h>

namespace shoal::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names(std::string_view text) {
  const auto links = parse_bench_links(text);
  EXPECT_TRUE(links) << links.error().message;
  std::vector<std::string> names;
  for (const BenchLink& link : links.value_or(std::vector<BenchLink>()))
    names.push_back(fmt::format("{} {}", link.name(), link.mode()));
  return names;
}

TEST(BenchLinks, ListsOfLinks) {
  EXPECT_THAT(names("shm,tls,plain"), ElementsAre("shm plain", "tcp tls", "tcp plain"));
  EXPECT_THAT(names("tcp"), ElementsAre("tcp tls", "tcp plain"));
  EXPECT_THAT(names("emulated:2.5gbe,shm"), ElementsAre("emulated:2.5gbe plain", "shm plain"));
  EXPECT_THAT(names("emulated:70,0.94,5,shm,emulated:.5,2"),
              ElementsAre("emulated:70,0.94,5 plain", "shm plain", "emulated:.5,2 plain"));
}

TEST(BenchLinks, WhatIsNoLinkIsSaidSo) {
  EXPECT_THAT(parse_bench_links("smoke").error().message, HasSubstr("'smoke'"));
  EXPECT_THAT(parse_bench_links("").error().message, HasSubstr("not a kind of link"));
  EXPECT_THAT(parse_bench_links("emulated:adsl").error().message, HasSubstr("'adsl'"));
  EXPECT_THAT(parse_bench_links("emulated:70").error().message, HasSubstr("ALPHA_US,GBPS"));
}

TEST(BenchLinks, Sizes) {
  EXPECT_THAT(*parse_sizes("16KiB,1MiB,7"), ElementsAre(16384u, 1048576u, 7u));
  for (const char* text : {"", "0", "big", "1,,2", "400MiB"}) {
    const auto sizes = parse_sizes(text);
    ASSERT_FALSE(sizes) << text;
    EXPECT_EQ(sizes.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(sizes.error().message, HasSubstr("--sizes"));
  }
}

TEST(BenchLinks, EveryKindIsMeasuredAtEverySize) {
  LinkBenchOptions options;
  options.links = *parse_bench_links("shm,tcp,emulated:500,1");
  options.sizes = {100, 70'000};
  options.seconds = 0.01;
  std::vector<std::string> seen;
  const auto results = bench_links(options, [&](const std::string& link, uint64_t) {
    seen.push_back(link);
    return true;
  });
  ASSERT_TRUE(results) << results.error().message;
  ASSERT_EQ(results->size(), 8u);
  EXPECT_EQ(seen.size(), 8u);
  const std::string text = links_text(*results);
  for (const LinkBenchResult& result : *results) {
    EXPECT_GT(result.exchange_p50_s, 0);
    EXPECT_GE(result.exchange_p99_s, result.exchange_p50_s);
    EXPECT_GT(result.bytes_per_s, 0);
    if (result.link.starts_with("emulated")) {
      EXPECT_GE(result.exchange_p50_s, 500e-6);
    }
  }
  EXPECT_THAT(text, HasSubstr("tcp, tls"));
  size_t widest = 0;
  for (size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1)
    widest = std::max(widest, end - begin);
  EXPECT_LE(widest, 80u);
  const Json json = links_json(*results);
  EXPECT_EQ(json.size(), 8u);
  EXPECT_EQ(json[1]["link"], "tcp");
  EXPECT_EQ(json[1]["mode"], "tls");
  EXPECT_EQ(json[1]["bytes"], 100);
}

TEST(BenchLinks, AnInterruptEndsIt) {
  LinkBenchOptions options;
  options.links = *parse_bench_links("shm");
  options.sizes = {1};
  const auto results = bench_links(options, [](const std::string&, uint64_t) { return false; });
  ASSERT_FALSE(results);
  EXPECT_EQ(results.error().code, ErrorCode::kCancelled);
}

TEST(BenchLinks, OfADaemonTheModesOfTcpAreAsked) {
  const Json request = between_nodes_request(*parse_bench_links("shm,plain,tls,tcp,emulated:1gbe"),
                                             {16'384, 1 << 20}, 0.25, "desk");
  EXPECT_EQ(request, Json::parse(R"({"sizes": [16384, 1048576], "modes": ["plain", "tls"],
                                     "seconds": 0.25, "node": "desk"})"));
  EXPECT_FALSE(between_nodes_request({}, {}, 1, "").contains("node"));
}

TEST(BenchLinks, WhatADaemonMeasuresIsATableAndRows) {
  BetweenNodes between;
  EXPECT_FALSE(add_line(between, Json::parse(R"({"phase": "link to desk, tls"})")));
  EXPECT_FALSE(add_line(between, 3));
  for (const char* mode : {"tls", "plain"}) {
    Json line = Json::parse(R"({"node": "desk", "id": "bb", "round_trip_bytes": 4096,
      "round_trip_p50_s": 0.0002, "round_trip_p99_s": 0.0003, "exchanges": [
      {"bytes": 16384, "exchange_p50_s": 0.00025, "exchange_p99_s": 0.0004, "bytes_per_s": 1e8},
      {"bytes": 1048576, "exchange_p50_s": 0.01, "exchange_p99_s": 0.02, "bytes_per_s": 1.1e8}]})");
    line["mode"] = mode;
    EXPECT_TRUE(add_line(between, line));
  }
  EXPECT_TRUE(add_line(between, Json::parse(R"({"node": "attic", "id": "cc", "mode": "tls",
                                                "refused": "attic is dead"})")));
  const std::string text = between_nodes_text(between);
  EXPECT_THAT(text, HasSubstr("to desk"));
  EXPECT_THAT(text,
              HasSubstr("   16 KiB  tls                          250.0 us   400.0 us       0.1\n"
                        "           plain "));
  EXPECT_THAT(text, HasSubstr(" and back  tls                          200.0 us   300.0 us"));
  const Json rows = between_nodes_json(between);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1], Json::parse(R"({"node": "desk", "id": "bb", "link": "tcp", "mode": "tls",
      "bytes": 1048576, "round_trip_p50_s": 0.0002, "round_trip_p99_s": 0.0003,
      "exchange_p50_s": 0.01, "exchange_p99_s": 0.02, "bytes_per_s": 1.1e8})"));
  EXPECT_EQ(not_measured_json(between), Json::parse(R"([{"node": "attic", "id": "cc", "mode": "tls",
                             "reason": "attic is dead"}])"));
  EXPECT_EQ(between_nodes_text({}), "");
}

TEST(BenchLinks, WhatADaemonKnowsOfItsPeers) {
  const Json nodes = Json::parse(R"({"nodes": [
    {"id": "aa", "name": "here", "state": "this node"},
    {"id": "bb", "name": "desk", "round_trip_s": 0.0002, "bytes_per_s": 1.1e8, "link_age_s": 75},
    {"id": "cc", "name": "never measured"}]})");
  const Json peers = peers_json(nodes);
  ASSERT_EQ(peers.size(), 1u);
  EXPECT_EQ(peers[0]["node"], "desk");
  EXPECT_EQ(peers[0]["age_s"], 75);
  EXPECT_THAT(peers_text(nodes), HasSubstr("desk"));
  EXPECT_THAT(peers_text(nodes), HasSubstr("1 min 15 s ago"));
  EXPECT_EQ(peers_text(Json::object()), "");
}

}  // namespace
}  // namespace shoal::cli
