// Several ranks against one, and each rank's bits against the others'.
#include "ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace shoal {
namespace {

std::vector<Wanted> three_requests(int64_t vocabulary) {
  return {{some_tokens(40, vocabulary, 1), 24},
          {some_tokens(1, vocabulary, 2), 24},
          {some_tokens(75, vocabulary, 3), 24}};
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return largest;
}

double largest_size(const std::vector<float>& a) {
  double largest = 0;
  for (const float value : a) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

class Cuts : public testing::TestWithParam<std::vector<double>> {};

TEST_P(Cuts, GiveTheGreedyTokensOfOneRank) {
  for (const bool tied : {false, true}) {
    const auto model = make_small_model({.tied = tied});
    const auto requests = three_requests(model->card[CutKind::kVocabulary].count);
    auto alone = Ranks::start(*model, {});
    ASSERT_TRUE(alone) << alone.error().message;
    const auto expected = serve(**alone, requests, 32);
    ASSERT_TRUE(expected) << expected.error().message;
    auto ranks = Ranks::start(*model, {.shares = GetParam()});
    ASSERT_TRUE(ranks) << ranks.error().message;
    const auto got = serve(**ranks, requests, 32);
    ASSERT_TRUE(got) << got.error().message;
    for (size_t r = 0; r < requests.size(); ++r) {
      EXPECT_EQ((*got)[r].tokens, (*expected)[r].tokens);
      for (size_t i = 0; i < (*got)[r].logits.size(); ++i) {
        const auto& wanted = (*expected)[r].logits[i];
        EXPECT_LT(largest_difference((*got)[r].logits[i], wanted), 1e-4 * largest_size(wanted));
      }
    }
  }
}

TEST_P(Cuts, LeaveTheSameBitsOnEveryRank) {
  for (const ElementType type : {ElementType::kF32, ElementType::kQ8_0, ElementType::kQ4_0}) {
    const auto model = make_small_model({.type = type});
    auto ranks = Ranks::start(*model, {.isa = *choose_isa(""), .shares = GetParam()});
    ASSERT_TRUE(ranks) << ranks.error().message;
    ASSERT_TRUE(serve(**ranks, three_requests(model->card[CutKind::kVocabulary].count), 50));
    ASSERT_TRUE((*ranks)->lead().stop());
    for (const Status& outcome : (*ranks)->join()) EXPECT_TRUE(outcome);
    const auto hidden = (*ranks)->hidden(1);
    for (size_t rank = 1; rank < hidden.size(); ++rank) {
      EXPECT_TRUE(same_bits(hidden[0], hidden[rank])) << "rank " << rank;
    }
    EXPECT_GT(largest_size(hidden[0]), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(EvenAndUneven, Cuts,
                         testing::Values(std::vector<double>{1, 1}, std::vector<double>{5, 1},
                                         std::vector<double>{1, 1, 1},
                                         std::vector<double>{0.55, 0.1, 0.35}));

TEST(Ranks, CandidatesOfAllRanksAreThoseOfOne) {
  const auto model = make_small_model({});
  Step step{.candidate_count = 40};
  for (int32_t i = 0; i < 5; ++i) {
    step.rows.push_back({0, i * 7, i, Role::kPrompt, i > 2 ? Want::kCandidates : Want::kNothing});
  }
  step.sequences = {{{3}}};
  auto alone = Ranks::start(*model, {});
  auto three = Ranks::start(*model, {.shares = {1, 2, 1}});
  ASSERT_TRUE(alone && three);
  const auto one = (*alone)->run(step);
  const auto all = (*three)->run(step);
  ASSERT_TRUE(one && all);
  ASSERT_EQ(all->rows.size(), 2u);
  for (size_t r = 0; r < 2; ++r) {
    EXPECT_EQ(all->rows[r].row, r + 3);
    ASSERT_EQ(all->rows[r].candidates.size(), 40u);
    EXPECT_NEAR(all->rows[r].log_sum_exp, one->rows[r].log_sum_exp, 1e-5);
    for (size_t i = 0; i < 40; ++i) {
      EXPECT_EQ(all->rows[r].candidates[i].token, one->rows[r].candidates[i].token);
    }
  }
}

TEST(Ranks, QuantisedModelsCutInsideSuperBlocksStayClose) {
  for (const ElementType type :
       {ElementType::kF16, ElementType::kBF16, ElementType::kQ8_0, ElementType::kQ4_0,
        ElementType::kQ4_1, ElementType::kQ4_K, ElementType::kQ6_K}) {
    const auto model = make_small_model({.layers = 1,
                                         .hidden = 256,
                                         .feed_forward = 512,
                                         .heads = 12,
                                         .kv_heads = 3,
                                         .head_dimension = 64,
                                         .type = type});
    const std::vector<Wanted> requests = {{some_tokens(9, 320, 5), 1}};
    std::vector<std::vector<float>> logits;
    for (const std::vector<double>& shares :
         std::vector<std::vector<double>>{{1}, {0.55, 0.1, 0.35}}) {
      auto ranks = Ranks::start(*model, {.shares = shares});
      ASSERT_TRUE(ranks) << ranks.error().message;
      const auto got = serve(**ranks, requests, 32);
      ASSERT_TRUE(got) << got.error().message;
      logits.push_back((*got)[0].logits[0]);
    }
    EXPECT_LT(largest_difference(logits[0], logits[1]), 0.02 * largest_size(logits[0]))
        << element_traits(type).name;
  }
}

TEST(Ranks, HiddenStatesAreReturned) {
  const auto model = make_small_model({});
  auto ranks = Ranks::start(*model, {.shares = {1, 1}});
  ASSERT_TRUE(ranks);
  Step step;
  step.rows = {{0, 5, 0, Role::kPrompt, Want::kHidden}, {0, 6, 1, Role::kPrompt, Want::kHidden}};
  step.sequences = {{{0}}};
  const auto result = (*ranks)->run(step);
  ASSERT_TRUE(result);
  ASSERT_EQ(result->rows.size(), 2u);
  EXPECT_EQ(result->rows[0].hidden.size(), 64u);
  EXPECT_GT(largest_size(result->rows[1].hidden), 0);
  EXPECT_FALSE(same_bits(result->rows[0].hidden, result->rows[1].hidden));
}

}  // namespace
}  // namespace shoal
