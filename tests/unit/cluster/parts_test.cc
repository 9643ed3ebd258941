// Hello, addresses and the measurement of links.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "cluster/addresses.h"
#include "cluster/hello.h"
#include "cluster/link_probe.h"
#include "cluster/membership.h"

namespace shoal::cluster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Addresses, ASpecificOneIsTheOneToTell) {
  EXPECT_THAT(advertised_addresses("127.0.0.1:0", 81), ElementsAre("127.0.0.1:81"));
  EXPECT_THAT(advertised_addresses("[::1]:7466", 7466), ElementsAre("[::1]:7466"));
  EXPECT_THAT(advertised_addresses("nas.local:7466", 7466), ElementsAre("nas.local:7466"));
}

TEST(Addresses, AllInterfacesAreNamedWithThePort) {
  const auto addresses = advertised_addresses("0.0.0.0:7466", 7466);
  ASSERT_FALSE(addresses.empty());
  for (const auto& address : addresses) {
    EXPECT_THAT(address, testing::EndsWith(":7466"));
    EXPECT_THAT(address, testing::Not(HasSubstr("0.0.0.0")));
  }
}

TEST(Addresses, APeersSourceGetsItsOwnPort) {
  EXPECT_EQ(observed_address("10.1.2.3:50000", "192.168.0.9:7466"), "10.1.2.3:7466");
  EXPECT_EQ(observed_address("[fd00::1]:50000", "[::1]:7000"), "[fd00::1]:7000");
  EXPECT_EQ(observed_address("unix", "x:1"), "");
}

Hello hello() {
  Hello hello;
  hello.protocol = kProtocolVersion;
  hello.incarnation = 0xfedcba9876543210;
  hello.hears_you = true;
  hello.name = "a";
  hello.addresses = {"10.0.0.1:7466"};
  hello.facts.id = std::string(64, 'a');
  hello.facts.memory_bytes = 5;
  hello.state = {{"x", {1, 2}}};
  hello.links[std::string(64, 'b')] = {1e-4, 1e8};
  hello.list_digest = "d";
  MemberList list;
  list.add({std::string(64, 'a'), "a", {}, 0, false, {}}, std::string(64, 'a'));
  hello.list = list;
  return hello;
}

TEST(HelloJson, ComesBackAsItWas) {
  const Json json = to_json(hello());
  const auto again = hello_from_json(*parse_json(dump_json(json)), kProtocolVersion);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(to_json(*again), json);
}

TEST(HelloJson, OfAnotherVersionOnlyTheNumberIsRead) {
  const auto other =
      hello_from_json({{"protocol", 9}, {"facts", "of another shape"}}, kProtocolVersion);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->protocol, 9);
}

TEST(HelloJson, HostileContentIsRefused) {
  const auto refused = [](const char* field, const Json& value) {
    Json json = to_json(hello());
    json[field] = value;
    EXPECT_FALSE(hello_from_json(json, kProtocolVersion)) << field << " " << value;
  };
  refused("protocol", "1");
  refused("incarnation", 5);
  refused("incarnation", "0");
  refused("incarnation", "123456789012345678901");
  refused("name", std::string(5000, 'x'));
  refused("addresses", "here");
  refused("facts", Json::array());
  refused("links", Json::array());
  refused("links", {{"short", {{"round_trip_s", 1}, {"bytes_per_s", 1}}}});
  refused("links", {{std::string(64, 'b'), {{"round_trip_s", -1}, {"bytes_per_s", 1}}}});
  refused("links", {{std::string(64, 'b'), {{"round_trip_s", 1}, {"bytes_per_s", 0}}}});
  refused("list", 3);
}

TEST(LinkProbe, MeasuresALink) {
  auto pair = connected_tcp_pair();
  ASSERT_TRUE(pair);
  const Bytes key = random_bytes(32);
  const Deadline deadline = Clock::now() + std::chrono::seconds(5);
  std::thread other([&] {
    auto link =
        make_tcp_link(std::move(pair->second), LinkMode::kTls, false, key, "peer", deadline);
    if (link) answer_measurement(**link);
  });
  {
    auto link = make_tcp_link(std::move(pair->first), LinkMode::kTls, true, key, "peer", deadline);
    EXPECT_TRUE(link);
    const auto measure = measure_link(**link);
    EXPECT_TRUE(measure) << measure.error().message;
    EXPECT_GT(measure->round_trip_s, 0);
    EXPECT_GT(measure->bytes_per_s, 0);
  }
  other.join();
}

