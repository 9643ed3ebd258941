#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace shoal {

namespace {

constexpr size_t kBlock = 512;  // tokens whose weights are summed together when all may be drawn

float usable(float logit) {
  if (logit != logit) return -std::numeric_limits<float>::infinity();
  return std::min(logit, std::numeric_limits<float>::max());
}

double log_of_min_p(double min_p) {
  return min_p > 0 ? std::log(min_p) : -std::numeric_limits<double>::infinity();
}

// How many of the best-first candidates top-p keeps, given the sum of exp(logit - best logit) that
// counts as 1. When even all of them stay below top_p: all.
size_t top_p_count(std::span<const ScoredToken> sorted, double top_p, double total) {
  const double best = sorted[0].logit;
  double cumulative = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    cumulative += std::exp(sorted[i].logit - best);
    if (cumulative >= top_p * total) return i + 1;
  }
  return sorted.size();
}

size_t min_p_count(std::span<const ScoredToken> sorted, double min_p) {
  const double lowest = sorted[0].logit + log_of_min_p(min_p);
  size_t count = 1;
  while (count < sorted.size() && sorted[count].logit >= lowest) ++count;
  return count;
}

// One of the best-first candidates, all of which passed the filters.
int32_t draw(std::span<const ScoredToken> sorted, double temperature, double random) {
  const double best = sorted[0].logit;
  const auto weight = [&](const ScoredToken& candidate) {
    const double w = std::exp((candidate.logit - best) / temperature);
    return w == w ? w : 0;  // -inf - -inf: nothing was possible
  };
  double total = 0;
  for (const ScoredToken& candidate : sorted) total += weight(candidate);
  double cumulative = 0;
  for (const ScoredToken& candidate : sorted) {
    cumulative += weight(candidate);
    if (cumulative > random * total) return candidate.token;
  }
  return sorted[0].token;
}

// The filters and the draw where the candidates are all there is: after top-k.
int32_t choose_among(std::span<const ScoredToken> sorted, const SamplingParameters& parameters,
                     double random) {
  if (parameters.top_p < 1) {
    double total = 0;
    for (const ScoredToken& candidate : sorted) {
      total += std::exp(static_cast<double>(candidate.logit) - sorted[0].logit);
    }
    sorted = sorted.first(top_p_count(sorted, parameters.top_p, total));
  }
  sorted = sorted.first(min_p_count(sorted, parameters.min_p));
  return draw(sorted, parameters.temperature, random);
}

// Top-p over the whole vocabulary: the best few are sorted, twice as many each time until they hold
// enough.
int32_t choose_by_top_p(std::span<const float> logits, const SamplingParameters& parameters,
                        double random) {
  const double total = sum_exp(logits).sum;
  std::vector<ScoredToken> sorted;
  for (size_t count = 128;; count *= 4) {
    select_top(logits, 0, count, sorted);
    const size_t kept = top_p_count(sorted, parameters.top_p, total);
    if (kept == sorted.size() && sorted.size() < logits.size()) continue;
    const auto nucleus = std::span<const ScoredToken>(sorted).first(kept);
    return draw(nucleus.first(min_p_count(nucleus, parameters.min_p)), parameters.temperature,
                random);
  }
}

// Every token may be drawn, but for those that min-p forbids: in token order, no sorting. The
// weights of a block are summed first; then only those of the block in which the draw falls are
// computed again.
int32_t choose_among_all(std::span<const float> logits, float best,
                         const SamplingParameters& parameters, double random) {
  const double lowest = best + log_of_min_p(parameters.min_p);
  const double scale = 1 / parameters.temperature;
  const auto weight = [&](float logit) {
    return logit >= lowest && !std::isinf(logit) ? std::exp((logit - double{best}) * scale) : 0.0;
  };
  std::vector<double> sums;
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    double sum = 0;
    for (const float logit : logits.subspan(begin, std::min(kBlock, logits.size() - begin))) {
      sum += weight(logit);
    }
    sums.push_back(sum);
    total += sum;
  }
  // Rounding may leave the target just above all that the sums reach: then it is the last token
  // that can be.
  double left = random * total;
  size_t block = 0;
  while (block + 1 < sums.size() && left >= sums[block]) left -= sums[block++];
  while (block > 0 && sums[block] == 0) --block;
  int32_t chosen = 0;
  double cumulative = 0;
  for (size_t i = block * kBlock; i < std::min((block + 1) * kBlock, logits.size()); ++i) {
    const double w = weight(logits[i]);
    if (w == 0) continue;
    chosen = static_cast<int32_t>(i);
    cumulative += w;
    if (cumulative > left) break;
  }
  return chosen;
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

bool SamplingParameters::candidates_suffice(int64_t candidate_count) const {
  if (candidate_count < std::max<int64_t>(1, logprobs)) return false;
  return temperature == 0 || (top_k > 0 && top_k <= candidate_count);
}

Sampled sample(std::span<const float> logits, const SamplingParameters& parameters,
               uint64_t position) {
  SHOAL_CHECK(!logits.empty());
  Sampled sampled;
  const double random = uniform(parameters.seed, position);
  const auto vocabulary = static_cast<int64_t>(logits.size());
  std::vector<ScoredToken> best;
  const bool by_top_k = parameters.top_k > 0 && parameters.top_k < vocabulary;
  int64_t sorted_count = std::max<int64_t>(1, parameters.logprobs);
  if (parameters.temperature > 0 && by_top_k) {
    sorted_count = std::max(sorted_count, parameters.top_k);
  }
  select_top(logits, 0, static_cast<size_t>(sorted_count), best);
  const std::span<const ScoredToken> sorted(best);
  if (parameters.temperature == 0) {
    sampled.token = sorted[0].token;
  } else if (by_top_k) {
    sampled.token =
        choose_among(sorted.first(static_cast<size_t>(parameters.top_k)), parameters, random);
  } else if (parameters.top_p < 1) {
    sampled.token = choose_by_top_p(logits, parameters, random);
  } else {
    sampled.token = choose_among_all(logits, usable(sorted[0].logit), parameters, random);
  }
  if (parameters.logprobs >= 0) {
    const double all = log_sum_exp(logits);
    sampled.logprob = logits[static_cast<size_t>(sampled.token)] - all;
    report(sorted, all, parameters, sampled);
  }
  return sampled;
}

Sampled sample(std::span<const ScoredToken> candidates, double log_sum_exp,
               const SamplingParameters& parameters, uint64_t position) {
  SHOAL_CHECK(!candidates.empty());
  Sampled sampled;
  sampled.token = candidates[0].token;
  if (parameters.temperature > 0) {
    auto sorted = candidates;
    if (parameters.top_k > 0 && static_cast<size_t>(parameters.top_k) < sorted.size()) {
      sorted = sorted.first(static_cast<size_t>(parameters.top_k));
    }
    sampled.token = choose_among(sorted, parameters, uniform(parameters.seed, position));
  }
  for (const ScoredToken& candidate : candidates) {
    if (candidate.token == sampled.token) sampled.logprob = candidate.logit - log_sum_exp;
  }
  report(candidates, log_sum_exp, parameters, sampled);
  return sampled;
}

}  // namespace shoal
