// A rank that ends, is silent or does something else than the others: every other rank gets an
// error that names a rank and what happened, whatever it waited for.
#include <gmock/gmock.h>

#include <functional>
#include <optional>

#include "ranks.h"

namespace shoal {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kPatient_s = 60;  // longer than the test may take: whoever waits so long has hung
constexpr double kImpatient_s = 0.1;

// What ranks do together, `last` being the rank that will fail.
struct Operation {
  std::string name;
  std::function<Status(Group&, int last, Deadline)> run;
};

Status reduce(Group& group, ReduceRoute route, Payload payload, size_t count, Deadline deadline) {
  group.set_reduce_route(route);
  group.set_payload(payload);
  std::vector<float> values(count, 1.0f);
  return group.all_reduce(values, deadline);
}

std::vector<Operation> operations() {
  return {
      {"direct_sum",
       [](Group& group, int, Deadline deadline) {
         return reduce(group, ReduceRoute::kDirect, Payload::kF32, 3000, deadline);
       }},
      {"large_direct_sum",
       [](Group& group, int, Deadline deadline) {
         return reduce(group, ReduceRoute::kDirect, Payload::kBf16, 2'000'000, deadline);
       }},
      {"scattered_sum",
       [](Group& group, int, Deadline deadline) {
         return reduce(group, ReduceRoute::kScatter, Payload::kInt8, 3000, deadline);
       }},
      {"sum_in_halves",
       [](Group& group, int, Deadline deadline) -> Status {
         std::vector<float> values(3000, 1.0f);
         SHOAL_TRY(group.begin_all_reduce(values));
         return group.finish_all_reduce(deadline);
       }},
      {"all_gather",
       [](Group& group, int, Deadline deadline) {
         std::vector<Bytes> parts;
         return group.all_gather(Bytes(100), parts, deadline);
       }},
      {"gather_to_another",
       [](Group& group, int, Deadline deadline) {
         std::vector<Bytes> parts;
         return group.gather(0, Bytes(100), parts, deadline);
       }},
      {"gather_to_the_failed",
       [](Group& group, int last, Deadline deadline) {
         std::vector<Bytes> parts;
         return group.gather(last, Bytes(100), parts, deadline);
       }},
      {"broadcast_from_another",
       [](Group& group, int, Deadline deadline) {
         Bytes frame(100);
         return group.broadcast(0, frame, deadline);
       }},
      {"broadcast_from_the_failed",
       [](Group& group, int last, Deadline deadline) {
         Bytes frame(100);
         return group.broadcast(last, frame, deadline);
       }},
      {"barrier", [](Group& group, int, Deadline deadline) { return group.barrier(deadline); }},
      {"receive_from_the_failed",
       [](Group& group, int last, Deadline deadline) -> Status {
         Bytes frame;
         if (group.rank() == last) return {};
         return group.receive(last, frame, deadline);
       }},
      {"send_to_the_failed",
       [](Group& group, int last, Deadline deadline) -> Status {
         if (group.rank() == last) return {};
         SHOAL_TRY(group.post_values(last, std::vector<float>(5'000'000)));
         return group.flush(deadline);
       }},
      {"posts_and_a_header_from_rank_0",
       [](Group& group, int last, Deadline deadline) -> Status {
         Bytes frame;
         if (group.rank() != last) SHOAL_TRY(group.post(last, Bytes(20'000'000)));
         if (group.rank() != 0) return group.receive(0, frame, deadline);
         return group.receive(last, frame, deadline);
       }},
  };
}

struct Case {
  int ranks;
  std::optional<LinkMode> mode;  // none: shared memory
  Operation operation;

  std::string name() const {
    return fmt::format("{}_{}ranks_{}", operation.name, ranks,
                       mode ? link_mode_name(*mode) : "shm");
  }
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name();
}

class FailureTest : public ::testing::TestWithParam<Case> {};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Operation& operation : operations()) {
    for (const int ranks : {2, 3, 5}) all.push_back({ranks, LinkMode::kPlain, operation});
    all.push_back({3, LinkMode::kTls, operation});
    all.push_back({3, std::nullopt, operation});
  }
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return info.param.name();
}

