#include "tensor/element_type.h"

#include <array>

namespace shoal {
namespace {

// Numbers that the format once gave to types and then withdrew (4, 5, 31 to 33, 36 to 38) are
// unknown.
constexpr std::array kTypes = {
    ElementTraits{0, "F32", 1, 4, true},          ElementTraits{1, "F16", 1, 2, true},
    ElementTraits{2, "Q4_0", 32, 18, true},       ElementTraits{3, "Q4_1", 32, 20, true},
    ElementTraits{6, "Q5_0", 32, 22, false},      ElementTraits{7, "Q5_1", 32, 24, false},
    ElementTraits{8, "Q8_0", 32, 34, true},       ElementTraits{9, "Q8_1", 32, 36, false},
    ElementTraits{10, "Q2_K", 256, 84, false},    ElementTraits{11, "Q3_K", 256, 110, false},
    ElementTraits{12, "Q4_K", 256, 144, true},    ElementTraits{13, "Q5_K", 256, 176, false},
    ElementTraits{14, "Q6_K", 256, 210, true},    ElementTraits{15, "Q8_K", 256, 292, false},
    ElementTraits{16, "IQ2_XXS", 256, 66, false}, ElementTraits{17, "IQ2_XS", 256, 74, false},
    ElementTraits{18, "IQ3_XXS", 256, 98, false}, ElementTraits{19, "IQ1_S", 256, 50, false},
    ElementTraits{20, "IQ4_NL", 32, 18, false},   ElementTraits{21, "IQ3_S", 256, 110, false},
    ElementTraits{22, "IQ2_S", 256, 82, false},   ElementTraits{23, "IQ4_XS", 256, 136, false},
    ElementTraits{24, "I8", 1, 1, false},         ElementTraits{25, "I16", 1, 2, false},
    ElementTraits{26, "I32", 1, 4, false},        ElementTraits{27, "I64", 1, 8, false},
    ElementTraits{28, "F64", 1, 8, false},        ElementTraits{29, "IQ1_M", 256, 56, false},
    ElementTraits{30, "BF16", 1, 2, true},        ElementTraits{34, "TQ1_0", 256, 54, false},
    ElementTraits{35, "TQ2_0", 256, 66, false},   ElementTraits{39, "MXFP4", 32, 17, false},
    ElementTraits{40, "NVFP4", 64, 36, false},    ElementTraits{41, "Q1_0", 128, 18, false},
    ElementTraits{42, "Q2_0", 64, 18, false},
};

}  // namespace

const ElementTraits* element_traits(uint32_t id) {
  for (const ElementTraits& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
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

uint64_t row_bytes(ElementType type, int64_t columns) {
  const ElementTraits& traits = element_traits(type);
  SHOAL_CHECK(columns >= 0 && columns % traits.block_elements == 0);
  return static_cast<uint64_t>(columns) / traits.block_elements * traits.block_bytes;
}

}  // namespace shoal
