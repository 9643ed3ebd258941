#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

namespace shoal {
namespace {

std::vector<float> random_logits(size_t count, uint32_t seed, float spread = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// The filters and the temperature straight from their definitions, over the whole vocabulary.
std::vector<double> expected_probabilities(const std::vector<float>& logits,
                                           const SamplingParameters& parameters) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (parameters.top_k > 0) {
    order.resize(std::min(order.size(), static_cast<size_t>(parameters.top_k)));
  }
  const auto normalised = [&](double temperature) {
    std::vector<double> p;
    for (const size_t token : order) {
      p.push_back(std::exp((logits[token] - logits[order[0]]) / temperature));
    }
    const double total = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& value : p) value /= total;
    return p;
  };
  if (parameters.top_p < 1) {
    const auto p = normalised(1);
    double cumulative = 0;
    size_t kept = 0;
    while (kept < p.size()) {
      cumulative += p[kept++];
      if (cumulative >= parameters.top_p) break;
    }
    order.resize(kept);
  }
  if (parameters.min_p > 0) {
    const auto p = normalised(1);
    size_t kept = 1;
    while (kept < p.size() && p[kept] >= parameters.min_p * p[0]) ++kept;
    order.resize(kept);
  }
  const auto p = normalised(parameters.temperature);
  std::vector<double> result(logits.size(), 0);
  for (size_t i = 0; i < order.size(); ++i) result[order[i]] = p[i];
  return result;
}

// The 99.9th percentile of chi-square, by the approximation of Wilson and Hilferty.
double chi_square_limit(double freedom) {
  const double a = 2 / (9 * freedom);
  return freedom * std::pow(1 - a + 3.09 * std::sqrt(a), 3);
}

void expect_distribution(const SamplingParameters& parameters, uint32_t seed) {
  constexpr int kDraws = 20000;
  const auto logits = random_logits(40, seed, 1);
  const auto expected = expected_probabilities(logits, parameters);
  std::vector<int> counts(logits.size(), 0);
  for (int position = 0; position < kDraws; ++position) {
    SamplingParameters one = parameters;
    one.seed = parameters.seed + static_cast<uint64_t>(position) / 1000;
    ++counts[static_cast<size_t>(sample(logits, one, static_cast<uint64_t>(position)).token)];
  }
  double statistic = 0;
  double rare = 0;
  double rare_seen = 0;
  int cells = 0;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (expected[token] == 0) {
      EXPECT_EQ(counts[token], 0) << "token " << token << " was filtered out";
      continue;
    }
    const double mean = expected[token] * kDraws;
    if (mean < 10) {
      rare += mean;
      rare_seen += counts[token];
      continue;
    }
    statistic += (counts[token] - mean) * (counts[token] - mean) / mean;
    ++cells;
  }
  if (rare > 1) {
    statistic += (rare_seen - rare) * (rare_seen - rare) / rare;
    ++cells;
  }
  ASSERT_GT(cells, 1) << "seed " << parameters.seed;
  EXPECT_LT(statistic, chi_square_limit(cells - 1)) << cells << " cells";
}

TEST(Sampler, DrawsFollowTheDistribution) {
  expect_distribution({.temperature = 1, .seed = 1}, 1);
  expect_distribution({.temperature = 0.5, .seed = 2}, 2);
  expect_distribution({.temperature = 1.7, .seed = 3}, 3);
  expect_distribution({.temperature = 1, .top_k = 8, .seed = 4}, 4);
  expect_distribution({.temperature = 0.8, .top_p = 0.9, .seed = 5}, 5);
  expect_distribution({.temperature = 1.3, .min_p = 0.1, .seed = 6}, 6);
  expect_distribution({.temperature = 0.9, .top_k = 20, .top_p = 0.8, .min_p = 0.2, .seed = 7}, 17);
  expect_distribution({.temperature = 2, .top_p = 0.6, .min_p = 0.05, .seed = 8}, 8);
}

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

TEST(Sampler, CandidatesGiveTheTokenOfTheFullLogits) {
  std::vector<ScoredToken> candidates;
  int compared = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    auto logits = random_logits(3000, seed);
    if (seed % 3 == 0) {
      for (float& logit : logits) logit = std::round(logit);  // many ties
    }
    select_top(logits, 0, 64, candidates);
    const double all = log_sum_exp(logits);
    for (const SamplingParameters& parameters :
         {SamplingParameters{.temperature = 0, .logprobs = 5},
          {.temperature = 0.7, .top_k = 40, .seed = seed},
          {.temperature = 1, .top_k = 64, .top_p = 0.9, .seed = seed, .logprobs = 20},
          {.temperature = 1.4, .top_k = 10, .min_p = 0.1, .seed = seed},
          {.temperature = 1, .top_k = 50, .top_p = 0.7, .min_p = 0.02, .seed = seed}}) {
      ASSERT_TRUE(parameters.candidates_suffice(64));
      for (uint64_t position = 0; position < 20; ++position) {
        const Sampled full = sample(logits, parameters, position);
        const Sampled few = sample(candidates, all, parameters, position);
        ASSERT_EQ(full.token, few.token);
        ASSERT_EQ(full.alternatives.size(), few.alternatives.size());
        for (size_t i = 0; i < few.alternatives.size(); ++i) {
          EXPECT_EQ(full.alternatives[i].first, few.alternatives[i].first);
        }
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 60 * 5 * 20);
}

TEST(Sampler, KnowsWhenCandidatesDoNotSuffice) {
  EXPECT_TRUE((SamplingParameters{.temperature = 0}).candidates_suffice(1));
  EXPECT_FALSE((SamplingParameters{.temperature = 0, .logprobs = 5}).candidates_suffice(4));
  EXPECT_FALSE((SamplingParameters{.temperature = 1}).candidates_suffice(64));
  EXPECT_FALSE((SamplingParameters{.temperature = 1, .top_p = 0.5}).candidates_suffice(64));
  EXPECT_FALSE((SamplingParameters{.temperature = 1, .min_p = 0.5}).candidates_suffice(64));
  EXPECT_FALSE((SamplingParameters{.temperature = 1, .top_k = 65}).candidates_suffice(64));
  EXPECT_TRUE((SamplingParameters{.temperature = 1, .top_k = 64}).candidates_suffice(64));
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
          {.temperature = 1, .min_p = 0.5}}) {
      const auto token = sample(logits, parameters, 3).token;
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

TEST(Sampler, AMillionDrawsStayInsideTheVocabulary) {
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
                                      .logprobs = 5};
  const auto again = sampling_from_json(*parse_json(dump_json(to_json(parameters))), 1);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->temperature, 0.7);
  EXPECT_EQ(again->top_k, 40);
  EXPECT_EQ(again->top_p, 0.9);
  EXPECT_EQ(again->min_p, 0.05);
  EXPECT_EQ(again->seed, UINT64_MAX);
  EXPECT_EQ(again->logprobs, 5);
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
