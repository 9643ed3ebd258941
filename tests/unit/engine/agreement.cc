#include "agreement.h"

#include <algorithm>
#include <cmath>

#include "base/result.h"

namespace shoal {
namespace {

size_t best_of(const std::vector<float>& logits) {
  return static_cast<size_t>(std::ranges::max_element(logits) - logits.begin());
}

double log_sum_exp(const std::vector<float>& logits) {
  const double largest = std::ranges::max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

NextToken next_token(const std::vector<float>& judge, const std::vector<float>& plan) {
  SHOAL_CHECK(!judge.empty() && judge.size() == plan.size());
  const size_t best = best_of(judge), other = best_of(plan);
  const double judge_sum = log_sum_exp(judge), plan_sum = log_sum_exp(plan);
  const auto count = static_cast<double>(judge.size());
  double mean = 0;
  for (const float logit : judge) mean += logit / count;
  double variance = 0, difference = 0, divergence = 0;
  for (size_t i = 0; i < judge.size(); ++i) {
    const double apart = static_cast<double>(plan[i]) - judge[i];
    variance += (judge[i] - mean) * (judge[i] - mean) / count;
    difference += apart * apart / count;
    divergence += std::exp(judge[i] - judge_sum) * (plan_sum - judge_sum - apart);
  }
  return {.equal = best == other,
          .gap = static_cast<double>(judge[best]) - judge[other],
          .spread = std::sqrt(variance),
          .distance = std::sqrt(difference / variance),
          .divergence = divergence};
}

}  // namespace

std::vector<NextToken> next_tokens(const std::vector<std::vector<float>>& judge,
                                   const std::vector<std::vector<float>>& plan) {
  SHOAL_CHECK(judge.size() == plan.size());
  std::vector<NextToken> tokens;
  for (size_t i = 0; i < judge.size(); ++i) tokens.push_back(next_token(judge[i], plan[i]));
  return tokens;
}

double equal_share(const std::vector<NextToken>& tokens) {
  return static_cast<double>(std::ranges::count(tokens, true, &NextToken::equal)) /
         static_cast<double>(tokens.size());
}

double widest_gap(const std::vector<NextToken>& tokens) {
  double widest = 0;
  for (const NextToken& token : tokens) widest = std::max(widest, token.gap);
  return widest;
}

double mean_divergence(const std::vector<NextToken>& tokens) {
  double sum = 0;
  for (const NextToken& token : tokens) sum += token.divergence;
  return sum / static_cast<double>(tokens.size());
}

}  // namespace shoal
