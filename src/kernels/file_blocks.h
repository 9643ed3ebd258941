// The quantised blocks of weight files, as the file format defines them. Pure; any thread.
// Bytes are little-endian; d, m and dmin are binary16.
//
//   Q8_0  32 elements, 34 bytes:   d, 32 int8;                      x = d q
//   Q4_0  32 elements, 18 bytes:   d, 16 bytes;                     x = d (q - 8)
//   Q4_1  32 elements, 20 bytes:   d, m, 16 bytes;                  x = d q + m
//         byte j holds element j in its low and element j + 16 in its high nibble
//   Q4_K  256 elements, 144 bytes: d, dmin, 12 bytes of 6-bit scales and mins, 128 bytes;
//         x = (d scale) q - (dmin min), a scale and a min for each 32 elements
//         byte 32 k + j holds element 64 k + j low and element 64 k + 32 + j high
//   Q6_K  256 elements, 210 bytes: 128 bytes of low nibbles, 64 bytes of high bits, 16 int8 scales,
//         d;  x = (d scale) (q - 32), a scale for each 16 elements
#pragma once

#include <cstdint>

#include "tensor/element_type.h"

namespace shoal::kernels {

// The scale and the min of sub-block `index` of a Q4_K block.
void q4_k_scale(const uint8_t* block, int index, uint8_t& scale, uint8_t& minimum);
// 32 codes (0..15) of sub-block `index` of a Q4_K block.
void q4_k_codes(const uint8_t* block, int index, uint8_t* codes);
// 32 codes (0..63) of the elements from 32 * index of a Q6_K block.
void q6_k_codes(const uint8_t* block, int index, uint8_t* codes);

// Elements [first, first + count) counted from the start of the block at `blocks`. Each float is
// the format's formula evaluated in binary32 in the order written above.
void dequantise(ElementType type, const uint8_t* blocks, int64_t first, int64_t count, float* out);

}  // namespace shoal::kernels
