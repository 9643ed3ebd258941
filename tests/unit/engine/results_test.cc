#include "engine/results.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "sampling/log_sum_exp.h"

namespace shoal {
namespace {

// What the lead has in hand when ranks hold the vocabulary in these parts.
struct Parts {
  std::vector<Range> ranges;
  std::vector<Bytes> messages;
};

Parts pack(const Step& step, const std::vector<std::vector<float>>& logits,
           const std::vector<int64_t>& borders) {
  Parts parts;
  for (size_t rank = 0; rank + 1 < borders.size(); ++rank) {
    const Range range{borders[rank], borders[rank + 1]};
    std::vector<float> mine;
    for (const auto& row : logits) {
      mine.insert(mine.end(), row.begin() + range.begin, row.begin() + range.end);
    }
    parts.ranges.push_back(range);
    ResultPacker().pack(step, mine, range, parts.messages.emplace_back());
  }
  return parts;
}

std::vector<float> random_row(size_t count, uint32_t seed, bool ties) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> row(count);
  for (float& value : row) value = ties ? std::round(normal(random)) : normal(random);
  return row;
}

TEST(Results, MergedCandidatesAreThoseOfTheWholeVocabulary) {
  for (const bool ties : {false, true}) {
    for (const auto& borders : std::vector<std::vector<int64_t>>{
             {0, 500}, {0, 250, 500}, {0, 3, 499, 500}, {0, 100, 150, 400, 500}}) {
      for (const uint32_t count : {1u, 20u, 64u, 600u}) {
        Step step{.number = 3, .candidate_count = count};
        step.rows = {{0, 0, 0, Role::kPrompt, Want::kNothing},
                     {0, 0, 1, Role::kPrompt, Want::kCandidates},
                     {0, 0, 2, Role::kPrompt, Want::kLogits},
                     {0, 0, 3, Role::kPrompt, Want::kCandidates}};
        const std::vector<std::vector<float>> logits = {
            random_row(500, 1, ties), random_row(500, 2, ties), random_row(500, 3, ties)};
        const Parts parts = pack(step, logits, borders);
        StepResult result;
        ASSERT_TRUE(ResultMerger(parts.ranges).merge(step, parts.messages, {}, result));
        ASSERT_EQ(result.rows.size(), 3u);
        EXPECT_EQ(result.rows[0].row, 1u);
        EXPECT_EQ(result.rows[2].row, 3u);
        EXPECT_EQ(result.rows[1].logits, logits[1]);
        for (const size_t row : {0, 2}) {
          std::vector<Candidate> expected;
          select_top(logits[row], 0, count, expected);
          ASSERT_EQ(result.rows[row].candidates.size(), expected.size());
          for (size_t i = 0; i < expected.size(); ++i) {
            EXPECT_EQ(result.rows[row].candidates[i].token, expected[i].token);
            EXPECT_EQ(result.rows[row].candidates[i].logit, expected[i].logit);
          }
          EXPECT_NEAR(result.rows[row].log_sum_exp, log_sum_exp(logits[row]), 1e-12);
        }
      }
    }
  }
}

TEST(Results, HiddenStatesNeedNoMessage) {
  Step step{.number = 1};
  step.rows = {{0, 0, 0, Role::kPrompt, Want::kHidden}, {0, 0, 1, Role::kPrompt, Want::kHidden}};
  EXPECT_FALSE(needs_vocabulary(step));
  const std::vector<float> hidden = {1, 2, 3, 4, 5, 6};
  StepResult result;
  ASSERT_TRUE(ResultMerger({{0, 10}}).merge(step, {}, hidden, result));
  EXPECT_EQ(result.rows[1].hidden, (std::vector<float>{4, 5, 6}));
}

TEST(Results, ARanksWrongAnswerIsRefusedByName) {
  Step step{.number = 1, .candidate_count = 4};
  step.rows = {{0, 0, 0, Role::kPrompt, Want::kCandidates}};
  const Parts good = pack(step, {random_row(100, 1, false)}, {0, 40, 100});
  const auto refused = [&](const std::function<void(Bytes&)>& spoil) {
    auto messages = good.messages;
    spoil(messages[1]);
    StepResult result;
    const Status merged = ResultMerger(good.ranges).merge(step, messages, {}, result);
    EXPECT_FALSE(merged);
    EXPECT_EQ(merged.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(merged.error().message.find("rank 1"), std::string::npos);
  };
  refused([](Bytes& m) { m.clear(); });
  refused([](Bytes& m) { m.pop_back(); });
  refused([](Bytes& m) { m.push_back({}); });
  refused([](Bytes& m) { m[12] = std::byte{5}; });             // another count
  refused([](Bytes& m) { m[16] = std::byte{3}; });             // a token of rank 0
  refused([](Bytes& m) { m[18] = std::byte{3}; });             // a token beyond the vocabulary
  refused([](Bytes& m) { m[22] = m[23] = std::byte{0xff}; });  // a logit that is not a number
}

}  // namespace
}  // namespace shoal
