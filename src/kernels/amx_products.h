// Products of interleaved weights by the tiles of AMX, and AVX-512 where rows are few. Only for
// threads of a process that may use tiles: machine_has(Isa::kAmx).
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

Product amx_product(ElementType type);  // null for a type without one
uint64_t amx_peak(int64_t rounds);      // KernelTable::peak, in int8
extern const int64_t kAmxPeakMultiplyAdds;

}  // namespace shoal::kernels
