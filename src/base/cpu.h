// What this machine's processor is and can do. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace shoal {

// Instruction sets, those of x86 in rising order: each includes those before it. kNeon is ARM's.
enum class Isa { kReference, kAvx2, kAvx512, kAmx, kNeon };

std::string_view isa_name(Isa isa);  // "reference", "avx2", "avx512", "amx", "neon"
// Processor and operating system both. Of kAmx the first call asks the kernel for the use of tiles,
// for all threads of this process.
bool machine_has(Isa isa);
// A part of Isa::kAvx2 that some processors have and no set names; same results, faster.
bool machine_has_avx_vnni();
// Likewise of Isa::kNeon: products of four pairs of bytes ("dotprod"), and of matrices of them
// ("i8mm").
bool machine_has_dot_products();
bool machine_has_matrix_products();
// The set to compute with: `wanted` ("" = the best that kernels exist for and the machine has;
// otherwise a name, as given by
// --isa or SHOAL_ISA). kInvalidArgument for an unknown name, kUnsupported for one that this machine
// lacks.
Result<Isa> choose_isa(std::string_view wanted);

int usable_core_count();          // cores in this process's affinity mask, at least 1
std::vector<int> usable_cores();  // their numbers
Status pin_this_thread(int core);
uint64_t memory_total_bytes();      // of the machine, or of this process's cgroup when that is less
uint64_t memory_available_bytes();  // likewise, now
std::string processor_name();

}  // namespace shoal
