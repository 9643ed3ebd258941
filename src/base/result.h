// Result and Error: how everything that outside input can make fail is reported.
// Any thread. An Error is a value; the first function that decides it writes the sentence, callers
// pass it on.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace shoal {

enum class ErrorCode {
  kInvalidArgument,  // a flag, a field, a request that cannot be meant
  kNotFound,
  kDoesNotFit,     // memory; the sentence has the numbers
  kContextLength,  // a prompt longer than the context
  kUnreachable,    // no daemon, no peer, a lost connection
  kDeadline,       // no answer in time
  kCancelled,      // by the user or by a client that left
  kCorrupt,        // a file or a message that contradicts itself or its checksum
  kUnsupported,    // well formed, but not something Shoal can do
  kPermission,     // a stranger, a foreign origin, a missing key
  kConflict,       // already there, in use, an older generation
  kTooLarge,       // a body or a message over its limit
  kBusy,           // try again later
  kStorageFull,
  kIo,        // the operating system refused
  kInternal,  // our own bug, survived
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // a sentence: what is wrong, with values, and what to do

  // The same error seen from further out: "context: message".
  Error within(std::string_view context) const {
    return {code, fmt::format("{}: {}", context, message)};
  }
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// The one table from codes to names ("not_found"), HTTP statuses and exit codes.
std::string_view error_name(ErrorCode code);
ErrorCode error_code_named(std::string_view name);  // kInternal for a name it does not know
int http_status(ErrorCode code);
int exit_code(ErrorCode code);

namespace internal {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

}  // namespace shoal

// Our own bug: never reached by bytes from outside.
#define SHOAL_CHECK(condition) \
  ((condition) ? void() : ::shoal::internal::check_failed(#condition, __FILE__, __LINE__))

#define SHOAL_CONCAT_INNER(a, b) a##b
#define SHOAL_CONCAT(a, b) SHOAL_CONCAT_INNER(a, b)

// SHOAL_TRY(status_expression); returns its error from the calling function.
#define SHOAL_TRY(expression)                                  \
  do {                                                         \
    if (auto shoal_status = (expression); !shoal_status)       \
      return std::unexpected(std::move(shoal_status).error()); \
  } while (false)

// SHOAL_ASSIGN(auto value, result_expression); returns the error or declares the value.
#define SHOAL_ASSIGN(declaration, expression) \
  SHOAL_ASSIGN_INNER(SHOAL_CONCAT(shoal_result_, __LINE__), declaration, expression)
#define SHOAL_ASSIGN_INNER(temporary, declaration, expression)          \
  auto temporary = (expression);                                        \
  if (!temporary) return std::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)
