#include "kernels/column_plan.h"

#include <algorithm>

namespace shoal::kernels {
namespace {

Status check_range(const Range& range, int64_t all, const char* what) {
  if (range.begin >= 0 && range.begin < range.end && range.end <= all) return {};
  return fail(ErrorCode::kInvalidArgument, "a cut keeps {} {} to {} of a tensor that has {}", what,
              range.begin, range.end, all);
}

// Adjacent ranges become one, so that a cut written in two ways is packed in one.
std::vector<Range> joined(const std::vector<Range>& ranges, int64_t all) {
  if (ranges.empty()) return {{0, all}};
  std::vector<Range> result;
  for (const Range& range : ranges) {
    if (!result.empty() && result.back().end == range.begin) {
      result.back().end = range.end;
    } else {
      result.push_back(range);
    }
  }
  return result;
}

}  // namespace

Result<std::vector<ColumnPiece>> plan_columns(ElementType type, int64_t columns,
                                              const std::vector<Range>& ranges) {
  const bool quantised = element_traits(type).block_elements > 1;
  for (const Range& range : ranges) {
    SHOAL_TRY(check_range(range, columns, "columns"));
    if (quantised && (range.begin % kSubBlock != 0 || range.end % kSubBlock != 0)) {
      return fail(ErrorCode::kInvalidArgument,
                  "a cut keeps columns {} to {}; those of {} tensors are cut at multiples of {}",
                  range.begin, range.end, element_traits(type).name, kSubBlock);
    }
  }
  std::vector<ColumnPiece> pieces;
  int64_t kept_so_far = 0;
  for (const Range& range : joined(ranges, columns)) {
    for (int64_t column = range.begin; column < range.end;) {
      const int64_t border = (column / kPieceColumns + 1) * kPieceColumns;
      const int64_t count = std::min(border, range.end) - column;
      pieces.push_back({column, kept_so_far, count});
      kept_so_far += count;
      column += count;
    }
  }
  return pieces;
}

Result<std::vector<Range>> plan_rows(int64_t rows, const std::vector<Range>& ranges) {
  for (const Range& range : ranges) SHOAL_TRY(check_range(range, rows, "rows"));
  return joined(ranges, rows);
}

}  // namespace shoal::kernels
