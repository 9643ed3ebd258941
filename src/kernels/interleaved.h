// Offsets inside a piece of 16 interleaved rows (docs/formats/weight-layouts.md), for those who
// pack it and those who compute with it. Pure; any thread. Static, so that files compiled for
// different instruction sets share no copy.
#pragma once

#include <cstdint>

#include "tensor/element_type.h"

namespace shoal::kernels {

// Byte offsets from the start of a piece. `n` is the piece's number of 32-column sub-blocks.
struct PieceOffsets {
  int64_t scales;     // Q8_0, Q4_0, Q4_1: d[n][16] f16; Q4_K: u8 [n][16]; Q6_K: i8 [n][2][16]
  int64_t minima;     // Q4_1: m[n][16] f16; Q4_K: u8 [n][16]
  int64_t codes;      // vectors of [16 rows][4 columns]
  int64_t high_bits;  // Q6_K: [n][2][16 rows][4]
  int64_t total;
};

static inline PieceOffsets piece_offsets(ElementType type, int64_t columns) {
  const int64_t n = columns / 32;
  switch (type) {
    case ElementType::kF32:
      return {0, 0, 0, 0, 64 * columns};
    case ElementType::kF16:
      return {0, 0, 0, 0, 32 * columns};
    case ElementType::kBF16:
      return {0, 0, 0, 0, 64 * ((columns + 1) / 2)};
    case ElementType::kQ8_0:
      return {0, 0, 32 * n, 0, 544 * n};
    case ElementType::kQ4_0:
      return {0, 0, 32 * n, 0, 288 * n};
    case ElementType::kQ4_1:
      return {0, 32 * n, 64 * n, 0, 320 * n};
    case ElementType::kQ4_K:
      return {64, 64 + 16 * n, 64 + 32 * n, 0, 64 + 288 * n};
    case ElementType::kQ6_K:
      return {32, 0, 32 + 32 * n, 32 + 288 * n, 32 + 416 * n};
  }
  return {0, 0, 0, 0, 0};
}

}  // namespace shoal::kernels