TEST(LinkProbe, APeerThatLeavesIsAnError) {
  auto pair = connected_tcp_pair();
  ASSERT_TRUE(pair);
  const Deadline deadline = Clock::now() + std::chrono::seconds(5);
  std::thread other([&] {
    // Shakes hands and goes.
    (void)make_tcp_link(std::move(pair->second), LinkMode::kPlain, false, {}, "peer", deadline);
  });
  auto link = make_tcp_link(std::move(pair->first), LinkMode::kPlain, true, {}, "peer", deadline);
  other.join();
  ASSERT_TRUE(link);
  const auto measure = measure_link(**link);
  ASSERT_FALSE(measure);
  EXPECT_EQ(measure.error().code, ErrorCode::kUnreachable);
}

// Both ends of a link over loopback, the second following until the first has gone.
class FollowedLink {
 public:
  explicit FollowedLink(uint64_t most_bytes) {
    auto pair = connected_tcp_pair();
    const Deadline deadline = Clock::now() + std::chrono::seconds(5);
    other_ = std::thread([deadline, most_bytes, socket = std::move(pair->second)]() mutable {
      auto link = make_tcp_link(std::move(socket), LinkMode::kPlain, false, {}, "peer", deadline);
      if (link) follow_timing(**link, most_bytes, Clock::now() + std::chrono::seconds(20));
    });
    auto link = make_tcp_link(std::move(pair->first), LinkMode::kPlain, true, {}, "peer", deadline);
    if (link) link_ = std::move(*link);
  }
  ~FollowedLink() {
    link_.reset();
    other_.join();
  }
  Link& operator*() { return *link_; }

 private:
  std::thread other_;
  std::unique_ptr<Link> link_;
};

TEST(LinkTiming, FramesOfEverySizeAreTimed) {
  FollowedLink link(1 << 20);
  const auto times = time_link(*link, {1, 100'000, 1 << 20}, {.seconds = 0.01});
  ASSERT_TRUE(times) << times.error().message;
  EXPECT_EQ(times->round_trip.bytes, kSmallFrameBytes);
  ASSERT_EQ(times->exchanges.size(), 3u);
  EXPECT_EQ(times->exchanges[1].bytes, 100'000u);
  for (const FrameTimes& one : times->exchanges) {
    EXPECT_GT(one.p50_s, 0);
    EXPECT_GE(one.p99_s, one.p50_s);
    EXPECT_GT(one.bytes_per_s, 0);
  }
}

TEST(LinkTiming, OrdersBeyondReasonEndTheLink) {
  FollowedLink large(1000);
  EXPECT_FALSE(time_exchanges(*large, 1001, {.seconds = 0.01}));
  for (const char* order :
       {"", "[]", "{}", "500", R"({"there_and_back":1,"bytes":1,"rounds":1})",
        R"({"there_and_back":true,"bytes":0,"rounds":1})",
        R"({"there_and_back":true,"bytes":1,"rounds":-1})",
        R"({"there_and_back":true,"bytes":1,"rounds":1000000000})",
        R"({"there_and_back":false,"bytes":18446744073709551615,"rounds":1})"}) {
    FollowedLink link(1000);
    const Deadline deadline = Clock::now() + std::chrono::seconds(5);
    ASSERT_TRUE((*link).send(as_bytes(std::string_view(order)), deadline));
    Bytes answer;
    const Status heard = (*link).receive(answer, deadline);
    ASSERT_FALSE(heard) << order;
    EXPECT_EQ(heard.error().code, ErrorCode::kUnreachable) << order << ": the other end has gone";
  }
}

TEST(LinkProbe, AnUnansweredMeasurementEndsWithTheProber) {
  auto pair = connected_tcp_pair();
  ASSERT_TRUE(pair);
  boost::asio::io_context loop;
  LinkProber prober(loop);
  ProbeTicket ticket;
  ticket.key = random_bytes(32);
  ASSERT_TRUE(prober.expect(ticket));
  EXPECT_TRUE(prober.is_busy());
  EXPECT_EQ(prober.expect(ticket).error().code, ErrorCode::kBusy);
  LinkPreamble other;
  other.instance[0] = std::byte{1};
  EXPECT_FALSE(prober.offer(other, pair->first)) << "a worker's link is left alone";
  EXPECT_TRUE(pair->first);
  LinkPreamble meant;
  meant.instance = ticket.id;
  EXPECT_TRUE(prober.offer(meant, pair->first));
  prober.stop();  // the other end never spoke
  EXPECT_FALSE(prober.offer(meant, pair->second)) << "a ticket is good once";
}

}  // namespace
}  // namespace shoal::cluster
