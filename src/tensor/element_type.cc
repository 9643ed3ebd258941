#include "tensor/element_type.h"

#include <fmt/format.h>

#include <array>

namespace shoal {
namespace {

constexpr std::string_view kTwoBits = "Q2_K", kThreeBits = "Q3_K_M or IQ4_XS",
                           kFourBits = "IQ4_XS or Q4_K_M";

constexpr ElementTraits with_kernels(uint32_t id, std::string_view name, uint32_t elements,
                                     uint32_t bytes) {
  return {id, name, elements, bytes, "", true};
}
constexpr ElementTraits without(uint32_t id, std::string_view name, uint32_t elements,
                                uint32_t bytes, std::string_view instead = "") {
  return {id, name, elements, bytes, instead, false};
}

// Numbers that the format once gave to types and then withdrew (4, 5, 31 to 33, 36 to 38) are
// unknown.
constexpr std::array kTypes = {
    with_kernels(0, "F32", 1, 4),
    with_kernels(1, "F16", 1, 2),
    with_kernels(2, "Q4_0", 32, 18),
    with_kernels(3, "Q4_1", 32, 20),
    with_kernels(6, "Q5_0", 32, 22),
    with_kernels(7, "Q5_1", 32, 24),
    with_kernels(8, "Q8_0", 32, 34),
    without(9, "Q8_1", 32, 36),
    with_kernels(10, "Q2_K", 256, 84),
    with_kernels(11, "Q3_K", 256, 110),
    with_kernels(12, "Q4_K", 256, 144),
    with_kernels(13, "Q5_K", 256, 176),
    with_kernels(14, "Q6_K", 256, 210),
    without(15, "Q8_K", 256, 292),
    without(16, "IQ2_XXS", 256, 66, kTwoBits),
    without(17, "IQ2_XS", 256, 74, kTwoBits),
    without(18, "IQ3_XXS", 256, 98, kThreeBits),
    without(19, "IQ1_S", 256, 50, kTwoBits),
    with_kernels(20, "IQ4_NL", 32, 18),
    without(21, "IQ3_S", 256, 110, kThreeBits),
    without(22, "IQ2_S", 256, 82, kTwoBits),
    with_kernels(23, "IQ4_XS", 256, 136),
    without(24, "I8", 1, 1),
    without(25, "I16", 1, 2),
    without(26, "I32", 1, 4),
    without(27, "I64", 1, 8),
    without(28, "F64", 1, 8),
    without(29, "IQ1_M", 256, 56, kTwoBits),
    with_kernels(30, "BF16", 1, 2),
    without(34, "TQ1_0", 256, 54, kTwoBits),
    without(35, "TQ2_0", 256, 66, kTwoBits),
    with_kernels(39, "MXFP4", 32, 17),
    without(40, "NVFP4", 64, 36, kFourBits),
    without(41, "Q1_0", 128, 18, kTwoBits),
    without(42, "Q2_0", 64, 18, kTwoBits),
};

// Packing asks for every 32 elements.
constexpr auto kPlaceOfId = [] {
  std::array<int8_t, 64> places{};
  places.fill(-1);
  for (size_t i = 0; i < kTypes.size(); ++i) places[kTypes[i].id] = static_cast<int8_t>(i);
  return places;
}();

}  // namespace

const ElementTraits* element_traits(uint32_t id) {
  if (id >= kPlaceOfId.size() || kPlaceOfId[id] < 0) return nullptr;
  return &kTypes[static_cast<size_t>(kPlaceOfId[id])];
}

const ElementTraits& element_traits(ElementType type) {
  const ElementTraits* traits = element_traits(static_cast<uint32_t>(type));
  SHOAL_CHECK(traits != nullptr);
  return *traits;
}

std::string supported_element_types() {
  std::string names;
  for (const ElementTraits& type : kTypes) {
    if (!type.supported) continue;
    if (!names.empty()) names += ", ";
    names += type.name;
  }
  return names;
}

std::string unsupported_element_type(uint32_t id) {
  const ElementTraits* type = element_traits(id);
  if (type == nullptr) {
    return fmt::format("has the type number {}, which this version does not know; supported are {}",
                       id, supported_element_types());
  }
  if (type->instead.empty()) {
    return fmt::format("has the type {}, which is not supported; supported are {}", type->name,
                       supported_element_types());
  }
  return fmt::format("has the type {}, which is not supported; take the model's {} file instead",
                     type->name, type->instead);
}

uint64_t row_bytes(ElementType type, int64_t columns) {
  const ElementTraits& traits = element_traits(type);
  SHOAL_CHECK(columns >= 0 && columns % traits.block_elements == 0);
  return static_cast<uint64_t>(columns) / traits.block_elements * traits.block_bytes;
}

}  // namespace shoal
