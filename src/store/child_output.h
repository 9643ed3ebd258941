// Runs a short-lived program and returns what it prints. Blocking; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "store/http_transfer.h"

namespace shoal {

// The standard output of `arguments[0]`, searched for in PATH, with this process's environment, no
// input and no standard error. kNotFound when there is no such program, kIo when it fails,
// kDeadline when it is not done in time (it is killed).
Result<std::string> output_of(const std::vector<std::string>& arguments, int timeout_ms,
                              CancelFlag cancel);

}  // namespace shoal
