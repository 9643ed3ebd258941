// Tens of thousands of draws with fixed seeds against probabilities from the definitions.
#include <gtest/gtest.h>

#include <numeric>

#include "definition.h"
#include "random_logits.h"
#include "sampling/sampler.h"

namespace shoal {
namespace {

constexpr int kDraws = 30000;

// The 99.9th percentile of chi-square, by the approximation of Wilson and Hilferty.
double chi_square_limit(double freedom) {
  const double a = 2 / (9 * freedom);
  return freedom * std::pow(1 - a + 3.09 * std::sqrt(a), 3);
}

// Chi-square of counts against probabilities; cells of fewer than ten expected draws are one cell.
void expect_counts(const std::vector<int>& counts, const std::vector<double>& expected) {
  const int draws = std::accumulate(counts.begin(), counts.end(), 0);
  double statistic = 0;
  double rare = 0;
  double rare_seen = 0;
  int cells = 0;
  for (size_t token = 0; token < counts.size(); ++token) {
    if (expected[token] == 0) {
      EXPECT_EQ(counts[token], 0) << "token " << token << " was filtered out";
      continue;
    }
    const double mean = expected[token] * draws;
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
  ASSERT_GT(cells, 1);
  EXPECT_LT(statistic, chi_square_limit(cells - 1)) << cells << " cells";
}

const std::vector<int32_t> kSaid = {3, 9, 3, 17, 4, 9, 3, 17, 25, 4, 9, 3};

void expect_distribution(const SamplingParameters& parameters, uint32_t seed) {
  SCOPED_TRACE(to_json(parameters).dump());
  const auto logits = random_logits(40, seed, 1);
  TokenHistory history;
  for (const int32_t token : kSaid) history.add(token);
  const auto expected = definition::probabilities(logits, parameters, kSaid);
  std::vector<int> counts(logits.size(), 0);
  SamplingParameters one = parameters;
  for (int draw = 0; draw < kDraws; ++draw) {
    one.seed = seed * 1000 + static_cast<uint64_t>(draw) / 1000;
    ++counts[static_cast<size_t>(
        sample(logits, one, static_cast<uint64_t>(draw % 1000), history).token)];
  }
  expect_counts(counts, expected);
}

TEST(Distribution, TemperatureAndTheUsualFilters) {
  expect_distribution({.temperature = 1}, 1);
  expect_distribution({.temperature = 0.5}, 2);
  expect_distribution({.temperature = 1.7}, 3);
  expect_distribution({.top_k = 8}, 4);
  expect_distribution({.temperature = 0.8, .top_p = 0.9}, 5);
  expect_distribution({.temperature = 1.3, .min_p = 0.1}, 6);
  expect_distribution({.temperature = 0.9, .top_k = 20, .top_p = 0.8, .min_p = 0.2}, 17);
  expect_distribution({.temperature = 2, .top_p = 0.6, .min_p = 0.05}, 8);
}

TEST(Distribution, TypicalAndTopNSigma) {
  expect_distribution({.typical_p = 0.5}, 11);
  expect_distribution({.temperature = 1.5, .typical_p = 0.2}, 12);
  expect_distribution({.top_k = 15, .typical_p = 0.8}, 13);
  expect_distribution({.top_n_sigma = 1}, 14);
  expect_distribution({.temperature = 3, .top_n_sigma = 1.7}, 15);
  expect_distribution({.temperature = 1.2, .top_k = 30, .typical_p = 0.9, .top_n_sigma = 2}, 16);
}

TEST(Distribution, Xtc) {
  expect_distribution({.xtc_probability = 1, .xtc_threshold = 0.05}, 21);
  expect_distribution({.xtc_probability = 0.4, .xtc_threshold = 0.04}, 22);
  expect_distribution({.temperature = 0.7, .xtc_probability = 0.6, .xtc_threshold = 0.03}, 23);
  expect_distribution({.top_k = 10, .xtc_probability = 0.5, .xtc_threshold = 0.1}, 24);
  expect_distribution({.top_p = 0.9, .xtc_probability = 0.5, .xtc_threshold = 0.1}, 25);
  expect_distribution({.xtc_probability = 1, .xtc_threshold = 0.01}, 26);
}

TEST(Distribution, BiasAndPenalties) {
  expect_distribution({.repeat_penalty = 1.5}, 31);
  expect_distribution({.frequency_penalty = 0.7}, 32);
  expect_distribution({.presence_penalty = -1.1}, 33);
  expect_distribution({.temperature = 0.7,
                       .repeat_penalty = 1.3,
                       .frequency_penalty = 0.3,
                       .presence_penalty = 0.4,
                       .repeat_last_n = 5},
                      34);
  expect_distribution({.dry_multiplier = 0.8}, 35);
  expect_distribution({.dry_multiplier = 0.3, .dry_base = 1.2, .dry_allowed_length = 1}, 36);
  expect_distribution({.dry_multiplier = 1, .dry_penalty_last_n = 8}, 37);
  expect_distribution({.logit_bias = {{3, 2}, {4, -5}, {30, 1}}}, 38);
  expect_distribution({.top_k = 12, .repeat_penalty = 1.2, .logit_bias = {{5, -INFINITY}}}, 39);
}

TEST(Distribution, EverythingTogether) {
  expect_distribution({.temperature = 0.8,
                       .top_k = 30,
                       .top_p = 0.95,
                       .min_p = 0.02,
                       .typical_p = 0.97,
                       .top_n_sigma = 2.5,
                       .xtc_probability = 0.3,
                       .xtc_threshold = 0.1,
                       .repeat_penalty = 1.1,
                       .frequency_penalty = 0.1,
                       .presence_penalty = 0.1,
                       .dry_multiplier = 0.5,
                       .logit_bias = {{1, 1}}},
                      41);
}

TEST(Distribution, TheOrderIsTheOneAskedFor) {
  const SamplingParameters usual = {.temperature = 2, .top_p = 0.7, .min_p = 0.1};
  SamplingParameters warm_first = usual;
  warm_first.samplers = {Sampler::kTemperature, Sampler::kTopP, Sampler::kMinP};
  SamplingParameters no_temperature = usual;
  no_temperature.samplers = {Sampler::kMinP};
  const auto logits = random_logits(40, 51, 1);
  EXPECT_NE(definition::probabilities(logits, usual),
            definition::probabilities(logits, warm_first));
  expect_distribution(warm_first, 51);
  expect_distribution(no_temperature, 52);
  expect_distribution({.temperature = 0.6,
                       .top_k = 6,
                       .repeat_penalty = 3,
                       .samplers = {Sampler::kTopK, Sampler::kTemperature, Sampler::kPenalties}},
                      53);
  expect_distribution({.temperature = 1.5,
                       .min_p = 0.2,
                       .presence_penalty = 2,
                       .samplers = {Sampler::kTemperature, Sampler::kMinP, Sampler::kPenalties,
                                    Sampler::kTopNSigma}},
                      54);
  expect_distribution({.temperature = 1.5,
                       .typical_p = 0.7,
                       .xtc_probability = 0.5,
                       .xtc_threshold = 0.05,
                       .samplers = {Sampler::kXtc, Sampler::kTemperature, Sampler::kTypicalP}},
                      55);
}

// XTC and the draw of one position must not share their random number: then a rare XTC would always
// meet the same draws.
TEST(Distribution, XtcIsIndependentOfTheDraw) {
  const std::vector<float> logits = {3, 2.9F, 1, 0.9F, 0.8F, 0.7F};
  SamplingParameters parameters = {.xtc_probability = 0.1, .xtc_threshold = 0.3};
  std::vector<int> counts(logits.size(), 0);
  for (uint64_t position = 0; position < kDraws; ++position)
    ++counts[static_cast<size_t>(sample(logits, parameters, position).token)];
  expect_counts(counts, definition::probabilities(logits, parameters));
}

// The report of the samplers is exact, so it can be held against the definition to rounding.
TEST(Distribution, TheReportedProbabilitiesAreTheDefinitions) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto number = [&](double lowest, double highest) {
      return std::uniform_real_distribution<double>(lowest, highest)(random);
    };
    const auto maybe = [&](double value, double otherwise) {
      return random() % 3 == 0 ? value : otherwise;
    };
    SamplingParameters p = {.temperature = maybe(number(0.3, 3), 1),
                            .top_k = static_cast<int64_t>(maybe(number(1, 20), 0)),
                            .top_p = maybe(number(0, 1), 1),
                            .min_p = maybe(number(0, 0.5), 0),
                            .seed = seed,
                            .typical_p = maybe(number(0, 1), 1),
                            .top_n_sigma = maybe(number(0.2, 3), -1),
                            .repeat_penalty = maybe(number(0.5, 2), 1),
                            .frequency_penalty = maybe(number(-1, 1), 0),
                            .presence_penalty = maybe(number(-1, 1), 0),
                            .repeat_last_n = static_cast<int64_t>(number(-1, 15)),
                            .dry_multiplier = maybe(number(0, 2), 0),
                            .dry_allowed_length = static_cast<int64_t>(1 + random() % 3),
                            .sampler_trace = 20};
    std::ranges::shuffle(p.samplers, random);
    if (random() % 2 == 0) p.samplers.resize(random() % 10);
    const auto logits = random_logits(20, seed, 1.5F);
    std::vector<int32_t> said;
    TokenHistory history;
    while (said.size() < 25) {
      said.push_back(static_cast<int32_t>(random() % 6));
      history.add(said.back());
    }
    SCOPED_TRACE(to_json(p).dump());
    const Sampled sampled = sample(logits, p, 5, history);
    const auto expected = definition::probabilities(logits, p, said);
    ASSERT_GE(sampled.stages.size(), 2u);
    const SamplerStage& last = sampled.stages[sampled.stages.size() - 2];
    std::vector<double> reported(logits.size(), 0);
    for (const auto& one : last.best) reported[static_cast<size_t>(one.token)] = one.after;
    for (size_t token = 0; token < logits.size(); ++token)
      EXPECT_NEAR(reported[token], expected[token], 2e-6) << token;
    EXPECT_EQ(last.kept, std::ranges::count_if(expected, [](double e) { return e > 0; }));
    EXPECT_EQ(sampled.stages.back().name, "draw");
    EXPECT_EQ(sampled.stages.back().best[0].token, sampled.token);
  }
}

}  // namespace
}  // namespace shoal
