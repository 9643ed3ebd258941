#include "supervise/worker_exit.h"

#include <signal.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/units.h"

namespace shoal {
namespace {

// What C++, Rust and our own code print when an allocation fails.
constexpr std::array<std::string_view, 4> kMemoryWords = {
    "bad_alloc", "memory allocation of", "Cannot allocate memory", "out of memory"};

bool died_for_memory(const ExitFacts& facts) {
  return std::ranges::any_of(facts.last_words, [](const std::string& line) {
    return std::ranges::any_of(
        kMemoryWords, [&](std::string_view word) { return line.find(word) != std::string::npos; });
  });
}

std::string last_line(const ExitFacts& facts) {
  if (facts.last_words.empty()) return "";
  return fmt::format("; its last words: {}", facts.last_words.back());
}

std::string limit_text(const ExitFacts& facts) {
  if (!facts.memory_limit_bytes) return "ran out of memory";
  return fmt::format("ran over its memory limit of {}", format_bytes(*facts.memory_limit_bytes));
}

// The statuses that `shoal` promises for its commands, read backwards.
ErrorCode code_of_status(int status) {
  switch (status) {
    case 2:
      return ErrorCode::kInvalidArgument;
    case 3:
      return ErrorCode::kNotFound;
    case 4:
      return ErrorCode::kDoesNotFit;
    case 5:
      return ErrorCode::kUnreachable;
    default:
      return ErrorCode::kInternal;
  }
}

Error why_signalled(const ExitFacts& facts) {
  const char* const abbreviation = ::sigabbrev_np(facts.signal);
  const std::string name = abbreviation != nullptr ? fmt::format("SIG{}", abbreviation)
                                                   : fmt::format("signal {}", facts.signal);
  switch (facts.signal) {
    case SIGKILL:
      if (facts.kernel_killed_for_memory) {
        return {ErrorCode::kDoesNotFit, "was killed by the kernel, which had run out of memory"};
      }
      return {ErrorCode::kUnreachable,
              "was killed (SIGKILL), by somebody or by the kernel for want of memory"};
    case SIGTERM:
    case SIGINT:
    case SIGHUP:
      return {ErrorCode::kUnreachable, fmt::format("was ended from outside ({})", name)};
    case SIGBUS:
      return {ErrorCode::kIo,
              "lost a file that it was reading (SIGBUS): the model file was cut short or its disk "
              "failed"};
    default:
      if (died_for_memory(facts)) return {ErrorCode::kDoesNotFit, limit_text(facts)};
      return {ErrorCode::kInternal, fmt::format("crashed ({}), a bug of Shoal", name)};
  }
}

Error why(const ExitFacts& facts) {
  if (facts.killed_because) return *facts.killed_because;
  if (!facts.known) return {ErrorCode::kInternal, "ended, and its exit status was lost"};
  if (facts.asked && facts.signal == 0) return {ErrorCode::kCancelled, "was stopped"};
  if (facts.signal != 0) return why_signalled(facts);
  if (facts.status == 0) return {ErrorCode::kInternal, "ended without being asked to"};
  if (died_for_memory(facts)) return {ErrorCode::kDoesNotFit, limit_text(facts)};
  return {code_of_status(facts.status), fmt::format("ended with exit status {}", facts.status)};
}

}  // namespace

WorkerExit classify_exit(ExitFacts facts) {
  const Error error = why(facts);
  WorkerExit end;
  end.code = error.code;
  end.reason = fmt::format("{} {}", facts.name, error.message);
  if (error.code != ErrorCode::kCancelled) end.reason += last_line(facts);
  end.signal = facts.signal;
  end.status = facts.status;
  end.asked = facts.asked;
  end.last_words = std::move(facts.last_words);
  return end;
}

}  // namespace shoal
