#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "base/random.h"
#include "random_logits.h"

namespace shoal {
namespace {

TEST(Sampler, ExtremesKeepOnlyTheBest) {
  const auto logits = random_logits(1000, 9);
  const auto best = static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  for (uint64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(sample(logits, {.temperature = 0}, position).token, best);
    EXPECT_EQ(sample(logits, {.temperature = 5, .top_k = 1}, position).token, best);
    EXPECT_EQ(sample(logits, {.temperature = 5, .top_p = 0}, position).token, best);
    EXPECT_EQ(sample(logits, {.temperature = 5, .min_p = 1}, position).token, best);
    EXPECT_EQ(sample(logits, {.temperature = 1e-9}, position).token, best);
  }
}

TEST(Sampler, TheSameSeedAndPositionGiveTheSameToken) {
  const auto logits = random_logits(500, 10);
  std::map<int32_t, int> other_seed;
  for (uint64_t position = 0; position < 100; ++position) {
    const SamplingParameters parameters{.temperature = 1.5, .seed = 42};
    EXPECT_EQ(sample(logits, parameters, position).token,
              sample(logits, parameters, position).token);
    ++other_seed[sample(logits, {.temperature = 1.5, .seed = position}, 7).token];
  }
  EXPECT_GT(other_seed.size(), 10u);
}

// An answer that a seed gave must come again in a later version: the tokens of 320 draws, hashed.
TEST(Sampler, TokensOfASeedStayWhatTheyWere) {
  const std::vector<std::pair<SamplingParameters, uint64_t>> cases = {
      {{.temperature = 0, .logprobs = 3}, 5342086641019394835U},
      {{.temperature = 1}, 17718156061337277801U},
      {{.temperature = 0.6, .seed = 5}, 12536321939317249883U},
      {{.temperature = 0.8, .top_k = 40, .seed = 6}, 14425605312687208939U},
      {{.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .seed = 7},
       15393535758525504806U},
      {{.temperature = 1, .top_p = 0.9, .seed = 8}, 232813014694968501U},
      {{.temperature = 1.3, .top_p = 0.97, .min_p = 0.01, .seed = 9}, 12674932916526397120U},
      {{.temperature = 1.5, .min_p = 0.02, .seed = 10}, 2180289625247272751U},
  };
  for (const auto& [parameters, expected] : cases) {
    uint64_t hash = 1469598103934665603U;  // FNV-1a
    for (uint64_t n = 0; n < 40; ++n) {
      std::vector<float> logits(3000);
      for (size_t i = 0; i < logits.size(); ++i)
        logits[i] = static_cast<float>((uniform(n, i, 7) - 0.5) * 16);
      for (uint64_t position = 0; position < 8; ++position) {
        const Sampled sampled = sample(logits, parameters, position);
        hash = (hash ^ static_cast<uint64_t>(sampled.token)) * 1099511628211U;
      }
    }
    EXPECT_EQ(hash, expected) << to_json(parameters).dump();
  }
}

TEST(Sampler, LogProbabilitiesAreTheModelsOwn) {
  const std::vector<float> logits = {1, 3, 2, 3};
  const double total = std::exp(1.0) + 2 * std::exp(3.0) + std::exp(2.0);
  const Sampled sampled = sample(logits, {.temperature = 0, .top_k = 1, .logprobs = 3}, 0);
  EXPECT_EQ(sampled.token, 1);  // the tie goes to the lower token
  EXPECT_NEAR(sampled.logprob, 3 - std::log(total), 1e-14);
  ASSERT_EQ(sampled.alternatives.size(), 3u);
  EXPECT_EQ(sampled.alternatives[0].first, 1);
  EXPECT_EQ(sampled.alternatives[1].first, 3);
  EXPECT_EQ(sampled.alternatives[2].first, 2);
  EXPECT_NEAR(sampled.alternatives[2].second, 2 - std::log(total), 1e-14);
  EXPECT_TRUE(sample(logits, {.temperature = 0, .logprobs = 0}, 0).alternatives.empty());
}

TEST(Sampler, SurvivesLogitsThatAreNoNumbers) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<float>> cases = {
      {kNan, kNan, kNan},
      {-kInfinity, -kInfinity},
      {kNan, 1, -kInfinity},
      {kInfinity, 0, kInfinity},
      std::vector<float>(700, -kInfinity),
  };
  for (const auto& logits : cases) {
    for (const SamplingParameters& parameters :
         {SamplingParameters{.temperature = 0, .logprobs = 2},
          {.temperature = 1},
          {.temperature = 1, .top_k = 2},
          {.temperature = 1, .top_p = 0.5},
          {.temperature = 1, .min_p = 0.5},
          {.typical_p = 0.5},
          {.typical_p = 0.5, .top_n_sigma = 1},
          {.xtc_probability = 1, .xtc_threshold = 0.01},
          {.top_k = 2, .typical_p = 0.1, .xtc_probability = 1, .xtc_threshold = 0},
          {.repeat_penalty = 2, .presence_penalty = 1, .dry_multiplier = 1}}) {
      TokenHistory history;
      for (const int32_t token : {0, 1, 0, 1, 0, 1, 5}) history.add(token);
      SamplingParameters traced = parameters;
      traced.sampler_trace = 5;
      EXPECT_EQ(sample(logits, traced, 3, history).token,
                sample(logits, parameters, 3, history).token);
      const auto token = sample(logits, parameters, 3, history).token;
      EXPECT_GE(token, 0);
      EXPECT_LT(token, static_cast<int32_t>(logits.size()));
    }
  }
  // Of the tokens that are possible at all, only those are drawn.
  for (uint64_t position = 0; position < 20; ++position) {
    EXPECT_EQ(sample(cases[2], {.temperature = 1}, position).token, 1);
    EXPECT_EQ(sample(cases[2], {.temperature = 1, .top_k = 2}, position).token, 1);
  }
}

TEST(Sampler, DrawsStayInsideTheVocabulary) {
  const auto logits = random_logits(1537, 11, 0.1F);  // not a whole number of blocks
  std::vector<int> counts(logits.size(), 0);
  for (uint64_t position = 0; position < 3000; ++position) {
    ++counts[static_cast<size_t>(sample(logits, {.temperature = 1, .seed = 3}, position).token)];
  }
  EXPECT_GT(std::accumulate(counts.end() - 1, counts.end(), 0) +
                std::accumulate(counts.begin(), counts.begin() + 512, 0),
            500);
}

TEST(Top, IsTheFullSortsBeginning) {
  std::vector<ScoredToken> best;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    auto logits = random_logits(random() % 700, seed);
    if (seed % 2 == 0) {
      for (float& logit : logits) logit = std::round(logit);
    }
    if (seed % 5 == 0) std::ranges::sort(logits);
    const size_t count = random() % 100;
    std::vector<ScoredToken> all;
    for (size_t i = 0; i < logits.size(); ++i)
      all.push_back({static_cast<int32_t>(i) + 7, logits[i]});
    std::ranges::sort(all, better);
    select_top(logits, 7, count, best);
    ASSERT_EQ(best.size(), std::min(count, logits.size()));
    for (size_t i = 0; i < best.size(); ++i) {
      ASSERT_EQ(best[i].token, all[i].token);
      ASSERT_EQ(best[i].logit, all[i].logit);
    }
  }
}

