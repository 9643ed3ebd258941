#include "cluster/node_service.h"

#include <gmock/gmock.h>
#include <sys/socket.h>

#include <algorithm>

#include "cluster/identity.h"
#include "cluster/invitation.h"
#include "cluster_fixture.h"

namespace shoal::cluster {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(ClusterTest, TwoNodesPairAndSeeEachOther) {
  start("a");
  start("b");
  ASSERT_TRUE(node("a").peers().empty()) << "a node starts as a cluster of one";
  const Status joined = join("b", "a");
  ASSERT_TRUE(joined) << joined.error().message;
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  const PeerView b = *node("a").find_peer("b");
  EXPECT_EQ(b.id, node("b").id());
  EXPECT_EQ(b.facts.memory_bytes, 8'000'000'000u);
  EXPECT_EQ(b.facts.id, b.id);
  EXPECT_GT(b.heartbeat_s, 0);
  EXPECT_EQ(*node("a").reachable_address(b.id), address("b"));
}

TEST_F(ClusterTest, TheTopologyHasMeasuredLinks) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until(
      [&] { return !node("a").topology().links.empty() && !node("b").topology().links.empty(); }));
  const Topology topology = node("b").topology();
  ASSERT_EQ(topology.nodes.size(), 2u);
  EXPECT_EQ(topology.nodes[0].name, "b") << "the asked node is the first";
  EXPECT_GT(topology.links[0].bytes_per_s, 1e6);
  EXPECT_GT(topology.links[0].round_trip_s, 0);
  EXPECT_LT(topology.links[0].round_trip_s, 0.5);
  EXPECT_TRUE(topology_from_json(to_json(topology)));
}

TEST_F(ClusterTest, EitherNodeMeasuresTheLinkWhenAsked) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  for (const auto& [from, to] : {std::pair("a", "b"), std::pair("b", "a")}) {
    for (const LinkMode mode : {LinkMode::kTls, LinkMode::kPlain}) {
      const auto times = wait_for(node(from).time_link(node(to).id(), mode, {16'384, 65'536}, 0.01));
      ASSERT_TRUE(times) << times.error().message;
      EXPECT_GT(times->round_trip.p50_s, 0);
      ASSERT_EQ(times->exchanges.size(), 2u);
      EXPECT_EQ(times->exchanges[1].bytes, 65'536u);
      EXPECT_GT(times->exchanges[1].bytes_per_s, 0);
    }
  }
  const auto stranger = wait_for(node("a").time_link(std::string(64, 'f'), LinkMode::kTls, {1}, 0.01));
  ASSERT_FALSE(stranger);
  EXPECT_EQ(stranger.error().code, ErrorCode::kUnreachable);
}

// Two links measured at once would disturb each other: one waits for the other.
TEST_F(ClusterTest, MeasurementsOfBothEndsTakeTurns) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  int done = 0;
  for (const auto& [from, to] : {std::pair("a", "b"), std::pair("b", "a")}) {
    asio::co_spawn(loop_, node(from).time_link(node(to).id(), LinkMode::kPlain, {4096}, 0.01),
                   [&](const std::exception_ptr&, const Result<LinkTimes>& times) {
                     EXPECT_TRUE(times) << times.error().message;
                     ++done;
                   });
  }
  EXPECT_TRUE(until([&] { return done == 2; }));
}

TEST_F(ClusterTest, AThirdNodeIsKnownToEverybody) {
  start("a");
  start("b");
  start("c");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(join("c", "b"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b", "c"}); }));
  ASSERT_TRUE(until([&] { return node("a").topology().links.size() == 3; }))
      << "every node learns all links";
}

TEST_F(ClusterTest, FactsAndStateTravel) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  NodeFacts facts = facts_of_test();
  facts.memory_reserved_bytes = 77;
  node("b").set_facts(facts);
  node("b").set_local_state({{"instances", {"x"}}});
  node("b").announce();
  ASSERT_TRUE(until([&] { return node("a").find_peer("b")->facts.memory_reserved_bytes == 77; }));
  EXPECT_EQ(node("a").find_peer("b")->state["instances"][0], "x");
}

TEST_F(ClusterTest, IdentityAndMembersOutliveARestart) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  const std::string id = node("b").id();
  stop("b");
  ASSERT_TRUE(until([&] { return status("b", "a") == PeerStatus::kDead; }));
  start("b");
  EXPECT_EQ(node("b").id(), id);
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  const auto& events = events_["a"];
  EXPECT_TRUE(std::ranges::any_of(
      events, [](const PeerEvent& e) { return e.kind == PeerEvent::Kind::kDead; }));
  EXPECT_TRUE(std::ranges::any_of(
      events, [](const PeerEvent& e) { return e.kind == PeerEvent::Kind::kRestarted; }));
}

