// Element types of GGUF tensors and the bytes that they take. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace shoal {

// Numbers as in the file format (ggml_type).
enum class ElementType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ6_K = 14,
  kBF16 = 30,
};

struct ElementTraits {
  uint32_t id;
  std::string_view name;    // "Q4_K"
  uint32_t block_elements;  // consecutive elements of a row that share scales
  uint32_t block_bytes;
  bool supported;  // Shoal has kernels for it
};

// Of any type the format knows, supported or not; nullptr for a number that it does not know.
const ElementTraits* element_traits(uint32_t id);
const ElementTraits& element_traits(ElementType type);
std::string supported_element_types();  // "F32, F16, ...", for sentences

// Bytes of a row. `columns` must be a multiple of the block's elements.
uint64_t row_bytes(ElementType type, int64_t columns);

}  // namespace shoal
