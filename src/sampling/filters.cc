#include "sampling/filters.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace shoal {

namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

}  // namespace

void keep_top_k(Pool& pool, int64_t k) {
  pool.keep_best(static_cast<size_t>(std::max<int64_t>(1, k)));
}

void keep_top_p(Pool& pool, double p) {
  const double reach = p * pool.total();
  size_t kept = 0;
  pool.grow_best([&](std::span<const ScoredToken> best) {
    double cumulative = 0;
    for (kept = 0; kept < best.size();) {
      cumulative += pool.weight(best[kept++].logit, best[0].logit);
      if (cumulative >= reach) return false;
    }
    return true;
  });
  pool.keep_best(kept);
}

void keep_min_p(Pool& pool, double min_p) {
  pool.keep_from(pool.highest() + pool.temperature() * std::log(min_p));
}

void keep_top_n_sigma(Pool& pool, double n) {
  double count = 0;
  double sum = 0;
  pool.for_each([&](int32_t, float logit) {
    if (!std::isfinite(logit)) return;
    ++count;
    sum += logit;
  });
  if (count == 0) return;
  const double mean = sum / count;
  double squares = 0;
  pool.for_each([&](int32_t, float logit) {
    if (std::isfinite(logit)) squares += (logit - mean) * (logit - mean);
  });
  // Logits and their deviation scale alike, so the temperature so far does not matter.
  pool.keep_from(pool.highest() - n * std::sqrt(squares / count));
}

void keep_typical(Pool& pool, double p) {
  const float highest = pool.highest();
  const double total = pool.total();
  double entropy = 0;
  pool.for_each([&](int32_t, float logit) {
    const double weight = pool.weight(logit, highest);
    if (weight > 0) entropy -= weight * (logit - double{highest}) / pool.temperature();
  });
  entropy = entropy / total + std::log(total);

  // The most typical have the highest scores, so the best of the scores are what is kept.
  std::vector<ScoredToken> left;
  std::vector<float> scores;
  pool.for_each([&](int32_t token, float logit) {
    const double surprise = std::log(total) - (logit - double{highest}) / pool.temperature();
    left.push_back({token, logit});
    scores.push_back(logit > kImpossible ? static_cast<float>(-std::abs(surprise - entropy))
                                         : kImpossible);
  });
  if (left.empty()) return;        // nothing but impossible tokens
  std::vector<ScoredToken> order;  // `token` is an index of `left`
  size_t kept = 0;
  for (size_t count = 128;; count *= 4) {
    select_top(scores, 0, count, order);
    double cumulative = 0;
    for (kept = 0; kept < order.size() && (kept == 0 || cumulative < p * total);) {
      cumulative += pool.weight(left[static_cast<size_t>(order[kept++].token)].logit, highest);
    }
    if (kept < order.size() || order.size() == scores.size()) break;
  }
  std::vector<ScoredToken> tokens;
  for (const ScoredToken& one : std::span(order).first(kept))
    tokens.push_back(left[static_cast<size_t>(one.token)]);
  pool.keep(std::move(tokens));
}

void exclude_top_choices(Pool& pool, double threshold) {
  const float highest = pool.highest();
  const double least = threshold * pool.total();
  size_t choices = 0;
  pool.grow_best([&](std::span<const ScoredToken> best) {
    choices = 0;
    while (choices < best.size() && best[choices].logit > kImpossible &&
           pool.weight(best[choices].logit, highest) >= least) {
      ++choices;
    }
    return choices == best.size();
  });
  if (choices > 1) pool.remove_best(choices - 1);
}

}  // namespace shoal
