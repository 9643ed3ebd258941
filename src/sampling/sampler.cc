#include "sampling/sampler.h"

#include <algorithm>

#include "base/random.h"
#include "sampling/filters.h"
#include "sampling/penalties.h"
#include "sampling/trace.h"

namespace shoal {

namespace {

constexpr uint64_t kXtcStream = 1;  // of random numbers; the draw's own is 0

void apply(Sampler sampler, const SamplingParameters& parameters, uint64_t position,
           const TokenHistory& history, Pool& pool) {
  switch (sampler) {
    case Sampler::kPenalties:
      return pool.change(penalties(history, parameters));
    case Sampler::kDry:
      return pool.change(dry_penalties(history, parameters));
    case Sampler::kTopNSigma:
      return keep_top_n_sigma(pool, parameters.top_n_sigma);
    case Sampler::kTopK:
      return keep_top_k(pool, parameters.top_k);
    case Sampler::kTypicalP:
      return keep_typical(pool, parameters.typical_p);
    case Sampler::kTopP:
      return keep_top_p(pool, parameters.top_p);
    case Sampler::kMinP:
      return keep_min_p(pool, parameters.min_p);
    case Sampler::kXtc:
      if (uniform(parameters.seed, position, kXtcStream) < parameters.xtc_probability)
        exclude_top_choices(pool, parameters.xtc_threshold);
      return;
    case Sampler::kTemperature:
      return parameters.temperature == 0 ? pool.keep_best(1) : pool.scale(parameters.temperature);
  }
}

// A list longer than the vocabulary is no filter, and sorting a large vocabulary for nothing takes
// milliseconds. A short one is still listed, as candidates would be: the order of a draw differs.
bool is_filter(Sampler sampler, const SamplingParameters& parameters, size_t vocabulary) {
  constexpr int64_t kLongestList = 1024;
  return sampler != Sampler::kTopK || parameters.top_k < static_cast<int64_t>(vocabulary) ||
         parameters.top_k <= kLongestList;
}

int32_t choose(Pool pool, size_t vocabulary, const SamplingParameters& parameters,
               uint64_t position, const TokenHistory& history, std::vector<SamplerStage>& stages) {
  StageRecorder recorder(pool, parameters.sampler_trace, stages);
  if (!parameters.logit_bias.empty()) {
    pool.change(biases(parameters));
    recorder.record("logit_bias");
  }
  for (const Sampler sampler : parameters.samplers) {
    if (!parameters.active(sampler) || !is_filter(sampler, parameters, vocabulary)) continue;
    apply(sampler, parameters, position, history, pool);
    recorder.record(sampler_name(sampler));
  }
  const int32_t token = pool.draw(uniform(parameters.seed, position));
  recorder.drawn(token);
  return token;
}

void report(std::span<const ScoredToken> best, double all, const SamplingParameters& parameters,
            Sampled& sampled) {
  if (parameters.logprobs <= 0) return;
  const size_t count = std::min(best.size(), static_cast<size_t>(parameters.logprobs));
  sampled.alternatives.reserve(count);
  for (const ScoredToken& candidate : best.first(count)) {
    sampled.alternatives.emplace_back(candidate.token, candidate.logit - all);
  }
}

}  // namespace

Sampled sample(std::span<const float> logits, const SamplingParameters& parameters,
               uint64_t position, const TokenHistory& history) {
  SHOAL_CHECK(!logits.empty());
  Sampled sampled;
  sampled.token =
      choose(Pool(logits), logits.size(), parameters, position, history, sampled.stages);
  if (parameters.logprobs >= 0) {
    const double all = log_sum_exp(logits);
    sampled.logprob = logits[static_cast<size_t>(sampled.token)] - all;
    std::vector<ScoredToken> best;
    select_top(logits, 0, static_cast<size_t>(parameters.logprobs), best);
    report(best, all, parameters, sampled);
  }
  return sampled;
}

Sampled sample(std::span<const ScoredToken> candidates, double log_sum_exp,
               const SamplingParameters& parameters, uint64_t position,
               const TokenHistory& history) {
  SHOAL_CHECK(!candidates.empty());
  Sampled sampled;
  sampled.token =
      choose(Pool(candidates), candidates.size(), parameters, position, history, sampled.stages);
  for (const ScoredToken& candidate : candidates) {
    if (candidate.token == sampled.token) sampled.logprob = candidate.logit - log_sum_exp;
  }
  report(candidates, log_sum_exp, parameters, sampled);
  return sampled;
}

}  // namespace shoal
