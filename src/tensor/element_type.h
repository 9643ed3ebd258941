// Element types of GGUF tensors and the bytes that they take. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace shoal {

// Numbers as in the file format (ggml_type). Those that Shoal has kernels for.
enum class ElementType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct ElementTraits {
  uint32_t id;
  std::string_view name;    // "Q4_K"
  uint32_t block_elements;  // consecutive elements of a row that share scales
  uint32_t block_bytes;
  // Of a type without kernels: which files of the same model to take, "Q2_K"; empty for a type that
  // no model's weights have.
  std::string_view instead;
  bool supported;  // Shoal has kernels for it
};

// Of any type the format knows, supported or not; nullptr for a number that it does not know.
const ElementTraits* element_traits(uint32_t id);
const ElementTraits& element_traits(ElementType type);
std::string supported_element_types();  // "F32, F16, ...", for sentences
// What is to be said after "the tensor x" of a type without kernels: "has the type IQ2_XS, ...".
std::string unsupported_element_type(uint32_t id);

// Bytes of a row. `columns` must be a multiple of the block's elements.
uint64_t row_bytes(ElementType type, int64_t columns);

}  // namespace shoal