TEST_F(ClusterTest, AMovedNodeIsFoundAtAStaticAddress) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  stop("a");
  stop("b");
  // Both come back elsewhere: neither knows where the other is, but one is told.
  ports_["a"] = 0;
  ports_["b"] = 0;
  start("a");
  start("b", {.peers = {address("a")}});
  EXPECT_TRUE(until([&] { return all_alive({"a", "b"}); }));
}

TEST_F(ClusterTest, AStaticPeerThatIsNoMemberStaysAStranger) {
  start("a");
  start("b", {.peers = {address("a")}});
  run_for(600);
  EXPECT_THAT(node("a").peers(), IsEmpty());
  EXPECT_THAT(node("b").peers(), IsEmpty());
}

TEST_F(ClusterTest, RemovingANodeTellsItAndEverybody) {
  start("a");
  start("b");
  start("c");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(join("c", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b", "c"}); }));
  const std::string id = node("b").id();
  const Status removed = wait_for(node("a").remove("b"));
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_THAT(removed_["b"], HasSubstr("a removed this node"));
  EXPECT_THAT(node("b").peers(), IsEmpty()) << "it is a cluster of one";
  ASSERT_TRUE(
      until([&] { return node("a").peers().size() == 1 && node("c").peers().size() == 1; }));
  // It does not come back by gossip or by dialling.
  run_for(700);
  EXPECT_EQ(node("a").peers().size(), 1u);
  EXPECT_EQ(node("c").peers().size(), 1u);
  EXPECT_EQ(node("a").client(id), nullptr);
  // But it may be invited again.
  ASSERT_TRUE(join("b", "c"));
  EXPECT_TRUE(until([&] { return all_alive({"a", "b", "c"}); }));
  EXPECT_EQ(node("b").id(), id);
}

TEST_F(ClusterTest, ANodeRemovedWhileAwayIsRefused) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  stop("b");
  ASSERT_TRUE(wait_for(node("a").remove("b")));
  stop("a");
  start("a");
  start("b");
  ASSERT_TRUE(until([&] { return !node("b").find_peer("a")->reason.empty(); }));
  EXPECT_THAT(node("b").find_peer("a")->reason, HasSubstr("it is not a member there"));
  EXPECT_THAT(node("a").peers(), IsEmpty());
  // Leaving makes it free for another cluster.
  ASSERT_TRUE(wait_for(node("b").leave()));
  EXPECT_TRUE(join("b", "a"));
}

TEST_F(ClusterTest, RemovingNobodyOrOneselfSaysWhatToDo) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  EXPECT_THAT(wait_for(node("a").remove("zebra")).error().message, HasSubstr("the others are: b"));
  EXPECT_THAT(wait_for(node("a").remove("a")).error().message, HasSubstr("cluster leave"));
  EXPECT_TRUE(wait_for(node("a").remove(node("b").id().substr(0, 8))));
}

