// Offsets inside a piece of 16 interleaved rows (docs/formats/weight-layouts.md), for those who
// pack it and those who compute with it. Pure; any thread. Static, so that files compiled for
// different instruction sets share no copy.
#pragma once

#include <cstdint>

#include "kernels/type_forms.h"
#include "tensor/element_type.h"

namespace shoal::kernels {

// Byte offsets from the start of a piece. `n` is the piece's number of 32-column sub-blocks. What a
// type lacks has no bytes.
struct PieceOffsets {
  int64_t d;          // f16 [n][16], or u8 of exponents; with integer scales f16 [16]
  int64_t m;          // m [n][16] or dmin [16], f16
  int64_t scales;     // per 32 u8 or i8 [n][16]; per 16 i8 [n][2][16], nibbles u8 [n][2][16], six
                      // bits [n][16] of low nibbles, then [(n + 1) / 2][16] of high bits
  int64_t minima;     // u8 [n][16]
  int64_t codes;      // low bits: per sub-block `low_bits` vectors of [16 rows][4 bytes]
  int64_t high_bits;  // the same with `high_bits`
  int64_t total;
};

static constexpr PieceOffsets quantised_offsets(const TypeForm& form, int64_t n) {
  const bool super = form.sub_scales != SubScales::kNone;
  const int64_t d_bytes = super ? 32 : (form.exponent ? 16 : 32) * n;
  const int64_t m_bytes = !form.minimum ? 0 : super ? 32 : 32 * n;
  const int64_t scale_bytes = form.sub_scales == SubScales::kNone           ? 0
                              : form.sub_scales == SubScales::kPer32        ? 16 * n
                              : form.sub_scales == SubScales::kSixBitsPer16 ? 16 * (n + (n + 1) / 2)
                                                                            : 32 * n;
  const int64_t minimum_bytes = form.minimum && form.sub_scales == SubScales::kPer32 ? 16 * n : 0;
  PieceOffsets at = {};
  at.m = d_bytes;
  at.scales = at.m + m_bytes;
  at.minima = at.scales + scale_bytes;
  at.codes = at.minima + minimum_bytes;
  at.high_bits = at.codes + 64 * form.low_bits * n;
  at.total = at.high_bits + 64 * form.high_bits * n;
  return at;
}

static constexpr PieceOffsets piece_offsets(ElementType type, int64_t columns) {
  PieceOffsets floats = {};
  switch (type) {
    case ElementType::kF32:
      floats.total = 64 * columns;
      return floats;
    case ElementType::kF16:
      floats.total = 32 * columns;
      return floats;
    case ElementType::kBF16:
      floats.total = 64 * ((columns + 1) / 2);
      return floats;
    default:
      return quantised_offsets(type_form(type), columns / 32);
  }
}

}  // namespace shoal::kernels
