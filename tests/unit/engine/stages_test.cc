// Models whose layers are cut over stages of one rank and several: what they answer, and that steps
// overlap.
#include "engine/stages.h"

#include <gtest/gtest.h>

#include "ranks.h"

namespace shoal {
namespace {

const std::vector<Wanted> kRequests = {{some_tokens(40, 320, 1), 6},
                                       {some_tokens(3, 320, 2), 9},
                                       {some_tokens(90, 320, 3), 4},
                                       {some_tokens(1, 320, 4), 7}};

Result<std::vector<Generated>> answers(const SmallModel& model, RanksOptions options,
                                       int64_t rows_per_step = 32) {
  auto ranks = Ranks::start(model, options);
  if (!ranks) return std::unexpected(ranks.error());
  return serve(**ranks, kRequests, rows_per_step);
}

// A rank that holds all of its layers does the same arithmetic as one that holds all layers.
TEST(Stages, OfOneRankEachGiveTheBitsOfOneRank) {
  const auto model = make_small_model({.layers = 5});
  const auto expected = answers(*model, {});
  ASSERT_TRUE(expected) << expected.error().message;
  for (const size_t stages : {2u, 3u, 5u}) {
    const auto got = answers(*model, {.stages = std::vector<std::vector<double>>(stages, {1})});
    ASSERT_TRUE(got) << got.error().message;
    for (size_t request = 0; request < kRequests.size(); ++request) {
      EXPECT_EQ((*got)[request].tokens, (*expected)[request].tokens);
      for (size_t i = 0; i < (*expected)[request].logits.size(); ++i) {
        EXPECT_TRUE(same_bits((*got)[request].logits[i], (*expected)[request].logits[i]))
            << stages << " stages, request " << request << ", token " << i;
      }
    }
  }
}

TEST(Stages, OfSeveralRanksAgreeWithOne) {
  const auto model = make_small_model({.layers = 4, .tied = true});
  const auto expected = answers(*model, {});
  ASSERT_TRUE(expected);
  for (const std::vector<std::vector<double>>& stages :
       std::vector<std::vector<std::vector<double>>>{
           {{1, 1}, {1}}, {{1}, {2, 1}}, {{1, 1}, {1, 1}}, {{1}, {1, 1, 1}, {1, 2}}}) {
    const auto got = answers(*model, {.stages = stages});
    ASSERT_TRUE(got) << got.error().message;
    for (size_t request = 0; request < kRequests.size(); ++request)
      EXPECT_EQ((*got)[request].tokens, (*expected)[request].tokens) << stages.size() << " stages";
  }
}

TEST(Stages, PassOnRowsInSixteenBitsOrEight) {
  const auto model = make_small_model({.layers = 4});
  const auto expected = answers(*model, {});
  ASSERT_TRUE(expected);
  for (const auto& [payload, bound] :
       {std::pair(Payload::kBf16, 0.02), std::pair(Payload::kInt8, 0.05)}) {
    RanksOptions options{.stages = {{1, 1}, {1, 1}}};
    options.engine.payload = payload;
    const auto got = answers(*model, options);
    ASSERT_TRUE(got) << got.error().message;
    const auto& wanted = (*expected)[0].logits[0];
    double worst = 0, largest = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      worst = std::max<double>(worst, std::abs((*got)[0].logits[0][i] - wanted[i]));
      largest = std::max<double>(largest, std::abs(wanted[i]));
    }
    EXPECT_LT(worst, bound * largest) << payload_name(payload);
    EXPECT_GT(worst, 0) << payload_name(payload) << " did not round anything";
  }
}

TEST(Stages, TellTheLeadTheirHiddenState) {
  const auto model = make_small_model({.layers = 3});
  const auto hidden_of = [&](std::vector<std::vector<double>> stages) {
    auto ranks = Ranks::start(*model, {.stages = std::move(stages)});
    EXPECT_TRUE(ranks);
    Step step;
    for (int32_t i = 0; i < 5; ++i)
      step.rows.push_back({0, 7 + i, i, Role::kPrompt, i == 1 ? Want::kNothing : Want::kHidden});
    step.rows.back().want = Want::kCandidates;
    step.sequences = {{{0, 1, 2, 3, 4, 5, 6, 7}}};
    auto result = (*ranks)->run(step);
    EXPECT_TRUE(result) << result.error().message;
    return std::move(*result);
  };
  const StepResult one = hidden_of({{1}});
  const StepResult three = hidden_of({{1}, {1}, {1}});
  ASSERT_EQ(one.rows.size(), 4u);
  ASSERT_EQ(three.rows.size(), 4u);
  for (size_t row = 0; row < 3; ++row) {
    EXPECT_EQ(one.rows[row].hidden.size(), 64u);
    EXPECT_TRUE(same_bits(one.rows[row].hidden, three.rows[row].hidden)) << row;
  }
  EXPECT_EQ(one.rows[3].candidates.front().token, three.rows[3].candidates.front().token);
}

TEST(Stages, TakeAsManyStepsAsThereAreOfThemAndNoMore) {
  const auto model = make_small_model({.layers = 3});
  auto started = Ranks::start(*model, {.stages = {{1}, {1}, {1}}});
  ASSERT_TRUE(started);
  Ranks& ranks = **started;
  EXPECT_EQ(ranks.lead().steps_at_once(), 3);
  const auto step_of = [](uint32_t sequence) {
    Step step;
    const auto first = static_cast<PageId>(8 * sequence);
    step.rows = {{0, 5, 0, Role::kPrompt, Want::kCandidates}};
    step.sequences = {{{first}}};
    return step;
  };
  for (uint32_t sequence = 0; sequence < 3; ++sequence) {
    Step step = step_of(sequence);
    ASSERT_TRUE(ranks.submit(step));
  }
  EXPECT_EQ(ranks.lead().steps_in_flight(), 3);
  Step one_more = step_of(3);
  const Status refused = ranks.submit(one_more);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "3 steps are in flight, as many as this instance runs at once");
  for (uint64_t number = 1; number <= 3; ++number) {
    const auto result = ranks.lead().wait();
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->number, number);
    EXPECT_EQ(result->rows.size(), 1u);
  }
  EXPECT_FALSE(ranks.lead().poll()->has_value());
  EXPECT_TRUE(ranks.run(one_more));
}

