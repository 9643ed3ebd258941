// Invariants of the samplers over random logits, histories and parameters.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "sampling/sampler.h"

namespace shoal {
namespace {

std::vector<float> some_logits() {
  const auto sixteenths =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(-200, 200)));
  std::vector<float> logits;
  for (const int value : sixteenths) logits.push_back(static_cast<float>(value) / 16);
  return logits;
}

double some_number(int lowest_hundredths, int highest_hundredths) {
  return *rc::gen::inRange(lowest_hundredths, highest_hundredths + 1) / 100.0;
}

TokenHistory some_history(size_t vocabulary) {
  TokenHistory history;
  for (const int token :
       *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, static_cast<int>(vocabulary))))
    history.add(token);
  return history;
}

SamplingParameters some_parameters() {
  SamplingParameters p;
  p.temperature = some_number(10, 300);
  p.top_k = *rc::gen::inRange(0, 30);
  p.top_p = some_number(0, 100);
  p.min_p = some_number(0, 100);
  p.typical_p = some_number(0, 100);
  p.top_n_sigma = some_number(-100, 300);
  p.xtc_probability = some_number(0, 100);
  p.xtc_threshold = some_number(0, 60);
  p.repeat_penalty = some_number(50, 200);
  p.frequency_penalty = some_number(-200, 200);
  p.presence_penalty = some_number(-200, 200);
  p.repeat_last_n = *rc::gen::inRange(-1, 20);
  p.dry_multiplier = some_number(0, 200);
  p.dry_allowed_length = *rc::gen::inRange(1, 4);
  p.seed = *rc::gen::arbitrary<uint64_t>();
  std::vector<Sampler> order;
  for (const Sampler sampler : default_samplers()) {
    const size_t at = *rc::gen::inRange<size_t>(0, order.size() + 1);
    order.insert(order.begin() + static_cast<ptrdiff_t>(at), sampler);
  }
  order.resize(*rc::gen::inRange<size_t>(0, kSamplerCount + 1));
  p.samplers = order;
  return p;
}

int32_t best_of(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

RC_GTEST_PROP(SamplingProperty, EveryStageKeepsAtLeastOneAndFiltersNeverAddAny, ()) {
  const auto logits = some_logits();
  auto parameters = some_parameters();
  parameters.sampler_trace = 20;
  const Sampled sampled = sample(logits, parameters, 7, some_history(logits.size()));
  int64_t kept = static_cast<int64_t>(logits.size());
  for (const SamplerStage& stage : sampled.stages) {
    RC_ASSERT(stage.kept >= 1);
    RC_ASSERT(stage.kept <= kept);
    kept = stage.kept;
    double sum = 0;
    for (const auto& one : stage.best) {
      RC_ASSERT(one.after >= 0 && one.after <= 1);
      sum += one.after;
    }
    RC_ASSERT(sum < 1 + 1e-9);
    if (stage.kept <= 20) RC_ASSERT(sum > 1 - 1e-9);
  }
}

RC_GTEST_PROP(SamplingProperty, LookingOnDoesNotChangeTheToken, ()) {
  const auto logits = some_logits();
  auto parameters = some_parameters();
  const TokenHistory history = some_history(logits.size());
  const int32_t token = sample(logits, parameters, 7, history).token;
  RC_ASSERT(token == sample(logits, parameters, 7, history).token);
  parameters.sampler_trace = 3;
  RC_ASSERT(token == sample(logits, parameters, 7, history).token);
}

RC_GTEST_PROP(SamplingProperty, CandidatesThatSufficeGiveTheSameToken, ()) {
  const auto logits = some_logits();
  auto parameters = some_parameters();
  if (*rc::gen::inRange(0, 3) == 0) parameters.temperature = 0;
  if (*rc::gen::inRange(0, 2) == 0) parameters.typical_p = 1;
  if (*rc::gen::inRange(0, 2) == 0) parameters.dry_multiplier = parameters.xtc_probability = 0;
  parameters.repeat_penalty = std::max(parameters.repeat_penalty, 1.0);
  parameters.frequency_penalty = std::abs(parameters.frequency_penalty);
  parameters.presence_penalty = std::abs(parameters.presence_penalty);
  const auto needed = parameters.candidates_needed();
  RC_PRE(needed.has_value());
  const TokenHistory history = some_history(logits.size());
  std::vector<ScoredToken> candidates;
  select_top(logits, 0, static_cast<size_t>(*needed), candidates);
  RC_ASSERT(sample(logits, parameters, 3, history).token ==
            sample(candidates, log_sum_exp(logits), parameters, 3, history).token);
}

RC_GTEST_PROP(SamplingProperty, TopKOfOneIsGreedyWhateverTheHeat, ()) {
  const auto logits = some_logits();
  const SamplingParameters parameters = {
      .temperature = some_number(1, 1000), .top_k = 1, .seed = *rc::gen::arbitrary<uint64_t>()};
  RC_ASSERT(sample(logits, parameters, 1).token == best_of(logits));
}

// Of the model's probabilities: what was said never gains on what was not.
RC_GTEST_PROP(SamplingProperty, PenaltiesNeverFavourWhatWasSaid, ()) {
  const auto logits = some_logits();
  RC_PRE(logits.size() <= 20u);
  const TokenHistory history = some_history(logits.size());
  const std::set<int32_t> said(history.tokens().begin(), history.tokens().end());
  SamplingParameters parameters = {.repeat_penalty = some_number(100, 300),
                                   .frequency_penalty = some_number(0, 200),
                                   .presence_penalty = some_number(0, 200),
                                   .repeat_last_n = -1,
                                   .dry_multiplier = some_number(0, 200),
                                   .sampler_trace = 20};
  parameters.samplers = {Sampler::kPenalties, Sampler::kDry};
  const Sampled sampled = sample(logits, parameters, 1, history);
  const auto& before = sampled.stages.front().best;
  const auto& after = sampled.stages[sampled.stages.size() - 2].best;
  std::vector<double> p(logits.size()), q(logits.size());
  for (const auto& one : before) p[static_cast<size_t>(one.token)] = one.after;
  for (const auto& one : after) q[static_cast<size_t>(one.token)] = one.after;
  for (size_t i = 0; i < p.size(); ++i) {
    if (!said.contains(static_cast<int32_t>(i))) RC_ASSERT(q[i] >= p[i] * (1 - 1e-6));
  }
}

RC_GTEST_PROP(SamplingProperty, AForbiddenTokenIsNeverDrawn, ()) {
  const auto logits = some_logits();
  RC_PRE(logits.size() > 1u);
  auto parameters = some_parameters();
  const auto forbidden = static_cast<int32_t>(*rc::gen::inRange<size_t>(0, logits.size()));
  parameters.logit_bias = {{forbidden, -INFINITY}};
  RC_ASSERT(sample(logits, parameters, 9, some_history(logits.size())).token != forbidden);
}

RC_GTEST_PROP(SamplingProperty, ParametersSurviveJson, ()) {
  const auto parameters = some_parameters();
  const auto again = sampling_from_json(*parse_json(dump_json(to_json(parameters))), 0);
  RC_ASSERT(again.has_value());
  RC_ASSERT(to_json(*again) == to_json(parameters));
}

}  // namespace
}  // namespace shoal
