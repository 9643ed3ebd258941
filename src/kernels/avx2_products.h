// Products of interleaved weights by AVX2, FMA and F16C. Only for processors that have all three.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

// Most rows of input that the products which multiply bytes want with their levels apart: all but
// those of AVX2 alone. More share what it costs to widen the weights, while two sums for each row
// are a price of their own: 8 rows of Q4_K or Q6_K from the cache would be 0.82 to 0.98 times as
// fast.
inline constexpr int64_t kApartRows = 2;

Product avx2_product(ElementType type);     // null for a type without one
Product avxvnni_product(ElementType type);  // only where machine_has_avx_vnni()
void avx2_quantise(const float* in, int64_t count, int8_t* codes, BlockSums* blocks);
void avx2_quantise_apart(const float* in, int64_t count, int8_t* codes, BlockSums* blocks);
uint64_t avx2_read_streams(const uint8_t* bytes, int64_t quarter_bytes);
void avx2_attend(const AttendTask& task);
void avx2_attend_span(const AttendTask& task, int64_t span, float* parts);
void avx2_attend_join(const AttendTask& task, const float* parts, int64_t count);

}  // namespace shoal::kernels
