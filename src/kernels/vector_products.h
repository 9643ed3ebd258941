// The products of a set of vector instructions, by type. V as in interleaved_codes.h.
#pragma once

#include "kernels/packed_products.h"
#include "kernels/panel_products.h"

namespace shoal::kernels {

template <class V, ElementType kType>
static void quantised_product(const MatrixView& matrix, const InputRows& input, int64_t input_rows,
                              int64_t unit_begin, int64_t unit_end, void* scratch, float* out,
                              int64_t out_stride) {
  if constexpr (MultipliesBytes<V>) {
    if (input.apart) {
      return byte_product<V, kType>(matrix, input, input_rows, unit_begin, unit_end, scratch, out,
                                    out_stride);
    }
  }
  if constexpr (MultipliesPairs<V>) {
    // Halves with scales of their own cost more packed than unpacked, sooner.
    constexpr int64_t kManyRows = kTwoScales<kType> ? V::kManyRows / 2 : V::kManyRows;
    const Product product =
        input_rows < kManyRows ? walk_product<Packed<V, kType, false>> : panel_product<V, kType>;
    product(matrix, input, input_rows, unit_begin, unit_end, scratch, out, out_stride);
  }
}

template <class V>
static Product vector_product(ElementType type) {
  switch (type) {
    case ElementType::kF32:
      return walk_product<Floats<V, ElementType::kF32>>;
    case ElementType::kF16:
      return walk_product<Floats<V, ElementType::kF16>>;
    case ElementType::kBF16:
      return walk_product<Floats<V, ElementType::kBF16>>;
    case ElementType::kQ8_0:
      return quantised_product<V, ElementType::kQ8_0>;
    case ElementType::kQ4_0:
      return quantised_product<V, ElementType::kQ4_0>;
    case ElementType::kQ4_1:
      return quantised_product<V, ElementType::kQ4_1>;
    case ElementType::kQ5_0:
      return quantised_product<V, ElementType::kQ5_0>;
    case ElementType::kQ5_1:
      return quantised_product<V, ElementType::kQ5_1>;
    case ElementType::kIQ4_NL:
      return quantised_product<V, ElementType::kIQ4_NL>;
    case ElementType::kIQ4_XS:
      return quantised_product<V, ElementType::kIQ4_XS>;
    case ElementType::kMXFP4:
      return quantised_product<V, ElementType::kMXFP4>;
    case ElementType::kQ2_K:
      return quantised_product<V, ElementType::kQ2_K>;
    case ElementType::kQ3_K:
      return quantised_product<V, ElementType::kQ3_K>;
    case ElementType::kQ4_K:
      return quantised_product<V, ElementType::kQ4_K>;
    case ElementType::kQ5_K:
      return quantised_product<V, ElementType::kQ5_K>;
    case ElementType::kQ6_K:
      return quantised_product<V, ElementType::kQ6_K>;
  }
  return nullptr;
}

}  // namespace shoal::kernels
