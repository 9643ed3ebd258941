#include "sampling/parameters.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace shoal {

namespace {

constexpr std::array<std::string_view, kSamplerCount> kNames = {
    "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"};

constexpr std::array kNumbers = {
    SamplingNumber{"temperature", 0, 100, &SamplingParameters::temperature,
                   "Flatter above 1, sharper below; 0 is greedy"},
    SamplingNumber{"top_p", 0, 1, &SamplingParameters::top_p,
                   "Sample from the likeliest that make up this probability"},
    SamplingNumber{"min_p", 0, 1, &SamplingParameters::min_p,
                   "Sample from those at least so likely, relative to the best"},
    SamplingNumber{"typical_p", 0, 1, &SamplingParameters::typical_p,
                   "Sample from the most typical that make up this probability"},
    SamplingNumber{"top_n_sigma", -1, 100, &SamplingParameters::top_n_sigma,
                   "Sample from logits within so many standard deviations of the best"},
    SamplingNumber{"xtc_probability", 0, 1, &SamplingParameters::xtc_probability,
                   "How often XTC leaves out the likeliest"},
    SamplingNumber{"xtc_threshold", 0, 1, &SamplingParameters::xtc_threshold,
                   "How likely a token must be for XTC to leave out those above it"},
    SamplingNumber{"repeat_penalty", 0.01, 100, &SamplingParameters::repeat_penalty,
                   "Divides logits of tokens that occurred (1: off)"},
    SamplingNumber{"frequency_penalty", -2, 2, &SamplingParameters::frequency_penalty,
                   "Taken from a logit for each time its token occurred"},
    SamplingNumber{"presence_penalty", -2, 2, &SamplingParameters::presence_penalty,
                   "Taken once from logits of tokens that occurred"},
    SamplingNumber{"dry_multiplier", 0, 100, &SamplingParameters::dry_multiplier,
                   "Strength of DRY, which penalises repeated sequences (0: off)"},
    SamplingNumber{"dry_base", 1, 100, &SamplingParameters::dry_base,
                   "How fast DRY grows with the length of a repetition"},
};

constexpr std::array kCounts = {
    SamplingCount{"top_k", 0, INT32_MAX, &SamplingParameters::top_k,
                  "Sample from the k likeliest (0: all)"},
    SamplingCount{"repeat_last_n", -1, INT32_MAX, &SamplingParameters::repeat_last_n,
                  "Tokens that the penalties look back over (-1: all, 0: none)"},
    SamplingCount{"dry_allowed_length", 1, INT32_MAX, &SamplingParameters::dry_allowed_length,
                  "Repetitions shorter than this are free"},
    SamplingCount{"dry_penalty_last_n", -1, INT32_MAX, &SamplingParameters::dry_penalty_last_n,
                  "Tokens that DRY looks back over (-1: all, 0: none)"},
};

std::string list_of_names() {
  std::string list;
  for (const std::string_view name : kNames)
    list += fmt::format("{}{}", list.empty() ? "" : ", ", name);
  return list;
}

std::optional<Sampler> sampler_named(std::string name) {
  std::ranges::replace(name, '-', '_');
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kOthers = {
      {{"typical_p", "typ_p"},
       {"typical", "typ_p"},
       {"typ", "typ_p"},
       {"nucleus", "top_p"},
       {"temp", "temperature"}}};
  for (const auto& [other, usual] : kOthers) {
    if (name == other) name = usual;
  }
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Sampler>(found - kNames.begin());
}

}  // namespace

std::string_view sampler_name(Sampler sampler) {
  return kNames[static_cast<size_t>(sampler)];
}

std::vector<Sampler> default_samplers() {
  std::vector<Sampler> all;
  for (size_t i = 0; i < kSamplerCount; ++i) all.push_back(static_cast<Sampler>(i));
  return all;
}

std::span<const SamplingNumber> sampling_numbers() {
  return kNumbers;
}

std::span<const SamplingCount> sampling_counts() {
  return kCounts;
}

Result<std::vector<Sampler>> samplers_named(std::span<const std::string> names) {
  std::vector<Sampler> samplers;
  for (const std::string& name : names) {
    const std::optional<Sampler> sampler = sampler_named(name);
    if (!sampler) {
      return fail(ErrorCode::kInvalidArgument, "'samplers' holds '{}'; known are {}", name,
                  list_of_names());
    }
    if (std::ranges::find(samplers, *sampler) != samplers.end()) {
      return fail(ErrorCode::kInvalidArgument, "'samplers' names '{}' twice",
                  sampler_name(*sampler));
    }
    samplers.push_back(*sampler);
  }
  return samplers;
}

