// The quantised blocks of weight files, as the file format defines them. Pure; any thread.
// Bytes are little-endian; d, m and dmin are binary16. type_forms.h says how elements follow.
//
//   Q8_0    32 elements, 34 bytes:   d, 32 int8
//   Q4_0    32 elements, 18 bytes:   d, nibbles
//   Q4_1    32 elements, 20 bytes:   d, m, nibbles
//   Q5_0    32 elements, 22 bytes:   d, 32 fifth bits, nibbles
//   Q5_1    32 elements, 24 bytes:   d, m, 32 fifth bits, nibbles
//   IQ4_NL  32 elements, 18 bytes:   d, nibbles
//   MXFP4   32 elements, 17 bytes:   e (d = 2^(e - 128)), nibbles
//   nibbles: byte j holds element j in its low and element j + 16 in its high four bits
//
//   Q2_K    256 elements, 84 bytes:  16 bytes of a 4-bit scale and min, 64 bytes of pairs, d, dmin
//   Q3_K    256 elements, 110 bytes: 32 bytes of third bits, 64 bytes of pairs, 12 bytes of 6-bit
//           scales, d
//   pairs: bits 2 s and up of byte 32 h + i are of element 128 h + 32 s + i
//   Q4_K    256 elements, 144 bytes: d, dmin, 12 bytes of 6-bit scales and mins, 128 bytes
//   Q5_K    256 elements, 176 bytes: the same with 32 bytes of fifth bits before the 128
//           byte 32 k + j holds element 64 k + j low and element 64 k + 32 + j high
//   third and fifth bits of K-types: bit s of byte i is of element 32 s + i
//   Q6_K    256 elements, 210 bytes: 128 bytes of low nibbles, 64 bytes of high bits, 16 int8
//           scales, d
//   IQ4_XS  256 elements, 136 bytes: d, 16 high bits and 4 bytes of low nibbles of scales, and for
//           each 32 elements 16 bytes of nibbles as above
#pragma once

#include <cstdint>

#include "kernels/type_forms.h"
#include "tensor/element_type.h"

namespace shoal::kernels {

// What a file says of 32 consecutive elements, taken out of its packing.
struct SubBlock {
  uint16_t d;         // bits of the binary16; of MXFP4 the exponent's byte
  uint16_t m;         // bits of m or dmin, where there is one
  int8_t scales[2];   // integer scales of the first and the last 16
  uint8_t minima[2];  // and their integer minima
  uint8_t codes[32];
};

// Elements [first, first + 32) counted from the start of the block at `blocks`; `first` is a
// multiple of 32.
SubBlock read_sub_block(const TypeForm& form, const uint8_t* blocks, int64_t first);
// The 32 elements. Each float is the format's formula evaluated in binary32 in the order in which
// type_forms.h writes it.
void evaluate(const TypeForm& form, const SubBlock& block, float* out);

// Elements [first, first + count) counted from the start of the block at `blocks`, of any type.
void dequantise(ElementType type, const uint8_t* blocks, int64_t first, int64_t count, float* out);

}  // namespace shoal::kernels
