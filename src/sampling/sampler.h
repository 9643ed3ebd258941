// From logits or candidates to a token. Pure: a function of the row's values, the parameters and
// (seed, position), so a token depends on neither batch nor ranks. Any thread.
//
// The filters come in llama.cpp's default order: top-k, then top-p, then min-p, each on what the
// one before left and at temperature 1, then the temperature, then the draw. Temperature 0 takes
// the best token whatever the filters. Log probabilities are computed in double and are those of
// the model, before temperature and filters.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "sampling/log_sum_exp.h"
#include "sampling/top.h"

namespace shoal {

struct SamplingParameters {
  double temperature = 1;  // 0 is greedy
  int64_t top_k = 0;       // 0: all
  double top_p = 1;
  double min_p = 0;
  uint64_t seed = 0;
  int64_t logprobs = -1;  // how many alternatives to report; -1: none, 0: only the chosen token's

  // Greedy and top-k need no more than the best few logits; top-p and min-p over everything need
  // them all.
  bool candidates_suffice(int64_t candidate_count) const;
};
Json to_json(const SamplingParameters& parameters);
// kInvalidArgument naming the field and its range. `seed` absent: `default_seed`; a negative one
// counts from 2^64.
Result<SamplingParameters> sampling_from_json(const Json& json, uint64_t default_seed);

struct Sampled {
  int32_t token = 0;
  double logprob = 0;  // of the model's own distribution, before temperature and filters
  std::vector<std::pair<int32_t, double>> alternatives;  // falling log probability
};

// From the whole vocabulary, at least one token. Ties go to the lower token. A logit that is not a
// number is never chosen unless all are such; the log probabilities are then not numbers either.
Sampled sample(std::span<const float> logits, const SamplingParameters& parameters,
               uint64_t position);
// From the best candidates (falling logit, then rising token; at least one) and the log-sum-exp of
// all logits. The same token as the above whenever candidates_suffice(candidates.size()).
Sampled sample(std::span<const ScoredToken> candidates, double log_sum_exp,
               const SamplingParameters& parameters, uint64_t position);

// Cuts a text that grows at the stop string that is complete first, holding back what may still
// become one.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);
  // Appends text; returns what can safely be shown now. After stopped() nothing more is returned.
  std::string add(std::string_view text);
  std::string finish();  // what was held back, when generation ended otherwise
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace shoal
