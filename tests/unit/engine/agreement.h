// How far two plans' next tokens are from one another, over forced prefixes. Pure.
#pragma once

#include <vector>

namespace shoal {

// Of one prefix, by the judge's own numbers.
struct NextToken {
  bool equal = false;     // the same likeliest token
  double gap = 0;         // the judge's log probability of its likeliest above the other's, in nats
  double spread = 0;      // standard deviation of the judge's logits
  double distance = 0;    // root mean square of the logits' differences, in spreads
  double divergence = 0;  // Kullback-Leibler, from the judge's distribution to the plan's, in nats
};

// Logits by prefix.
std::vector<NextToken> next_tokens(const std::vector<std::vector<float>>& judge,
                                   const std::vector<std::vector<float>>& plan);
double equal_share(const std::vector<NextToken>& tokens);
double widest_gap(const std::vector<NextToken>& tokens);  // of those that differ; 0: none
double mean_divergence(const std::vector<NextToken>& tokens);

}  // namespace shoal
