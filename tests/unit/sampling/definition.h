// The samplers straight from their definitions: full sorts, long double, no shortcuts. Shares
// nothing with the product but the parameters.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "sampling/parameters.h"

namespace shoal::definition {

struct Token {
  int32_t id;
  long double logit;  // divided by the temperature so far
};

// Probability of every token (by id) to be drawn. `history`: prompt and answer so far. DRY without
// breakers.
std::vector<double> probabilities(const std::vector<float>& logits,
                                  const SamplingParameters& parameters,
                                  const std::vector<int32_t>& history = {});

}  // namespace shoal::definition