TEST(Stages, AreReadOffTheCutsAndChecked) {
  const auto model = make_small_model({.layers = 4});
  const RankCut all = whole(model->card);
  const auto cut = [&](int64_t begin, int64_t end) {
    RankCut one = all;
    one.layers = {begin, end};
    return one;
  };
  const auto stages = stages_of(std::vector{cut(0, 1), cut(1, 4)}, model->description);
  ASSERT_TRUE(stages) << stages.error().message;
  EXPECT_EQ(*stages, (std::vector<Stage>{{0, 1}, {1, 1}}));
  EXPECT_EQ(stage_of(*stages, 1), 1u);

  const auto gap = stages_of(std::vector{cut(0, 1), cut(2, 4)}, model->description);
  ASSERT_FALSE(gap);
  EXPECT_EQ(gap.error().message,
            "rank 1 was given layers 2 to 4, but 1 comes next; the plan's cuts do not fit");
  const auto short_of = stages_of(std::vector{cut(0, 1), cut(1, 3)}, model->description);
  ASSERT_FALSE(short_of);
  EXPECT_EQ(short_of.error().message, "the ranks hold 3 of the model's 4 layers");
  // Two ranks of a stage that both hold everything.
  EXPECT_FALSE(stages_of(std::vector{cut(0, 2), cut(0, 2), cut(2, 4)}, model->description));
}

TEST(Stages, ALostRankOfAnyStageIsNamedByTheOthers) {
  const auto model = make_small_model({.layers = 3});
  for (const int lost : {1, 2}) {
    RanksOptions options{.stages = {{1}, {1}, {1}}};
    std::array<Status, 3> outcomes;
    options.instead = [&](int rank, std::unique_ptr<Engine>& engine) {
      int steps = 0;
      while (true) {
        const auto followed = engine->follow(Clock::now() + std::chrono::seconds(60));
        if (!followed) outcomes[static_cast<size_t>(rank)] = std::unexpected(followed.error());
        if (!followed || (rank == lost && ++steps == 2)) break;
      }
      engine.reset();
    };
    auto ranks = Ranks::start(*model, options);
    ASSERT_TRUE(ranks);
    Step step;
    step.rows = {{0, 5, 0, Role::kPrompt, Want::kCandidates}};
    step.sequences = {{{0}}};
    Status status;
    for (int32_t position = 0; position < 8 && status; ++position) {
      step.rows[0].position = position;
      const auto result = (*ranks)->run(step);
      if (!result) status = std::unexpected(result.error());
    }
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("rank "), std::string::npos) << status.error().message;
    ranks->reset();
    EXPECT_FALSE(outcomes[static_cast<size_t>(3 - lost)]) << "the other rank did not notice";
  }
}

}  // namespace
}  // namespace shoal
