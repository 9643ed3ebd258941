#include "definition.h"

#include <algorithm>
#include <numeric>

namespace shoal::definition {
namespace {

using Tokens = std::vector<Token>;

void sort(Tokens& tokens) {
  std::ranges::sort(tokens, [](const Token& a, const Token& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
}

std::vector<long double> softmax(const Tokens& tokens) {
  long double highest = -INFINITY;
  for (const Token& token : tokens) highest = std::max(highest, token.logit);
  std::vector<long double> p;
  for (const Token& token : tokens) p.push_back(std::exp(token.logit - highest));
  const long double total = std::accumulate(p.begin(), p.end(), 0.0L);
  for (long double& value : p) value /= total;
  return p;
}

std::vector<int32_t> last(const std::vector<int32_t>& history, int64_t n) {
  if (n < 0 || static_cast<size_t>(n) >= history.size()) return history;
  return {history.end() - n, history.end()};
}

void penalise(Tokens& tokens, const SamplingParameters& p, const std::vector<int32_t>& history) {
  std::map<int32_t, int> counts;
  for (const int32_t token : last(history, p.repeat_last_n)) ++counts[token];
  for (Token& token : tokens) {
    const auto found = counts.find(token.id);
    if (found == counts.end()) continue;
    token.logit = token.logit > 0 ? token.logit / p.repeat_penalty : token.logit * p.repeat_penalty;
    token.logit -= found->second * p.frequency_penalty + p.presence_penalty;
  }
}

// Every earlier place, compared token by token.
void dry(Tokens& tokens, const SamplingParameters& p, const std::vector<int32_t>& history) {
  const auto recent = last(history, p.dry_penalty_last_n);
  std::map<int32_t, int64_t> longest;
  for (size_t next = 1; next < recent.size(); ++next) {
    size_t length = 0;
    while (length < next && recent[next - 1 - length] == recent[recent.size() - 1 - length])
      ++length;
    auto& most = longest[recent[next]];
    most = std::max(most, static_cast<int64_t>(length));
  }
  for (Token& token : tokens) {
    const auto found = longest.find(token.id);
    if (found == longest.end() || found->second < p.dry_allowed_length) continue;
    token.logit -= p.dry_multiplier *
                   std::pow(p.dry_base, static_cast<double>(found->second - p.dry_allowed_length));
  }
}

void keep_prefix_with_mass(Tokens& tokens, const std::vector<long double>& p, double mass) {
  long double cumulative = 0;
  size_t kept = 0;
  while (kept < tokens.size()) {
    cumulative += p[kept++];
    if (cumulative >= mass) break;
  }
  tokens.resize(kept);
}

void typical(Tokens& tokens, double mass) {
  const auto p = softmax(tokens);
  long double entropy = 0;
  for (const long double value : p) entropy -= value > 0 ? value * std::log(value) : 0;
  std::vector<size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {},
                           [&](size_t i) { return std::abs(-std::log(p[i]) - entropy); });
  Tokens sorted;
  std::vector<long double> sorted_p;
  for (const size_t i : order) {
    sorted.push_back(tokens[i]);
    sorted_p.push_back(p[i]);
  }
  keep_prefix_with_mass(sorted, sorted_p, mass);
  tokens = sorted;
}

void top_n_sigma(Tokens& tokens, double n) {
  long double mean = 0;
  long double variance = 0;
  const auto count = static_cast<long double>(tokens.size());
  for (const Token& token : tokens) mean += token.logit / count;
  for (const Token& token : tokens) variance += (token.logit - mean) * (token.logit - mean) / count;
  sort(tokens);
  const long double lowest = tokens[0].logit - n * std::sqrt(variance);
  std::erase_if(tokens, [&](const Token& token) { return token.logit < lowest; });
}

void apply(Sampler sampler, const SamplingParameters& p, const std::vector<int32_t>& history,
           bool xtc_happens, Tokens& tokens) {
  sort(tokens);
  switch (sampler) {
    case Sampler::kPenalties:
      return penalise(tokens, p, history);
    case Sampler::kDry:
      return dry(tokens, p, history);
    case Sampler::kTopNSigma:
      return top_n_sigma(tokens, p.top_n_sigma);
    case Sampler::kTopK:
      tokens.resize(std::min(tokens.size(), static_cast<size_t>(p.top_k)));
      return;
    case Sampler::kTypicalP:
      return typical(tokens, p.typical_p);
    case Sampler::kTopP:
      return keep_prefix_with_mass(tokens, softmax(tokens), p.top_p);
    case Sampler::kMinP: {
      const auto q = softmax(tokens);
      size_t kept = 1;
      while (kept < q.size() && q[kept] >= p.min_p * q[0]) ++kept;
      tokens.resize(kept);
      return;
    }
    case Sampler::kXtc: {
      const auto q = softmax(tokens);
      size_t choices = 0;
      while (choices < q.size() && q[choices] >= p.xtc_threshold) ++choices;
      if (xtc_happens && choices > 1)
        tokens.erase(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(choices - 1));
      return;
    }
    case Sampler::kTemperature:
      if (p.temperature == 0) tokens.resize(1);
      for (Token& token : tokens) token.logit /= p.temperature == 0 ? 1 : p.temperature;
      return;
  }
}

std::vector<double> chain(const std::vector<float>& logits, const SamplingParameters& parameters,
                          const std::vector<int32_t>& history, bool xtc_happens) {
  Tokens tokens;
  for (size_t i = 0; i < logits.size(); ++i) tokens.push_back({static_cast<int32_t>(i), logits[i]});
  for (const auto& [token, bias] : parameters.logit_bias)
    tokens[static_cast<size_t>(token)].logit += bias;
  for (const Sampler sampler : parameters.samplers) {
    if (parameters.active(sampler)) apply(sampler, parameters, history, xtc_happens, tokens);
  }
  const auto p = softmax(tokens);
  std::vector<double> result(logits.size(), 0);
  for (size_t i = 0; i < tokens.size(); ++i)
    result[static_cast<size_t>(tokens[i].id)] = static_cast<double>(p[i]);
  return result;
}

}  // namespace

std::vector<double> probabilities(const std::vector<float>& logits,
                                  const SamplingParameters& parameters,
                                  const std::vector<int32_t>& history) {
  auto result = chain(logits, parameters, history, false);
  if (!parameters.active(Sampler::kXtc)) return result;
  const auto with = chain(logits, parameters, history, true);
  for (size_t i = 0; i < result.size(); ++i)
    result[i] += parameters.xtc_probability * (with[i] - result[i]);
  return result;
}

}  // namespace shoal::definition
