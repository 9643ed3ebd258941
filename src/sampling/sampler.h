// From logits or candidates to a token. Pure: a function of the row's values, the parameters, what
// was said so far and (seed, position), so a token depends on neither batch nor ranks. Any thread.
//
// First the bias is added; then the samplers run in the order of the parameters, each on what the
// one before left and at the temperature so far; then a token is drawn. Temperature 0 leaves the
// best token. Log probabilities are computed in double and are those of the model itself, before
// bias, penalties, filters and temperature.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sampling/history.h"
#include "sampling/log_sum_exp.h"
#include "sampling/parameters.h"
#include "sampling/top.h"

namespace shoal {

// What one sampler left, for people who doubt.
struct SamplerStage {
  struct Candidate {
    int32_t token;
    double before;  // probability; 0 when it was not among those left
    double after;
  };
  std::string name;             // "model", "logit_bias", a sampler's, "draw"
  int64_t kept = 0;             // how many may still be drawn
  std::vector<Candidate> best;  // the best few before and the best few after, likeliest after first
};

struct Sampled {
  int32_t token = 0;
  double logprob = 0;  // of the model's own distribution, before bias and samplers
  std::vector<std::pair<int32_t, double>> alternatives;  // falling log probability
  std::vector<SamplerStage> stages;  // with sampler_trace: the model, every active sampler, the draw
};

// From the whole vocabulary, at least one token. Ties go to the lower token. A logit that is not a
// number is never chosen unless all are such; the log probabilities are then not numbers either.
Sampled sample(std::span<const float> logits, const SamplingParameters& parameters,
               uint64_t position, const TokenHistory& history = {});
// From the best candidates (falling logit, then rising token; at least one) and the log-sum-exp of
// all logits. The same token as the above whenever candidates_suffice(candidates.size()).
Sampled sample(std::span<const ScoredToken> candidates, double log_sum_exp,
               const SamplingParameters& parameters, uint64_t position,
               const TokenHistory& history = {});

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
