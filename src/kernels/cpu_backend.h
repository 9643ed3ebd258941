// The CPU as a Backend. Owned and called by one thread, which takes part in the computing.
#pragma once

#include <memory>

#include "base/cpu.h"
#include "tensor/backend.h"

namespace shoal {

// `isa` as choose_isa() gave it, so that there are kernels and the machine has it; `threads` >= 1.
// Threads are pinned when they are as many as the process has cores. Results have the same bits for
// any number of threads, any number of rows in a step and either role.
std::unique_ptr<Backend> make_cpu_backend(Isa isa, int threads);

}  // namespace shoal
