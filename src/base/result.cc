#include "base/result.h"

#include <array>
#include <cstdio>
#include <cstdlib>

namespace shoal {
namespace {

struct CodeRow {
  ErrorCode code;
  std::string_view name;
  int http;
  int exit;
};

constexpr std::array kCodes = {
    CodeRow{ErrorCode::kInvalidArgument, "invalid_argument", 400, 2},
    CodeRow{ErrorCode::kNotFound, "not_found", 404, 3},
    CodeRow{ErrorCode::kDoesNotFit, "does_not_fit", 507, 4},
    CodeRow{ErrorCode::kContextLength, "context_length_exceeded", 400, 1},
    CodeRow{ErrorCode::kUnreachable, "unreachable", 503, 5},
    CodeRow{ErrorCode::kDeadline, "deadline_exceeded", 504, 1},
    CodeRow{ErrorCode::kCancelled, "cancelled", 499, 130},
    CodeRow{ErrorCode::kCorrupt, "corrupt", 422, 1},
    CodeRow{ErrorCode::kUnsupported, "unsupported", 400, 1},
    CodeRow{ErrorCode::kPermission, "permission_denied", 403, 1},
    CodeRow{ErrorCode::kConflict, "conflict", 409, 1},
    CodeRow{ErrorCode::kTooLarge, "too_large", 413, 1},
    CodeRow{ErrorCode::kBusy, "busy", 429, 1},
    CodeRow{ErrorCode::kStorageFull, "storage_full", 507, 1},
    CodeRow{ErrorCode::kIo, "io_error", 500, 1},
    CodeRow{ErrorCode::kInternal, "internal", 500, 1},
};

const CodeRow& row(ErrorCode code) {
  for (const CodeRow& entry : kCodes) {
    if (entry.code == code) return entry;
  }
  return kCodes.back();
}

}  // namespace

std::string_view error_name(ErrorCode code) {
  return row(code).name;
}
int http_status(ErrorCode code) {
  return row(code).http;
}
int exit_code(ErrorCode code) {
  return row(code).exit;
}

ErrorCode error_code_named(std::string_view name) {
  for (const CodeRow& entry : kCodes) {
    if (entry.name == name) return entry.code;
  }
  return ErrorCode::kInternal;
}

namespace internal {
void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "shoal: bug: %s does not hold (%s:%d)\n", condition, file, line);
  std::abort();
}
}  // namespace internal

}  // namespace shoal