TEST_F(ClusterTest, LeavingIsKnownToTheOthers) {
  start("a");
  start("b");
  start("c");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(join("c", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b", "c"}); }));
  ASSERT_TRUE(wait_for(node("c").leave()));
  EXPECT_THAT(node("c").peers(), IsEmpty());
  EXPECT_TRUE(
      until([&] { return node("a").peers().size() == 1 && node("b").peers().size() == 1; }));
  EXPECT_THAT(wait_for(node("c").leave()).error().message, HasSubstr("cluster of one already"));
}

TEST_F(ClusterTest, AUsedInvitationIsRefusedToAnother) {
  start("a");
  start("b");
  start("c");
  const std::string code = *node("a").invite();
  ASSERT_TRUE(wait_for(node("b").join(code)));
  const Status replayed = wait_for(node("c").join(code));
  ASSERT_FALSE(replayed);
  EXPECT_EQ(replayed.error().code, ErrorCode::kPermission);
  EXPECT_THAT(replayed.error().message, HasSubstr("used already"));
  EXPECT_EQ(node("a").peers().size(), 1u);
  EXPECT_THAT(wait_for(node("b").join(code)).error().message,
              HasSubstr("already in one cluster with a"));
}

TEST_F(ClusterTest, AnInvitationDiesWithTheDaemon) {
  start("a");
  start("b");
  const std::string code = *node("a").invite();
  stop("a");
  const Status away = wait_for(node("b").join(code));
  ASSERT_FALSE(away);
  EXPECT_EQ(away.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(away.error().message, HasSubstr("was not reached"));
  start("a");
  const Status late = wait_for(node("b").join(code));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kPermission);
  EXPECT_THAT(late.error().message, HasSubstr("has no open invitation"));
}

TEST_F(ClusterTest, AnotherMachineAtTheInvitersAddressIsNoticed) {
  start("a");
  start("b");
  const std::string code = *node("a").invite();
  stop("a");
  ports_["impostor"] = ports_["a"];
  start("impostor");
  (void)node("impostor").invite();
  const Status joined = wait_for(node("b").join(code));
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().code, ErrorCode::kPermission);
  EXPECT_THAT(joined.error().message, HasSubstr("is not the one that made the invitation"));
  EXPECT_THAT(node("impostor").peers(), IsEmpty());
}

TEST_F(ClusterTest, CodesThatCannotBeUsedSaySo) {
  start("a");
  start("b");
  start("c");
  EXPECT_THAT(wait_for(node("a").join("hello")).error().message,
              HasSubstr("is not an invitation code"));
  std::string mistyped = *node("b").invite();
  mistyped[20] = mistyped[20] == 'x' ? 'y' : 'x';
  EXPECT_THAT(wait_for(node("a").join(mistyped)).error().message, HasSubstr("mistyped"));
  EXPECT_THAT(wait_for(node("a").join(*node("a").invite())).error().message,
              HasSubstr("own invitation"));
  ASSERT_TRUE(join("b", "a"));
  EXPECT_THAT(join("b", "c").error().message, HasSubstr("cluster leave"));
}

TEST_F(ClusterTest, AWrongTokenClosesTheInvitationAfterFiveTries) {
  start("a");
  start("b");
  const std::string code = *node("a").invite();
  Invitation forged = *decode_invitation(code);
  const auto identity = *load_or_make_identity(folder_.path() + "/stranger");
  const std::shared_ptr<http::Client> stranger =
      http::make_tls_client(loop_, address("a"), identity.tls, node("a").id());
  for (int attempt = 0; attempt < 6; ++attempt) {
    const Json body = {{"protocol", kProtocolVersion},
                       {"invitation", invitation_id(forged)},
                       {"proof", std::string(64, '0')},
                       {"name", "x"},
                       {"addresses", Json::array()}};
    const auto answer =
        wait_for(call(stranger, "/control/pair", body, Clock::now() + std::chrono::seconds(5)));
    ASSERT_FALSE(answer);
    EXPECT_THAT(answer.error().message,
                HasSubstr(attempt < 5 ? "token is wrong" : "closed after 5 wrong tries"));
  }
  EXPECT_THAT(wait_for(node("b").join(code)).error().message,
              HasSubstr("closed after 5 wrong tries"));
}

TEST_F(ClusterTest, NodesOfDifferentVersionsDoNotPair) {
  start("a");
  start("b", {.protocol = kProtocolVersion + 1});
  const Status joined = join("b", "a");
  ASSERT_FALSE(joined);
  EXPECT_THAT(joined.error().message, HasSubstr("protocol version 1, the joining node version 2"));
}

TEST_F(ClusterTest, AMemberOfAnotherVersionIsNamedAndLeftOut) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  stop("b");
  start("b", {.protocol = kProtocolVersion + 1});
  ASSERT_TRUE(until([&] {
    return node("a").find_peer("b")->reason.find("version 2") != std::string::npos &&
           node("b").find_peer("a")->reason.find("version 1") != std::string::npos;
  }));
  EXPECT_FALSE(alive("b", "a"));
  EXPECT_FALSE(alive("a", "b"));
}