Status check_biases(std::span<const LogitBias> bias) {
  if (bias.size() > kMostBiases) {
    return fail(ErrorCode::kInvalidArgument,
                "'logit_bias' holds {} tokens, at most {} are possible", bias.size(), kMostBiases);
  }
  std::set<int32_t> seen;
  for (const auto& [token, value] : bias) {
    if (!(std::isinf(value) && value < 0) && !(std::abs(value) <= kHighestBias)) {
      return fail(ErrorCode::kInvalidArgument,
                  "'logit_bias' of the token {} must be from {} to {}, not {}", token,
                  -kHighestBias, kHighestBias, value);
    }
    if (!seen.insert(token).second) {
      return fail(ErrorCode::kInvalidArgument, "'logit_bias' names the token {} twice", token);
    }
  }
  return {};
}

Status check_sequence_breakers(std::span<const std::string> breakers) {
  if (breakers.size() > kMostSequenceBreakers) {
    return fail(ErrorCode::kInvalidArgument,
                "'dry_sequence_breakers' holds {} strings, at most {} are possible",
                breakers.size(), kMostSequenceBreakers);
  }
  for (const std::string& breaker : breakers) {
    if (breaker.empty() || breaker.size() > kLongestSequenceBreakerBytes) {
      return fail(ErrorCode::kInvalidArgument,
                  "'dry_sequence_breakers' must hold strings of 1 to {} bytes, not of {}",
                  kLongestSequenceBreakerBytes, breaker.size());
    }
  }
  return {};
}

bool SamplingParameters::active(Sampler sampler) const {
  if (std::ranges::find(samplers, sampler) == samplers.end()) return false;
  switch (sampler) {
    case Sampler::kPenalties:
      return repeat_last_n != 0 &&
             (repeat_penalty != 1 || frequency_penalty != 0 || presence_penalty != 0);
    case Sampler::kDry:
      return dry_multiplier > 0 && dry_penalty_last_n != 0;
    case Sampler::kTopNSigma:
      return top_n_sigma > 0;
    case Sampler::kTopK:
      return top_k > 0;
    case Sampler::kTypicalP:
      return typical_p < 1;
    case Sampler::kTopP:
      return top_p < 1;
    case Sampler::kMinP:
      return min_p > 0;
    case Sampler::kXtc:
      return xtc_probability > 0 && xtc_threshold <= 0.5;
    case Sampler::kTemperature:
      return temperature != 1;
  }
  return false;
}

// Let m tokens be changed, none of them upwards. Then the best k afterwards are among the best k +
// m before: were one of them not, at least k + m tokens would be better than it before; at most m
// of those are lowered, so k others stay better, and its own logit did not rise. Hence bias and
// penalties are served by k + m candidates if they only lower and m is known beforehand, which for
// DRY it is not.
//
// Top-k and min-p (which compares with the best alone) decide on each candidate as they would on
// the whole vocabulary. After top-k nothing but candidates is left, so everything is exact. Before
// it, what is cut by a sum over the vocabulary (top-p, top-n-sigma, typical-p, XTC), or not cut at
// all, needs the vocabulary; but top-p and top-n-sigma never cut the best, so a temperature of 0
// may follow them. Log probabilities are the model's own: their alternatives are the best before
// any change.
std::optional<int64_t> SamplingParameters::candidates_needed() const {
  if (sampler_trace > 0) return std::nullopt;
  int64_t lowered = 0;
  for (const LogitBias& entry : logit_bias) {
    if (entry.bias > 0) return std::nullopt;
    ++lowered;
  }
  const auto at_least = [this](int64_t count) { return std::max({count, logprobs, int64_t{1}}); };
  int64_t k = 0;                 // what top-k has left
  bool cut_by_sum = false;       // before top-k
  bool best_may_change = false;  // after top-k
  for (const Sampler sampler : samplers) {
    if (!active(sampler)) continue;
    const bool exact = k > 0 && !cut_by_sum;
    switch (sampler) {
      case Sampler::kPenalties:
        if (exact) {
          best_may_change = true;
        } else if (cut_by_sum || repeat_last_n < 0 || repeat_penalty < 1 || frequency_penalty < 0 ||
                   presence_penalty < 0) {
          return std::nullopt;
        } else {
          lowered += repeat_last_n;
        }
        break;
      case Sampler::kDry:
      case Sampler::kTypicalP:
      case Sampler::kXtc:
        if (!exact) return std::nullopt;
        best_may_change = true;
        break;
      case Sampler::kTopNSigma:
      case Sampler::kTopP:
        if (!exact) cut_by_sum = true;
        break;
      case Sampler::kTopK:
        k = top_k;
        break;
      case Sampler::kMinP:
        break;
      case Sampler::kTemperature:
        if (temperature == 0) return at_least((best_may_change ? k : 1) + lowered);
        break;
    }
  }
  if (k == 0 || cut_by_sum) return std::nullopt;
  return at_least(k + lowered);
}

bool SamplingParameters::candidates_suffice(int64_t candidate_count) const {
  const std::optional<int64_t> needed = candidates_needed();
  return needed && *needed <= candidate_count;
}

}  // namespace shoal
