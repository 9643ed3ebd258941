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

// out[i] = exp((values[i] - maximum) * scale), where no value is above the maximum and scale is
// positive. Below exp(-700) it gives exp(-700), and so for a value that is not a number.
void exp_differences(std::span<const float> values, float maximum, double scale,
                     std::span<double> out);

}  // namespace shoal