TEST_F(ClusterTest, TwoProcessesWithOneIdentityAreBothExcluded) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  std::filesystem::copy(folder_.path() + "/b", folder_.path() + "/copy",
                        std::filesystem::copy_options::recursive);
  start("copy");
  ASSERT_TRUE(until([&] {
    const auto views = node("a").peers();
    return views[0].reason.find("two live incarnations") != std::string::npos;
  }));
  EXPECT_NE(node("a").peers()[0].status, PeerStatus::kAlive);
  ASSERT_TRUE(until([&] {
    return node("b").peers()[0].reason.find("two live incarnations") != std::string::npos;
  }));
}

TEST_F(ClusterTest, AStrangerGetsNothing) {
  start("a");
  bool reached = false;
  node("a").route("/control/instance", [&](http::Exchange& exchange) -> asio::awaitable<void> {
    reached = true;
    co_await exchange.respond(json_response(Json::object()));
  });
  const auto identity = *load_or_make_identity(folder_.path() + "/stranger");
  const std::shared_ptr<http::Client> stranger =
      http::make_tls_client(loop_, address("a"), identity.tls, "");
  const auto deadline = [] { return Clock::now() + std::chrono::seconds(5); };
  for (const char* path : {"/", "/control/heartbeat", "/control/pair", "/control/instance/x"}) {
    const auto answer = wait_for(call(stranger, path, Json::object(), deadline()));
    ASSERT_FALSE(answer) << path;
    EXPECT_THAT(answer.error().message, HasSubstr("refused this node")) << path;
  }
  // While an invitation is open it may try to pair, and nothing else.
  (void)node("a").invite();
  for (const char* path : {"/", "/control/heartbeat", "/control/removed", "/control/leave",
                           "/control/probe", "/control/instance/x"}) {
    const auto answer = wait_for(call(stranger, path, Json::object(), deadline()));
    ASSERT_FALSE(answer) << path;
    EXPECT_THAT(answer.error().message, HasSubstr("only members are answered")) << path;
  }
  const auto pair = wait_for(call(stranger, "/control/pair", Json::object(), deadline()));
  EXPECT_THAT(pair.error().message, HasSubstr("'protocol' is missing"));
  EXPECT_FALSE(reached);
  EXPECT_THAT(node("a").peers(), IsEmpty());
}

TEST_F(ClusterTest, MembersReachRoutesAndOthersCannotBeNamed) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  node("b").route("/control/instance", [&](http::Exchange& exchange) -> asio::awaitable<void> {
    Json body = Json::object();
    body["from"] = exchange.request().peer_fingerprint;
    co_await exchange.respond(json_response(body));
  });
  node("b").route("/control/instance/special",
                  [&](http::Exchange& exchange) -> asio::awaitable<void> {
                    const Error busy{ErrorCode::kBusy, "later"};
                    co_await exchange.respond(error_response(busy));
                  });
  const auto deadline = Clock::now() + std::chrono::seconds(5);
  const auto answer =
      wait_for(node("a").call(node("b").id(), "/control/instance/1", Json::object(), deadline));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ((*answer)["from"], node("a").id());
  const auto busy =
      wait_for(node("a").call(node("b").id(), "/control/instance/special", {}, deadline));
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code, ErrorCode::kBusy);
  EXPECT_EQ(busy.error().message, "b: later");
  const auto nothing = wait_for(node("a").call(node("b").id(), "/elsewhere", {}, deadline));
  EXPECT_THAT(nothing.error().message, HasSubstr("there is nothing at POST /elsewhere"));
  EXPECT_FALSE(wait_for(node("a").call(std::string(64, '0'), "/x", {}, deadline)));
}

