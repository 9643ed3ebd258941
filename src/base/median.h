// The middle of several measurements. Pure; any thread.
#pragma once

#include <algorithm>
#include <vector>

namespace shoal {

// Of an even number of values the mean of the two in the middle; there must be one at least.
inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace shoal
