// How fast this machine reads memory and multiplies, in a fraction of a second. Any thread; takes
// `threads` cores meanwhile.
#pragma once

#include <string>

#include "base/cpu.h"

namespace shoal {

struct ProbeResult {
  double read_bytes_per_s;     // all threads, a buffer larger than the caches
  double decode_bytes_per_s;   // all threads, such a buffer of Q4_0 weights multiplied with one row
  double multiply_adds_per_s;  // all threads, the product of Q4_0 weights with a batch of rows
  double float_multiply_adds_per_s;  // the same of F16 weights
};

// `isa` as choose_isa() gave it, `threads` >= 1. Takes about `budget_s` and at most 256 MB of
// memory, less where less is free.
ProbeResult probe_machine(Isa isa, int threads, double budget_s = 0.3);

// The limits alone, each over all threads: what reading memory gives (as read_bytes_per_s above),
// and what the instruction set's strongest product gives from registers.
double read_bandwidth(Isa isa, int threads, double budget_s = 0.3);
struct PeakRate {
  double multiply_adds_per_s;
  std::string numbers;  // those multiplied: "int8"
};
PeakRate peak_rate(Isa isa, int threads, double budget_s = 0.3);

}  // namespace shoal
