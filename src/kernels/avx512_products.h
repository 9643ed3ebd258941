// Products of interleaved weights by AVX-512 with VNNI. Only for processors that have both.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

Product avx512_product(ElementType type);  // null for a type without one
uint64_t avx512_read_streams(const uint8_t* bytes, int64_t quarter_bytes);
uint64_t avx512_peak(int64_t rounds);  // KernelTable::peak, in int8
extern const int64_t kAvx512PeakMultiplyAdds;

}  // namespace shoal::kernels
