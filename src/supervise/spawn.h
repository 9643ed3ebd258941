// Starting a worker's process. Private to this module. Called on the loop's thread, which must
// outlive the workers: the kernel ends a worker when the *thread* that started it ends.
#pragma once

#include <sys/types.h>

#include "base/file.h"
#include "base/result.h"
#include "supervise/worker_process.h"

namespace shoal {

struct SpawnedWorker {
  pid_t pid = -1;
  UniqueFd process;  // a pidfd: readable when the process has ended
  UniqueFd channel;  // our end, non-blocking
  UniqueFd output;   // what it prints, non-blocking
};

// Returns once the program runs, or says why it does not.
Result<SpawnedWorker> spawn_worker(const WorkerOptions& options);

}  // namespace shoal
