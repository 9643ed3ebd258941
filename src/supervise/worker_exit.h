// Why a worker ended, in a sentence. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace shoal {

struct WorkerExit {
  ErrorCode code = ErrorCode::kInternal;
  std::string reason;                   // a sentence for people
  int signal = 0;                       // that ended it, or 0
  int status = 0;                       // its exit status when it ended by itself
  bool asked = false;                   // stop() was called, so that nobody need be told
  std::vector<std::string> last_words;  // the last lines that it printed
};

// What is known when a process has been reaped.
struct ExitFacts {
  std::string name;   // "worker of rank 1"
  bool known = true;  // false: somebody else reaped it
  int signal = 0;
  int status = 0;
  bool asked = false;                     // by stop()
  bool kernel_killed_for_memory = false;  // some process of this machine, while the worker ran
  std::optional<uint64_t> memory_limit_bytes;
  std::optional<Error> killed_because;  // the daemon's own reason to kill it
  std::vector<std::string> last_words;
};

WorkerExit classify_exit(ExitFacts facts);

}  // namespace shoal