TEST(LogSumExp, AgreesWithTheDefinitionInExtendedPrecision) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const auto logits = random_logits(5000, seed, 0.1F + static_cast<float>(seed) * 3);
    long double total = 0;
    const float maximum = std::ranges::max(logits);
    for (const float logit : logits) {
      total += std::exp(static_cast<long double>(logit) - static_cast<long double>(maximum));
    }
    EXPECT_NEAR(log_sum_exp(logits), static_cast<double>(maximum + std::log(total)), 1e-13);
  }
}

TEST(LogSumExp, PartsAddUpToTheWhole) {
  const auto logits = random_logits(1000, 5, 10);
  const std::span<const float> all(logits);
  const std::vector<PartialSumExp> parts = {sum_exp(all.first(100)), sum_exp(all.subspan(100, 0)),
                                            sum_exp(all.subspan(100, 13)),
                                            sum_exp(all.subspan(113))};
  EXPECT_NEAR(log_sum_exp(parts), log_sum_exp(logits), 1e-13);
}

TEST(LogSumExp, SaysWhenThereIsNoDistribution) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(log_sum_exp(std::vector<float>{1, kNan})));
  EXPECT_TRUE(std::isnan(log_sum_exp(std::vector<float>{kNan})));
  EXPECT_TRUE(std::isnan(log_sum_exp(std::vector<float>{1, kInfinity})));
  EXPECT_NEAR(log_sum_exp(std::vector<float>{1, -kInfinity}), 1, 1e-15);
  EXPECT_EQ(log_sum_exp(std::vector<float>{-kInfinity}), -kInfinity);
}

