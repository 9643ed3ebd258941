#include "sampling/penalties.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace shoal {

namespace {

constexpr double kMostDryPenalty = 1e30;  // as good as impossible, and still a number

std::span<const int32_t> window(const TokenHistory& history, int64_t last_n) {
  const std::span<const int32_t> tokens = history.tokens();
  if (last_n < 0) return tokens;
  return tokens.last(std::min(tokens.size(), static_cast<size_t>(last_n)));
}

// matches[d]: how many tokens at the end of `tokens` are the same as those that end d tokens
// earlier (Gusfield's Z algorithm on the reversed tokens: linear, whatever the repetitions).
std::vector<size_t> matches_by_distance(std::span<const int32_t> tokens) {
  const size_t size = tokens.size();
  const auto reversed = [&](size_t i) { return tokens[size - 1 - i]; };
  std::vector<size_t> matches(size, 0);
  size_t left = 0;
  size_t right = 0;  // [left, right) is the known match that reaches furthest
  for (size_t i = 1; i < size; ++i) {
    size_t length = i < right ? std::min(right - i, matches[i - left]) : 0;
    while (i + length < size && reversed(length) == reversed(i + length)) ++length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
    matches[i] = length;
  }
  return matches;
}

}  // namespace

std::vector<LogitChange> biases(const SamplingParameters& parameters) {
  std::vector<LogitChange> changes;
  changes.reserve(parameters.logit_bias.size());
  for (const LogitBias& entry : parameters.logit_bias)
    changes.push_back({.token = entry.token, .subtrahend = -double{entry.bias}});
  std::ranges::sort(changes, {}, &LogitChange::token);
  return changes;
}

std::vector<LogitChange> penalties(const TokenHistory& history,
                                   const SamplingParameters& parameters) {
  const std::span<const int32_t> recent = window(history, parameters.repeat_last_n);
  std::vector<int32_t> sorted(recent.begin(), recent.end());
  std::ranges::sort(sorted);
  std::vector<LogitChange> changes;
  for (size_t i = 0; i < sorted.size();) {
    size_t end = i;
    while (end < sorted.size() && sorted[end] == sorted[i]) ++end;
    changes.push_back({.token = sorted[i],
                       .divisor = parameters.repeat_penalty,
                       .subtrahend = parameters.frequency_penalty * static_cast<double>(end - i) +
                                     parameters.presence_penalty});
    i = end;
  }
  return changes;
}

std::vector<LogitChange> dry_penalties(const TokenHistory& history,
                                       const SamplingParameters& parameters) {
  const std::span<const int32_t> recent = window(history, parameters.dry_penalty_last_n);
  const size_t before = history.tokens().size() - recent.size();
  const auto allowed = static_cast<size_t>(parameters.dry_allowed_length);
  const size_t longest = std::min(recent.size(), history.since_breaker());
  std::vector<LogitChange> changes;
  if (recent.size() < 2 || longest < allowed) return changes;
  const std::vector<size_t> matches = matches_by_distance(recent);
  std::map<int32_t, size_t> repeated;  // the next token -> the longest repetition it would lengthen
  for (size_t distance = 1; distance < recent.size(); ++distance) {
    const size_t length = std::min(matches[distance], longest);
    if (length < allowed) continue;
    const size_t next = recent.size() - distance;  // what followed the earlier occurrence
    if (history.holds_breaker(before + next)) continue;
    size_t& most = repeated[recent[next]];
    most = std::max(most, length);
  }
  for (const auto& [token, length] : repeated) {
    const double penalty = parameters.dry_multiplier *
                           std::pow(parameters.dry_base, static_cast<double>(length - allowed));
    changes.push_back({.token = token, .subtrahend = std::min(penalty, kMostDryPenalty)});
  }
  return changes;
}

}  // namespace shoal
