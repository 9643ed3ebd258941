// Attention by AVX-512 (F, BW, DQ, VL), for a table's entries of these names. Only for processors
// that have it. The same bits as avx2_attend().
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

void avx512_attend(const AttendTask& task);
void avx512_attend_span(const AttendTask& task, int64_t span, float* parts);
void avx512_attend_join(const AttendTask& task, const float* parts, int64_t count);

}  // namespace shoal::kernels
