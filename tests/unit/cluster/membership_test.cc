#include "cluster/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::cluster {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;

class MembershipTest : public testing::Test {
 protected:
  MembershipTest() { core_.on(PeerAdded{"b"}, now_); }

  // Time passes in ticks; what happened meanwhile.
  std::vector<Action> pass(int ms) {
    std::vector<Action> all;
    for (int gone = 0; gone < ms; gone += 50) {
      now_ += milliseconds(50);
      for (Action& action : core_.on(Tick{}, now_)) all.push_back(std::move(action));
    }
    return all;
  }
  std::vector<Action> hear(uint64_t incarnation = 1, bool hears_us = true,
                           int protocol = kProtocolVersion) {
    return core_.on(PeerHeard{"b", incarnation, protocol, hears_us}, now_);
  }
  void hear_for(int ms, uint64_t incarnation = 1) {
    for (int gone = 0; gone < ms; gone += 250) {
      pass(250);
      hear(incarnation);
    }
  }
  PeerStatus status() const { return core_.find("b")->status; }
  std::string reason() const { return core_.find("b")->reason; }

  Clock::time_point now_{std::chrono::hours(1)};
  Membership core_{"a", {}};
};

size_t heartbeats(const std::vector<Action>& actions) {
  return static_cast<size_t>(std::ranges::count_if(
      actions, [](const Action& action) { return std::holds_alternative<SendHeartbeat>(action); }));
}
bool restarted(const std::vector<Action>& actions) {
  return std::ranges::any_of(
      actions, [](const Action& a) { return std::holds_alternative<PeerRestarted>(a); });
}

TEST_F(MembershipTest, APeerIsAliveSuspectDeadAliveAgain) {
  EXPECT_EQ(status(), PeerStatus::kNever);
  hear();
  EXPECT_EQ(status(), PeerStatus::kAlive);
  pass(950);
  EXPECT_EQ(status(), PeerStatus::kAlive);
  pass(100);
  EXPECT_EQ(status(), PeerStatus::kSuspect);
  pass(1000);
  EXPECT_EQ(status(), PeerStatus::kDead);
  EXPECT_EQ(reason(), "not heard for two seconds");
  const auto back = hear();
  EXPECT_EQ(status(), PeerStatus::kAlive);
  EXPECT_FALSE(restarted(back)) << "the same incarnation: it only was away";
}

TEST_F(MembershipTest, HeartbeatsFourTimesASecondAndLessToWhoDoesNotAnswer) {
  hear();
  EXPECT_EQ(heartbeats(pass(1000)), 4u);
  pass(4000);
  EXPECT_EQ(heartbeats(pass(4000)), 4u);
  pass(30000);
  EXPECT_EQ(heartbeats(pass(20000)), 4u);
}

TEST_F(MembershipTest, ALinkIsUpOnlyIfBothEndsHear) {
  hear(1, false);
  EXPECT_EQ(status(), PeerStatus::kNever);
  EXPECT_TRUE(core_.hears("b", now_));
  hear(1, true);
  EXPECT_EQ(status(), PeerStatus::kAlive);
  for (int i = 0; i < 10; ++i) {
    pass(250);
    hear(1, false);
  }
  EXPECT_EQ(status(), PeerStatus::kDead);
  EXPECT_EQ(reason(), "it is heard, but does not hear this node");
}

TEST_F(MembershipTest, ARestartIsSaidOnce) {
  hear(1);
  pass(400);
  EXPECT_TRUE(restarted(hear(2)));
  EXPECT_FALSE(restarted(hear(2)));
  EXPECT_FALSE(restarted(hear(1))) << "a late word of the process that ended";
  hear_for(5000, 2);
  EXPECT_EQ(status(), PeerStatus::kAlive);
  EXPECT_EQ(core_.find("b")->incarnation, 2u);
}

TEST_F(MembershipTest, TwoLiveIncarnationsAreBothExcluded) {
  hear_for(1000, 1);
  for (int i = 0; i < 12; ++i) {
    pass(250);
    hear(1);
    hear(2);
  }
  EXPECT_EQ(status(), PeerStatus::kDead);
  EXPECT_THAT(reason(), HasSubstr("two live incarnations"));
  EXPECT_THAT(core_.exclusion("b", now_), HasSubstr("two live incarnations"));
  // One of them is stopped: after a while the other is let in again.
  hear_for(11000, 1);
  EXPECT_EQ(status(), PeerStatus::kAlive);
  EXPECT_EQ(core_.exclusion("b", now_), "");
}

TEST_F(MembershipTest, AnotherVersionIsRefusedByNumber) {
  hear();
  hear(1, true, kProtocolVersion + 4);
  EXPECT_EQ(status(), PeerStatus::kDead);
  EXPECT_EQ(
      reason(),
      "it speaks protocol version 5, this node version 1: run the same Shoal version on both");
  hear();
  EXPECT_EQ(status(), PeerStatus::kAlive);
}

TEST_F(MembershipTest, StrangersAndSelfAreIgnored) {
  EXPECT_THAT(core_.on(PeerHeard{"z", 1, kProtocolVersion, true}, now_), IsEmpty());
  EXPECT_EQ(core_.find("z"), nullptr);
  core_.on(PeerAdded{"a"}, now_);
  EXPECT_EQ(core_.find("a"), nullptr);
  core_.on(PeerRemoved{"b"}, now_);
  EXPECT_EQ(core_.find("b"), nullptr);
  EXPECT_EQ(heartbeats(pass(1000)), 0u);
}

TEST_F(MembershipTest, ManyRestartsDoNotAddUp) {
  for (uint64_t incarnation = 1; incarnation < 1000; ++incarnation) {
    pass(50);
    hear(incarnation);
  }
  EXPECT_EQ(status(), PeerStatus::kAlive);
  EXPECT_EQ(core_.find("b")->incarnation, 999u);
}

}  // namespace
}  // namespace shoal::cluster
