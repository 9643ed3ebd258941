#include "transport/emulated.h"

#include <gmock/gmock.h>

#include "linked.h"

namespace shoal {
namespace {

using std::chrono::duration;
using std::chrono::microseconds;
using ::testing::HasSubstr;

TEST(LinkModel, NamesAndNumbers) {
  for (const LinkModel& model : link_models()) {
    const auto named = parse_link_model(model.name);
    ASSERT_TRUE(named);
    EXPECT_GT(named->latency_s, 0);
    EXPECT_GT(named->bytes_per_s, 0);
  }
  EXPECT_DOUBLE_EQ(parse_link_model("1gbe")->bytes_per_s, 0.94e9 / 8);
  const auto free_form = parse_link_model("70,0.8,12.5");
  ASSERT_TRUE(free_form) << free_form.error().message;
  EXPECT_DOUBLE_EQ(free_form->latency_s, 70e-6);
  EXPECT_DOUBLE_EQ(free_form->bytes_per_s, 1e8);
  EXPECT_DOUBLE_EQ(free_form->jitter_s, 12.5e-6);
  EXPECT_DOUBLE_EQ(free_form->transfer_s(1000), 80e-6);
  EXPECT_EQ(parse_link_model("0,100")->jitter_s, 0);
}

TEST(LinkModel, WhatIsNoLinkIsSaidSo) {
  EXPECT_THAT(parse_link_model("token-ring").error().message, HasSubstr("1gbe, 2.5gbe"));
  for (const char* text : {"", "70", "70,1,2,3"}) {
    EXPECT_THAT(parse_link_model(text).error().message, HasSubstr("ALPHA_US,GBPS")) << text;
  }
  EXPECT_THAT(parse_link_model("x,1").error().message, HasSubstr("latency in us 'x'"));
  EXPECT_THAT(parse_link_model("-1,1").error().message, HasSubstr("latency in us '-1'"));
  for (const char* text : {"1,0", "1,-5", "1,", "1,nan", "1,inf", "1,2x"}) {
    EXPECT_THAT(parse_link_model(text).error().message, HasSubstr("bandwidth in Gb/s")) << text;
  }
  EXPECT_THAT(parse_link_model("1,1,y").error().message, HasSubstr("jitter in us 'y'"));
}

class Schedule : public ::testing::Test {
 protected:
  const Clock::time_point start_ = Clock::time_point() + std::chrono::hours(1);
  double after_us(Clock::time_point when) const {
    return duration<double, std::micro>(when - start_).count();
  }
};

TEST_F(Schedule, FramesQueueBehindEachOther) {
  LinkSchedule link(*parse_link_model("100,0.8"), 1);  // 100 bytes in a microsecond
  EXPECT_NEAR(after_us(link.arrival(start_, 1000)), 110, 0.01);
  EXPECT_NEAR(after_us(link.arrival(start_, 2000)), 130, 0.01);
  EXPECT_NEAR(after_us(link.arrival(start_ + microseconds(5), 0)), 130, 0.01);
  EXPECT_NEAR(after_us(link.arrival(start_ + microseconds(500), 1000)), 610, 0.01);
}

TEST_F(Schedule, JitterNeverReordersAndFollowsItsSeed) {
  const LinkModel model = *parse_link_model("100,8,50");
  LinkSchedule one(model, 7);
  LinkSchedule same(model, 7);
  LinkSchedule other(model, 8);
  Clock::time_point last{};
  double sum_us = 0;
  int differ = 0;
  constexpr int kFrames = 2000;
  for (int i = 0; i < kFrames; ++i) {
    const auto sent = start_ + std::chrono::milliseconds(10 * i);
    const auto due = one.arrival(sent, 100);
    EXPECT_GE(due, last);
    EXPECT_GE(due - sent, microseconds(100));
    EXPECT_EQ(due, same.arrival(sent, 100));
    differ += due == other.arrival(sent, 100) ? 0 : 1;
    sum_us += duration<double, std::micro>(due - sent).count();
    last = due;
  }
  EXPECT_GT(differ, kFrames / 2);
  EXPECT_NEAR(sum_us / kFrames, 150.1, 5);
}

std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> emulated(std::string_view text) {
  auto ends = connected_shm_pair("rank 1", "rank 0");
  EXPECT_TRUE(ends);
  const LinkModel model = parse_link_model(text).value();
  return {make_emulated_link(std::move(ends->first), model),
          make_emulated_link(std::move(ends->second), model)};
}

TEST(EmulatedLink, HoldsAFrameSinceItWasSent) {
  const auto [a, b] = emulated("20000,1");
  const auto sent = Clock::now();
  ASSERT_TRUE(a->send(pattern(100), in_seconds(5)));
  Bytes frame;
  ASSERT_TRUE(b->receive(frame, in_seconds(5)));
  EXPECT_GE(Clock::now() - sent, std::chrono::milliseconds(20));
  EXPECT_EQ(frame, pattern(100));
}

TEST(EmulatedLink, SeveralAreHeldAtOnceAndNobodySpins) {
  const auto [a0, b0] = emulated("30000,1");
  const auto [a1, b1] = emulated("60000,1");
  ASSERT_TRUE(a0->send(pattern(10), in_seconds(5)));
  ASSERT_TRUE(a1->send(pattern(20), in_seconds(5)));
  std::array<Link*, 2> both = {b0.get(), b1.get()};
  Bytes first;
  Bytes second;
  ASSERT_TRUE(b0->begin_receive(first));
  ASSERT_TRUE(b1->begin_receive(second));
  timespec before{};
  timespec after{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
  ASSERT_TRUE(complete(both, in_seconds(5)));
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
  EXPECT_EQ(first, pattern(10));
  EXPECT_EQ(second, pattern(20));
  const double busy_s = static_cast<double>(after.tv_sec - before.tv_sec) +
                        1e-9 * static_cast<double>(after.tv_nsec - before.tv_nsec);
  EXPECT_LT(busy_s, 0.02);  // of the 0.06 s that it took
}

TEST(EmulatedLink, ADeadlineBeforeTheArrivalIsAnError) {
  const auto [a, b] = emulated("1000000,1");
  ASSERT_TRUE(a->send(pattern(10), in_seconds(5)));
  Bytes frame;
  const auto late = b->receive(frame, in_seconds(0.05));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("too slow for the deadline"));
  EXPECT_EQ(b->receive(frame, in_seconds(5)).error().message, late.error().message);
}

TEST(EmulatedLink, APeerThatDoesNotEmulateIsNamed) {
  auto ends = connected_shm_pair("rank 1", "rank 0");
  const auto link = make_emulated_link(std::move(ends->first), *parse_link_model("1gbe"));
  ASSERT_TRUE(ends->second->send(pattern(3), in_seconds(5)));
  Bytes frame;
  const auto got = link->receive(frame, in_seconds(5));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(got.error().message, HasSubstr("rank 1 sent a frame without a time"));
}

TEST(EmulatedLink, ATimeFromTheFutureDelaysNoLonger) {
  auto ends = connected_shm_pair("rank 1", "rank 0");
  const auto link = make_emulated_link(std::move(ends->first), *parse_link_model("10,1"));
  ASSERT_TRUE(ends->second->send(Bytes(8, std::byte{0xff}), in_seconds(5)));
  Bytes frame = pattern(3);
  ASSERT_TRUE(link->receive(frame, in_seconds(20)));
  EXPECT_TRUE(frame.empty());
}

TEST(PhantomLink, AnswersWithZerosInTime) {
  const auto link = make_phantom_link(*parse_link_model("5000,1"), "rank 1");
  const auto start = Clock::now();
  Bytes in = pattern(1000);
  ASSERT_TRUE(link->exchange(pattern(5'000'000), in, in_seconds(5)));
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(5));
  EXPECT_EQ(in, Bytes(1000));
  EXPECT_EQ(link->counters().bytes_sent, 5'000'008u);
  EXPECT_EQ(link->counters().bytes_received, 1008u);
}

TEST(PhantomLink, OtherFramesAreThoseItWasFed) {
  const auto link = make_phantom_link(*parse_link_model("10,1"), "rank 1");
  link->feed(pattern(5));
  link->feed(pattern(7));
  Bytes frame;
  ASSERT_TRUE(link->receive(frame, in_seconds(5)));
  EXPECT_EQ(frame, pattern(5));
  ASSERT_TRUE(link->receive(frame, in_seconds(5)));
  EXPECT_EQ(frame, pattern(7));
}

TEST(PhantomLink, SilenceIsAnErrorAtTheDeadline) {
  const auto link = make_phantom_link(*parse_link_model("10,1"), "rank 1");
  Bytes frame;
  const auto late = link->receive(frame, in_seconds(0.02));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadline);
  EXPECT_THAT(late.error().message, HasSubstr("nobody said what it sends"));
  link->feed(pattern(1));
  EXPECT_FALSE(link->receive(frame, in_seconds(1)));  // a failure is final
}

}  // namespace
}  // namespace shoal