std::vector<Group> groups_of(const Case& test) {
  return test.mode ? make_groups(test.ranks, *test.mode) : make_shm_groups(test.ranks);
}
INSTANTIATE_TEST_SUITE_P(Operations, FailureTest, ::testing::ValuesIn(cases()), name_of);

// An operation may be over for a rank whose part in it is done; then it learns at the next.
Status run_and_meet(const Case& test, Group& group, Deadline deadline) {
  SHOAL_TRY(test.operation.run(group, test.ranks - 1, deadline));
  return group.barrier(deadline);
}

void expect_the_same_error_ever_after(Group& group, const Error& error) {
  std::vector<float> values(10);
  const Status again = group.all_reduce(values, in_seconds(kPatient_s));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message, error.message);
  Bytes frame;
  const auto tried = group.try_receive(group.rank() == 0 ? 1 : 0, frame);
  ASSERT_FALSE(tried);
  EXPECT_EQ(tried.error().message, error.message);
}

TEST_P(FailureTest, ARankThatEndsIsAnErrorOnEveryOther) {
  std::vector<Group> groups = groups_of(GetParam());
  on_every_rank(groups, [](Group& group) {
    if (group.rank() == group.size() - 1) {
      const Group ends = std::move(group);
      return;
    }
    const Status lost = run_and_meet(GetParam(), group, in_seconds(kPatient_s));
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, ErrorCode::kUnreachable) << lost.error().message;
    EXPECT_THAT(lost.error().message, HasSubstr("rank "));
    expect_the_same_error_ever_after(group, lost.error());
  });
}

// Its links stay open, as those of a stopped process do. Rank 0 is the least patient: its giving up
// must end the wait of the others, long before their own deadline.
TEST_P(FailureTest, ASilentRankIsAnErrorOnEveryOtherAtTheDeadline) {
  std::vector<Group> groups = groups_of(GetParam());
  on_every_rank(groups, [](Group& group) {
    const int last = group.size() - 1;
    if (group.rank() == last) return;
    const bool leads = group.rank() == 0;
    const Status lost =
        run_and_meet(GetParam(), group, in_seconds(leads ? kImpatient_s : kPatient_s));
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, leads ? ErrorCode::kDeadline : ErrorCode::kUnreachable)
        << lost.error().message;
    EXPECT_THAT(lost.error().message, HasSubstr("rank "));
    EXPECT_THAT(lost.error().message, HasSubstr(leads ? "did not answer in time" : ""));
    expect_the_same_error_ever_after(group, lost.error());
  });
}

// The last rank goes to a sum of another length instead.
TEST_P(FailureTest, ARankThatDoesSomethingElseIsAnErrorOnAll) {
  std::vector<Group> groups = groups_of(GetParam());
  on_every_rank(groups, [](Group& group) {
    const bool strays = group.rank() == group.size() - 1;
    Status wrong =
        strays ? reduce(group, ReduceRoute::kDirect, Payload::kF32, 77, in_seconds(kPatient_s))
               : run_and_meet(GetParam(), group, in_seconds(kPatient_s));
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().message, HasSubstr("rank "));
    EXPECT_THAT(wrong.error().code, AnyOf(ErrorCode::kCorrupt, ErrorCode::kUnreachable))
        << wrong.error().message;
  });
}

TEST(Failures, AnotherLengthIsNamedWithBothLengths) {
  std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
  on_every_rank(groups, [](Group& group) {
    std::vector<float> values(group.rank() == 1 ? 100 : 101, 1.0f);
    const Status wrong = group.all_reduce(values, in_seconds(kPatient_s));
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().message,
                AnyOf(HasSubstr("rank 1 sent a frame of 400 bytes where 404 were due"),
                      HasSubstr("rank 0 sent a frame of 404 bytes where 400 were due"),
                      HasSubstr("rank 0 reset its link"), HasSubstr("rank 1 reset its link"),
                      HasSubstr("was lost")));
  });
}