TEST_F(ClusterTest, AMembersGarbageIsAnsweredWithASentence) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  ASSERT_TRUE(until([&] { return all_alive({"a", "b"}); }));
  const auto client = node("b").client(node("a").id());
  const auto send = [&](std::string body) {
    http::Request request;
    request.method = "POST";
    request.path = "/control/heartbeat";
    request.body = std::move(body);
    return wait_for(client->request(std::move(request), Clock::now() + std::chrono::seconds(5)));
  };
  for (
      const char* body :
      {"", "{", "[]", "{}", R"({"protocol":"x"})", R"({"protocol":1})",
       R"({"protocol":1,"incarnation":"zz","hears_you":true})",
       R"({"protocol":1,"incarnation":"1","hears_you":true,"addresses":7})",
       R"({"protocol":1,"incarnation":"1","hears_you":true,"facts":{"id":"x","memory_bytes":-1}})"}) {
    const auto response = send(body);
    ASSERT_TRUE(response) << body;
    EXPECT_EQ(response->status, 400) << body;
    EXPECT_THAT(response->body, HasSubstr("message")) << body;
  }
  EXPECT_TRUE(until([&] { return all_alive({"a", "b"}); }));
}

TEST_F(ClusterTest, GarbageOnTheNodePortIsClosedSilently) {
  start("a");
  int data_links = 0;
  node("a").on_data_link([&](LinkPreamble, UniqueFd) { ++data_links; });
  std::vector<std::string> openings = {"GET / HTTP/1.1\r\n\r\n", std::string(64, '\0'), "SHOALDL1",
                                       "SHOALDL1" + std::string(56, '\xff'),
                                       std::string("\x16\x03\x01\xff\xff") + "xx"};
  for (const std::string& opening : openings) {
    auto socket = dial_tcp(address("a"), Clock::now() + std::chrono::seconds(2));
    ASSERT_TRUE(socket);
    ASSERT_TRUE(send_all(socket->get(), as_bytes(opening), Clock::now() + std::chrono::seconds(1)));
    ::shutdown(socket->get(), SHUT_WR);
    std::string got;
    EXPECT_TRUE(until([&] {
      char buffer[256];
      const ssize_t count = ::recv(socket->get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (count > 0) got.append(buffer, static_cast<size_t>(count));
      return count == 0 || (count < 0 && errno != EAGAIN);
    }));
    // TLS says why in an alert of its own; nothing else says anything.
    EXPECT_TRUE(opening[0] == '\x16' || got.empty()) << got;
  }
  EXPECT_EQ(data_links, 0);
}

TEST_F(ClusterTest, DataLinksArriveWithTheirPreamble) {
  start("a");
  std::optional<LinkPreamble> preamble;
  UniqueFd accepted;
  node("a").on_data_link([&](LinkPreamble met, UniqueFd socket) {
    preamble = met;
    accepted = std::move(socket);
  });
  auto socket = dial_tcp(address("a"), Clock::now() + std::chrono::seconds(2));
  ASSERT_TRUE(socket);
  LinkPreamble sent;
  sent.instance[3] = std::byte{9};
  sent.generation = 12;
  sent.from_rank = 2;
  sent.to_rank = 1;
  ASSERT_TRUE(send_all(socket->get(), encode(sent), Clock::now() + std::chrono::seconds(1)));
  ASSERT_TRUE(send_all(socket->get(), as_bytes("hello"), Clock::now() + std::chrono::seconds(1)));
  ASSERT_TRUE(until([&] { return preamble.has_value(); }));
  EXPECT_EQ(preamble->instance, sent.instance);
  EXPECT_EQ(preamble->generation, 12u);
  EXPECT_EQ(preamble->from_rank, 2);
  char buffer[5];
  EXPECT_EQ(::recv(accepted.get(), buffer, 5, MSG_WAITALL), 5)
      << "what follows the preamble is the worker's";
  EXPECT_EQ(std::string(buffer, 5), "hello");
}

TEST_F(ClusterTest, TheLinkModeIsTheClusters) {
  start("a");
  start("b");
  ASSERT_TRUE(join("b", "a"));
  EXPECT_EQ(node("b").link_mode(), LinkMode::kTls);
  ASSERT_TRUE(node("a").set_link_mode(LinkMode::kPlain));
  EXPECT_TRUE(until([&] { return node("b").link_mode() == LinkMode::kPlain; }));
  stop("b");
  start("b");
  EXPECT_EQ(node("b").link_mode(), LinkMode::kPlain);
}

TEST_F(ClusterTest, APortInUseIsNamed) {
  start("a");
  NodeServiceOptions options;
  options.home = folder_.path() + "/other";
  options.cluster_listen = address("a");
  const auto second = NodeService::start(loop_, options, facts_of_test());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(ports_["a"])));
}

}  // namespace
}  // namespace shoal::cluster
