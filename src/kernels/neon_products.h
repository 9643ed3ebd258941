// Products of interleaved weights by 64-bit ARM, and what goes with them, for the table of
// neon_rows.cc. Same results by each of the three products.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

Product neon_product(ElementType type);         // null for a type without one
Product neon_dot_product(ElementType type);     // only where machine_has_dot_products()
Product neon_matrix_product(ElementType type);  // only where machine_has_matrix_products()
void neon_quantise_apart(const float* in, int64_t count, int8_t* codes, BlockSums* blocks);
uint64_t neon_read_streams(const uint8_t* bytes, int64_t quarter_bytes);

// KernelTable::peak by each, and what a round of it multiplies.
uint64_t neon_peak(int64_t rounds);
uint64_t neon_dot_peak(int64_t rounds);
uint64_t neon_matrix_peak(int64_t rounds);
inline constexpr int kNeonPeakChains = 16;  // answers come after 3 to 4 cycles, 4 can start in each

void neon_attend(const AttendTask& task);
void neon_attend_span(const AttendTask& task, int64_t span, float* parts);
void neon_attend_join(const AttendTask& task, const float* parts, int64_t count);

}  // namespace shoal::kernels