TEST(Failures, AnotherPayloadTypeIsAnError) {
  std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
  groups[0].set_payload(Payload::kBf16);
  ASSERT_TRUE(groups[0].post_values(1, std::vector<float>(64)));
  std::vector<float> values(64);
  const Status wrong = groups[1].receive_values(0, values, in_seconds(kPatient_s));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(wrong.error().message,
              HasSubstr("rank 0 sent a frame of 128 bytes where 256 were due"));
}

// Rank 1 waits for a header from rank 0, which has nothing to say; it is rank 2 that fails.
TEST(Failures, ARankNotWaitedForThatFailsEndsTheWait) {
  std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
  on_every_rank(groups, [](Group& group) {
    if (group.rank() == 0) return;
    Bytes frame;
    const Status lost =
        group.receive(0, frame, in_seconds(group.rank() == 2 ? kImpatient_s : kPatient_s));
    ASSERT_FALSE(lost);
    EXPECT_THAT(lost.error().message, HasSubstr(group.rank() == 2 ? "rank 0 did not answer in time"
                                                                  : "rank 2 reset its link"));
  });
}

TEST(Failures, TryReceiveFindsARankThatEnded) {
  std::vector<Group> groups = make_groups(2, LinkMode::kPlain);
  Bytes frame;
  const auto nothing = groups[0].try_receive(1, frame);
  ASSERT_TRUE(nothing);
  {
    const Group ends = std::move(groups[1]);
  }
  const Deadline late = in_seconds(kPatient_s);
  auto lost = groups[0].try_receive(1, frame);
  while (lost && Clock::now() < late) lost = groups[0].try_receive(1, frame);
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, ErrorCode::kUnreachable);
  EXPECT_THAT(lost.error().message, HasSubstr("rank 1"));
}

// Rank 1 has done its part and itself waits for rank 2: it is not to blame.
TEST(Failures, TheSilentRankIsNamedNotThoseThatWaitForIt) {
  for (const ReduceRoute route : {ReduceRoute::kDirect, ReduceRoute::kScatter}) {
    std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
    std::vector<std::vector<float>> values(2, std::vector<float>(300, 1.0f));
    for (size_t r = 0; r < 2; ++r) {
      groups[r].set_reduce_route(route);
      ASSERT_TRUE(groups[r].begin_all_reduce(values[r]));
    }
    const Status late = groups[0].finish_all_reduce(in_seconds(kImpatient_s));
    ASSERT_FALSE(late);
    EXPECT_THAT(late.error().message, HasSubstr("rank 2 did not answer in time"));
    EXPECT_THAT(late.error().message, Not(HasSubstr("rank 1")));
    // Rank 1 learns of it from rank 0 and says so.
    const Status told = groups[1].finish_all_reduce(in_seconds(kPatient_s));
    ASSERT_FALSE(told);
    EXPECT_THAT(told.error().message, HasSubstr("rank 0"));
  }
}

// The second half of a sum fails like the first call that found out.
TEST(Failures, ASumUnderWayEndsWithTheGroup) {
  std::vector<Group> groups = make_groups(3, LinkMode::kPlain);
  std::vector<float> values(100, 1.0f);
  ASSERT_TRUE(groups[0].begin_all_reduce(values));
  Bytes frame;
  const Status late = groups[0].receive(1, frame, in_seconds(kImpatient_s));
  ASSERT_FALSE(late);
  const Status finished = groups[0].finish_all_reduce(in_seconds(kPatient_s));
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().message, late.error().message);
  EXPECT_FALSE(groups[0].begin_all_reduce(values));
}

}  // namespace
}  // namespace shoal