TEST(SamplingJson, GoesThereAndBack) {
  const SamplingParameters parameters{.temperature = 0.7,
                                      .top_k = 40,
                                      .top_p = 0.9,
                                      .min_p = 0.05,
                                      .seed = UINT64_MAX,
                                      .logprobs = 5,
                                      .dry_multiplier = 0.8,
                                      .dry_sequence_breakers = {"\n", "é"},
                                      .logit_bias = {{7, -3}, {8, -INFINITY}},
                                      .samplers = {Sampler::kMinP, Sampler::kTypicalP}};
  const auto again = sampling_from_json(*parse_json(dump_json(to_json(parameters))), 1);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->temperature, 0.7);
  EXPECT_EQ(again->top_k, 40);
  EXPECT_EQ(again->top_p, 0.9);
  EXPECT_EQ(again->min_p, 0.05);
  EXPECT_EQ(again->seed, UINT64_MAX);
  EXPECT_EQ(again->logprobs, 5);
  EXPECT_EQ(to_json(*again), to_json(parameters));
  EXPECT_EQ(again->logit_bias[1].bias, -INFINITY);
  EXPECT_EQ(again->samplers, parameters.samplers);
}

TEST(SamplingJson, DefaultsAndSeeds) {
  EXPECT_EQ(sampling_from_json(Json::object(), 77)->seed, 77u);
  EXPECT_EQ(sampling_from_json({{"seed", nullptr}}, 77)->seed, 77u);
  EXPECT_EQ(sampling_from_json({{"seed", 5}}, 77)->seed, 5u);
  EXPECT_EQ(sampling_from_json({{"seed", -1}}, 77)->seed, UINT64_MAX);
  EXPECT_EQ(sampling_from_json(Json::object(), 1)->temperature, 1);
}

TEST(SamplingJson, NamesTheFieldAndItsRange) {
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"temperature", -1}}, "'temperature' must be from 0 to 100, not -1"},
      {{{"top_p", 1.5}}, "'top_p' must be from 0 to 1, not 1.5"},
      {{{"min_p", 2}}, "'min_p' must be from 0 to 1, not 2"},
      {{{"top_k", -5}}, "'top_k' must be from 0 to 2147483647, not -5"},
      {{{"logprobs", 5000}}, "'logprobs' must be from -1 to 1000, not 5000"},
      {{{"seed", 1.5}}, "'seed' must be an integer of at most 64 bits"},
      {{{"repeat_penalty", 0}}, "'repeat_penalty' must be from 0.01 to 100, not 0"},
      {{{"dry_allowed_length", 0}}, "'dry_allowed_length' must be from 1 to 2147483647, not 0"},
      {{{"logit_bias", {{1, 5}, {1, 6}}}}, "'logit_bias' names the token 1 twice"},
      {{{"logit_bias", {{1, 101}}}},
       "'logit_bias' of the token 1 must be from -100 to 100, not 101"},
      {{{"logit_bias", {{-1, 5}}}}, "'logit_bias' must be a list of pairs [token, number or null]"},
      {{{"dry_sequence_breakers", {""}}},
       "'dry_sequence_breakers' must hold strings of 1 to 64 bytes, not of 0"},
      {{{"dry_sequence_breakers", 3}}, "'dry_sequence_breakers' must be a list of strings"},
      {{{"samplers", {"top_k", "magic"}}},
       "'samplers' holds 'magic'; known are penalties, dry, top_n_sigma, top_k, typ_p, top_p, "
       "min_p, "
       "xtc, temperature"},
      {{{"samplers", {"top-p", "nucleus"}}}, "'samplers' names 'top_p' twice"},
      {{{"temperature", "hot"}}, "the field 'temperature' has the wrong type"},
      {Json::array(), "the sampling parameters must be an object"},
  };
  for (const auto& [json, sentence] : cases) {
    const auto refused = sampling_from_json(json, 1);
    ASSERT_FALSE(refused) << json.dump();
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(refused.error().message, sentence);
  }
}

}  // namespace
}  // namespace shoal
