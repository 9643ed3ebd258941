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
