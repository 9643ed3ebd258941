// Products of interleaved weights by AVX2, FMA and F16C. Only for processors that have all three.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

Product avx2_product(ElementType type);     // null for a type without one
Product avxvnni_product(ElementType type);  // only where machine_has_avx_vnni()
void avx2_quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks);
uint64_t avx2_read_streams(const uint8_t* bytes, int64_t quarter_bytes);
void avx2_attend(const AttendTask& task);
void avx2_attend_span(const AttendTask& task, int64_t span, float* parts);
void avx2_attend_join(const AttendTask& task, const float* parts, int64_t count);

}  // namespace shoal::kernels
