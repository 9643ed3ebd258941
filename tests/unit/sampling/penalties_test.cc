#include "sampling/penalties.h"

#include <gtest/gtest.h>

#include "sampling/sampler.h"

namespace shoal {
namespace {

TokenHistory said(const std::vector<int32_t>& tokens) {
  TokenHistory history;
  for (const int32_t token : tokens) history.add(token);
  return history;
}

// token -> what is taken from its logit
std::vector<std::pair<int32_t, double>> dry(const TokenHistory& history,
                                            const SamplingParameters& parameters) {
  std::vector<std::pair<int32_t, double>> result;
  for (const LogitChange& change : dry_penalties(history, parameters)) {
    EXPECT_EQ(change.divisor, 1);
    result.emplace_back(change.token, change.subtrahend);
  }
  return result;
}
using Penalties = std::vector<std::pair<int32_t, double>>;

TEST(Penalties, CountWhatTheWindowHolds) {
  const TokenHistory history = said({7, 3, 3, 9, 3});
  const SamplingParameters parameters = {.repeat_penalty = 1.5,
                                         .frequency_penalty = 0.5,
                                         .presence_penalty = 0.25,
                                         .repeat_last_n = 4};
  const auto changes = penalties(history, parameters);
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].token, 3);
  EXPECT_EQ(changes[0].divisor, 1.5);
  EXPECT_EQ(changes[0].subtrahend, 3 * 0.5 + 0.25);
  EXPECT_EQ(changes[1].token, 9);
  EXPECT_EQ(changes[1].subtrahend, 0.75);
}

// A penalty lowers logits of either sign; the greedy answer stops repeating itself.
TEST(Penalties, MoveTheGreedyChoice) {
  const std::vector<float> above = {2, 1.5F, -1};
  const std::vector<float> below = {-1, -1.2F, -3};
  const TokenHistory history = said({0});
  EXPECT_EQ(sample(above, {.temperature = 0}, 1, history).token, 0);
  EXPECT_EQ(sample(above, {.temperature = 0, .repeat_penalty = 1.5}, 1, history).token, 1);
  EXPECT_EQ(sample(below, {.temperature = 0, .repeat_penalty = 1.5}, 1, history).token, 1);
  EXPECT_EQ(sample(below, {.temperature = 0, .presence_penalty = 0.3}, 1, history).token, 1);
  EXPECT_EQ(sample(below, {.temperature = 0, .presence_penalty = 0.1}, 1, history).token, 0);
  EXPECT_EQ(sample(above, {.temperature = 0, .repeat_penalty = 9}, 1, said({0, 1})).token, 0)
      << "2 / 9 is still above 1.5 / 9";
  EXPECT_EQ(
      sample(above, {.temperature = 0, .repeat_penalty = 9, .repeat_last_n = 1}, 1, said({0, 1}))
          .token,
      0);
}

TEST(Penalties, BiasForbidsAndForces) {
  const std::vector<float> logits = {5, 4, 3};
  EXPECT_EQ(sample(logits, {.temperature = 0, .logit_bias = {{0, -INFINITY}}}, 0).token, 1);
  EXPECT_EQ(sample(logits, {.temperature = 0, .logit_bias = {{2, 100}}}, 0).token, 2);
  for (uint64_t position = 0; position < 200; ++position) {
    EXPECT_NE(sample(logits, {.logit_bias = {{0, -100}}}, position).token, 0);
    EXPECT_EQ(sample(logits, {.logit_bias = {{2, 100}}}, position).token, 2);
  }
  const Sampled sampled =
      sample(logits, {.temperature = 0, .logprobs = 1, .logit_bias = {{2, 9}}}, 0);
  EXPECT_EQ(sampled.token, 2);
  EXPECT_NEAR(sampled.logprob, 3 - log_sum_exp(logits), 1e-12) << "the model's own, without bias";
  EXPECT_EQ(sampled.alternatives[0].first, 0);
}

TEST(Dry, PenalisesWhatWouldLengthenARepetition) {
  // "1 2 3" came before and was followed by 4; "3" alone was also followed by 8.
  const TokenHistory history = said({1, 2, 3, 4, 5, 3, 8, 1, 2, 3});
  const SamplingParameters parameters = {.dry_multiplier = 0.5, .dry_base = 2};
  EXPECT_EQ(dry(history, parameters), (Penalties{{4, 0.5 * 2}}));
  SamplingParameters strict = parameters;
  strict.dry_allowed_length = 1;
  EXPECT_EQ(dry(history, strict), (Penalties{{4, 0.5 * 4}, {8, 0.5}}));
  SamplingParameters lax = parameters;
  lax.dry_allowed_length = 4;
  EXPECT_TRUE(dry(history, lax).empty());
  SamplingParameters near = parameters;
  near.dry_penalty_last_n = 6;  // the first occurrence is out of sight
  EXPECT_TRUE(dry(history, near).empty());
}

TEST(Dry, AnOverlappingRepetitionCounts) {
  EXPECT_EQ(dry(said({5, 5, 5, 5}), {.dry_multiplier = 1, .dry_base = 2}), (Penalties{{5, 2}}));
}

TEST(Dry, BreakersEndARepetitionHoweverTheyAreCut) {
  const auto history = [](const std::vector<std::pair<int32_t, const char*>>& tokens) {
    TokenHistory result({"\n", "end."});
    for (const auto& [token, text] : tokens) result.add(token, text);
    return result;
  };
  const SamplingParameters parameters = {.dry_multiplier = 1, .dry_base = 2};
  // a b c ... a b: c continues the repetition.
  EXPECT_EQ(dry(history({{1, "a"}, {2, "b"}, {3, "c"}, {1, "a"}, {2, "b"}}), parameters),
            (Penalties{{3, 1}}));
  // A newline inside the repetition leaves only what follows it.
  EXPECT_TRUE(
      dry(history({{1, "a"}, {2, "x\ny"}, {3, "c"}, {1, "a"}, {2, "x\ny"}}), parameters).empty());
  // A breaker over three tokens.
  const auto split = history({{1, "e"}, {2, "n"}, {3, "d."}, {1, "e"}, {2, "n"}, {3, "d."}});
  EXPECT_EQ(split.since_breaker(), 0u);
  EXPECT_EQ(history({{1, "e"}, {2, "n"}, {3, "d"}, {4, "x"}}).since_breaker(), 4u);
  EXPECT_EQ(history({{1, "end"}, {2, ".."}, {3, "d"}, {4, "x"}}).since_breaker(), 2u);
  // A token that is a breaker is never penalised: a list may go on with another line.
  EXPECT_TRUE(
      dry(history({{1, "a"}, {2, "b"}, {3, "\n"}, {1, "a"}, {2, "b"}}), parameters).empty());
}

TEST(Dry, LongRepetitionsStayNumbersAndFast) {
  TokenHistory history;
  for (int i = 0; i < 100000; ++i) history.add(1);  // quadratic would take minutes
  const auto penalties = dry(history, {.dry_multiplier = 1});
  ASSERT_EQ(penalties.size(), 1u);
  EXPECT_EQ(penalties[0].second, 1e30);
  const std::vector<float> logits = {0, 9, 1};
  EXPECT_EQ(sample(logits, {.temperature = 0, .dry_multiplier = 1}, 1, history).token, 2);
}

}  // namespace
}  // namespace shoal
