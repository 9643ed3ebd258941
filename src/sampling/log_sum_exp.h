// log(sum(exp(x))) in double, in pieces: each rank sums its rows of the vocabulary against its own
// maximum and the lead adds them. Pure; any thread; the same bits for the same input on every
// machine that rounds as IEEE 754 says.
#pragma once

#include <span>

namespace shoal {

// exp(maximum) * sum is the sum of exp over the values seen. No values: {-inf, 0}. A value that is
// not a number makes the sum one that is not a number.
struct PartialSumExp {
  float maximum;
  double sum;
};

PartialSumExp sum_exp(std::span<const float> values);
double log_sum_exp(std::span<const PartialSumExp> parts);  // added in the order given
double log_sum_exp(std::span<const float> logits);

}  // namespace shoal
