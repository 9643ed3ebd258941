// When the best candidates do, and that they then give what all logits would.
#include <gtest/gtest.h>

#include "random_logits.h"
#include "sampling/sampler.h"

namespace shoal {
namespace {

void expect_same(std::span<const float> logits, const SamplingParameters& parameters,
                 const TokenHistory& history, int64_t more = 0) {
  const auto needed = parameters.candidates_needed();
  ASSERT_TRUE(needed) << to_json(parameters).dump();
  std::vector<ScoredToken> candidates;
  select_top(logits, 0, static_cast<size_t>(*needed + more), candidates);
  const double all = log_sum_exp(logits);
  for (uint64_t position = 0; position < 20; ++position) {
    const Sampled full = sample(logits, parameters, position, history);
    const Sampled few = sample(candidates, all, parameters, position, history);
    ASSERT_EQ(full.token, few.token) << to_json(parameters).dump();
    ASSERT_EQ(full.alternatives.size(), few.alternatives.size());
    for (size_t i = 0; i < few.alternatives.size(); ++i)
      EXPECT_EQ(full.alternatives[i].first, few.alternatives[i].first);
    if (parameters.logprobs >= 0) {
      EXPECT_NEAR(full.logprob, few.logprob, 1e-12);
    }
  }
}

TEST(Candidates, GiveTheTokenOfTheFullLogits) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    auto logits = random_logits(3000, seed);
    if (seed % 3 == 0) {
      for (float& logit : logits) logit = std::round(logit);  // many ties
    }
    // What was said: mostly the best tokens, so that penalties matter.
    std::vector<ScoredToken> best;
    select_top(logits, 0, 80, best);
    std::mt19937 random(seed);
    TokenHistory history;
    for (int i = 0; i < 90; ++i) history.add(best[random() % best.size()].token);
    const std::vector<LogitBias> lowering = {
        {best[0].token, -3}, {best[5].token, -INFINITY}, {17, -1}};
    for (const SamplingParameters& parameters : std::initializer_list<SamplingParameters>{
             {.temperature = 0, .logprobs = 5},
             {.temperature = 0, .top_p = 0.5, .logprobs = 100, .top_n_sigma = 1},
             {.temperature = 0.7, .top_k = 40, .seed = seed},
             {.top_k = 64, .top_p = 0.9, .seed = seed, .logprobs = 20},
             {.temperature = 1.4, .top_k = 10, .min_p = 0.1, .seed = seed},
             {.top_k = 50, .top_p = 0.7, .min_p = 0.02, .seed = seed},
             {.temperature = 0, .repeat_penalty = 1.5, .presence_penalty = 1},
             {.temperature = 0, .repeat_penalty = 1.5, .logit_bias = lowering},
             {.top_k = 20, .seed = seed, .repeat_penalty = 1.2, .frequency_penalty = 0.5},
             {.top_k = 1, .seed = seed, .logprobs = 3, .presence_penalty = 2, .repeat_last_n = 7},
             {.top_k = 30, .seed = seed, .typical_p = 0.6, .xtc_probability = 0.5},
             {.temperature = 0, .top_k = 30, .seed = seed, .typical_p = 0.6},
             {.top_k = 5, .seed = seed, .logit_bias = lowering},
             {.top_k = 25,
              .min_p = 0.01,
              .seed = seed,
              .presence_penalty = 1,
              .dry_multiplier = 1,
              .samplers = {Sampler::kMinP, Sampler::kPenalties, Sampler::kTopK, Sampler::kDry,
                           Sampler::kTopNSigma}},
         }) {
      expect_same(logits, parameters, history);
      expect_same(logits, parameters, history, 37);  // as when another row of the step wants more
    }
  }
}

TEST(Candidates, OfAVocabularyShorterThanTheList) {
  const auto logits = random_logits(30, 3);
  expect_same(logits, {.top_k = 64}, {});
  expect_same(logits, {.top_k = 30}, {});
  expect_same(logits, {.temperature = 0, .repeat_penalty = 2}, {});
}

TEST(Candidates, AreCountedByWhatMayChange) {
  using P = SamplingParameters;
  const auto needed = [](const P& parameters) {
    return parameters.candidates_needed().value_or(-1);
  };
  EXPECT_EQ(needed({.temperature = 0}), 1);
  EXPECT_EQ(needed({.temperature = 0, .logprobs = 5}), 5);
  EXPECT_EQ(needed({.temperature = 0, .top_k = 40, .top_p = 0.5}), 1);
  EXPECT_EQ(needed({.top_k = 64}), 64);
  EXPECT_EQ(needed({.top_k = 64, .top_p = 0.5, .min_p = 0.1, .xtc_probability = 1}), 64);
  EXPECT_EQ(needed({.temperature = 0, .repeat_penalty = 1.1}), 65);
  EXPECT_EQ(needed({.top_k = 40, .repeat_penalty = 1.1, .repeat_last_n = 10}), 50);
  EXPECT_EQ(needed({.top_k = 40, .repeat_penalty = 1.1, .repeat_last_n = 0}), 40);
  EXPECT_EQ(needed({.top_k = 40, .logit_bias = {{1, -1}, {2, -1}}}), 42);
  EXPECT_EQ(needed({.temperature = 0, .top_k = 40, .typical_p = 0.5}), 40);
  EXPECT_TRUE((P{.top_k = 64}).candidates_suffice(64));
  EXPECT_FALSE((P{.top_k = 65}).candidates_suffice(64));
}

TEST(Candidates, DoNotDoWhenTheVocabularyMatters) {
  for (const SamplingParameters& parameters : std::initializer_list<SamplingParameters>{
           {.temperature = 1},
           {.top_p = 0.5},
           {.min_p = 0.5},
           {.top_k = 40, .top_n_sigma = 1},
           {.temperature = 0, .typical_p = 0.5},
           {.temperature = 0, .xtc_probability = 0.5},
           {.temperature = 0, .repeat_penalty = 0.9},
           {.temperature = 0, .presence_penalty = -1},
           {.temperature = 0, .frequency_penalty = 1, .repeat_last_n = -1},
           {.temperature = 0, .logit_bias = {{1, 1}}},
           {.temperature = 0, .dry_multiplier = 1},
           {.temperature = 0, .sampler_trace = 1},
           {.temperature = 0, .samplers = {}},
           {.top_k = 40, .samplers = {Sampler::kTemperature}},
           {.top_k = 40, .top_p = 0.5, .samplers = {Sampler::kTopP, Sampler::kTopK}},
           {.temperature = 0,
            .top_p = 0.5,
            .repeat_penalty = 2,
            .samplers = {Sampler::kTopP, Sampler::kPenalties, Sampler::kTemperature}},
       }) {
    EXPECT_FALSE(parameters.candidates_needed()) << to_json(parameters).dump();
  }
}

}  // namespace
}  // namespace shoal
