// The part of a tensor that a rank holds. Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace shoal {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;  // exclusive
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// Rows and columns kept, in order, as ranges of the whole tensor; an empty list keeps all. A fused
// tensor has several row ranges. Column ranges begin and end on multiples of 32, or at the tensor's
// end.
struct Cut {
  std::vector<Range> rows;
  std::vector<Range> columns;
  bool operator==(const Cut&) const = default;
};

inline int64_t kept(const std::vector<Range>& ranges, int64_t all) {
  if (ranges.empty()) return all;
  int64_t count = 0;
  for (const Range& range : ranges) count += range.size();
  return count;
}

}  // namespace shoal
