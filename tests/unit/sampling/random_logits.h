#pragma once

#include <cmath>
#include <random>
#include <vector>

namespace shoal {

inline std::vector<float> random_logits(size_t count, uint32_t seed, float spread = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

}  // namespace shoal
