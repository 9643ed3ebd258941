// Which experts a row goes to. Pure; any thread.
#pragma once

#include <vector>

#include "tensor/program.h"

namespace shoal::kernels {

struct ChosenExpert {
  int expert;
  float weight;
};

// Memory to reuse.
struct RoutingScratch {
  std::vector<double> probabilities;
  std::vector<double> by;  // what experts are chosen by
  std::vector<double> weights;
  std::vector<int> order;
  std::vector<std::pair<double, int>> groups;  // rank and number
};

// `scores` of all experts, in floats; `bias` likewise, or null. Fills `chosen` with `routing.used`
// of them, the best first, of equal ones the lower first. Scores that are not numbers are never
// better.
void choose_experts(const Routing& routing, const float* scores, int64_t count, const float* bias,
                    RoutingScratch& scratch, std::vector<ChosenExpert>& chosen);

}  // namespace shoal::kernels
