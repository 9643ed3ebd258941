// What a request may ask of the sampler: parameters, their ranges, their JSON form. Pure values;
// any thread. The names are those of OpenAI's API and of llama.cpp's server, so that people's tools
// can send them as they are.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace shoal {

// In llama.cpp's default order.
enum class Sampler : uint8_t {
  kPenalties,
  kDry,
  kTopNSigma,
  kTopK,
  kTypicalP,
  kTopP,
  kMinP,
  kXtc,
  kTemperature
};
inline constexpr size_t kSamplerCount = 9;
std::string_view sampler_name(Sampler sampler);
std::vector<Sampler> default_samplers();

struct LogitBias {
  int32_t token;
  float bias;  // -inf: never this token
};

struct SamplingParameters {
  double temperature = 1;  // 0 is greedy
  int64_t top_k = 0;       // 0: all
  double top_p = 1;
  double min_p = 0;
  uint64_t seed = 0;
  int64_t logprobs = -1;  // how many alternatives to report; -1: none, 0: only the chosen token's

  double typical_p = 1;
  double top_n_sigma = -1;  // 0 and below: off
  double xtc_probability = 0;
  double xtc_threshold = 0.1;  // above 0.5: off, as no two tokens can be so likely
  double repeat_penalty = 1;
  double frequency_penalty = 0;
  double presence_penalty = 0;
  int64_t repeat_last_n = 64;  // the window of the three above; 0: off, -1: prompt and answer whole
  double dry_multiplier = 0;
  double dry_base = 1.75;
  int64_t dry_allowed_length = 2;
  int64_t dry_penalty_last_n = -1;  // as repeat_last_n
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};
  std::vector<LogitBias> logit_bias;  // added before every sampler; one entry per token
  std::vector<Sampler> samplers = default_samplers();  // their order; one not named is not applied
  int64_t sampler_trace = 0;  // how many of the best to report after each sampler; 0: no report

  bool active(Sampler sampler) const;  // named, and set to something that may change a token
  // How many of the best logits give the same token as all of them would; nothing: all are needed.
  std::optional<int64_t> candidates_needed() const;
  bool candidates_suffice(int64_t candidate_count) const;
};

// The fields that are plain numbers, for whoever reads or lists them (JSON, API, command line).
struct SamplingNumber {
  const char* name;
  double lowest;
  double highest;
  double SamplingParameters::* member;
  const char* help;
};
struct SamplingCount {
  const char* name;
  int64_t lowest;
  int64_t highest;
  int64_t SamplingParameters::* member;
  const char* help;
};
std::span<const SamplingNumber> sampling_numbers();
std::span<const SamplingCount> sampling_counts();

inline constexpr size_t kMostBiases = 1024;
inline constexpr float kHighestBias = 100;
inline constexpr size_t kMostSequenceBreakers = 64;
inline constexpr size_t kLongestSequenceBreakerBytes = 64;
inline constexpr int64_t kMostTraced = 20;

// Samplers by name, each at most once; llama.cpp's other spellings ("typical_p", "top-k", "temp")
// are known too. kInvalidArgument lists the names.
Result<std::vector<Sampler>> samplers_named(std::span<const std::string> names);

// What JSON and the API ask of these two besides their form; kInvalidArgument.
Status check_biases(std::span<const LogitBias> bias);  // number, range, each token once
Status check_sequence_breakers(std::span<const std::string> breakers);  // number, length

Json to_json(const SamplingParameters& parameters);
// kInvalidArgument naming the field and its range. Absent fields have their defaults; `seed`
// absent: `default_seed`; a negative one counts from 2^64.
Result<SamplingParameters> sampling_from_json(const Json& json, uint64_t default_seed);

}  // namespace shoal
