// What the quantised types are made of, one line for each: the file's definition, the interleaved
// layout and the vector products follow from it. Pure; any thread. Static, so that files compiled
// for different instruction sets share no copy.
#pragma once

#include <cstdint>

#include "tensor/element_type.h"

namespace shoal::kernels {

// An element's code in the file stands for a number from -128 to 127, its value; the element is
//   d value, d value + m                                   (types that share scales over 32)
//   (d scale) value, (d scale) value - (dmin minimum)      (over 256, with an integer scale
//                                                           for each 32 or 16)
// where d, m and dmin are binary16, or d a power of two.
enum class SubScales : uint8_t {
  kNone,
  kPer32,         // a byte
  kPer16,         // a byte
  kSixBitsPer16,  // of -32 to 31
  kNibblesPer16,  // with the minimum in the same byte, high
};

// Values that are looked up.
enum class Table : uint8_t { kNone, kIq4, kMxfp4 };

struct TypeForm {
  ElementType type;
  // Planes that a code is stored in: its low bits, and what is above them.
  int low_bits;   // 8, 4, 2
  int high_bits;  // 0, 1, 2
  SubScales sub_scales;
  bool minimum;   // m, or dmin and integer minima
  int center;     // value = code - center (as int8)
  Table table;    // or what stands there
  bool exponent;  // d = 2^(byte - 128) instead of a binary16
};

inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice those of the 4-bit floats of the Open Compute Project's "MX" specification.
inline constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                            0, -1, -2, -3, -4, -6, -8, -12};

static constexpr const int8_t* values_of(Table table) {
  return table == Table::kIq4 ? kIq4Values : kMxfp4Values;
}

static constexpr TypeForm kTypeForms[] = {
    {ElementType::kQ8_0, 8, 0, SubScales::kNone, false, 0, Table::kNone, false},
    {ElementType::kQ4_0, 4, 0, SubScales::kNone, false, 8, Table::kNone, false},
    {ElementType::kQ4_1, 4, 0, SubScales::kNone, true, 0, Table::kNone, false},
    {ElementType::kQ5_0, 4, 1, SubScales::kNone, false, 16, Table::kNone, false},
    {ElementType::kQ5_1, 4, 1, SubScales::kNone, true, 0, Table::kNone, false},
    {ElementType::kIQ4_NL, 4, 0, SubScales::kNone, false, 0, Table::kIq4, false},
    {ElementType::kMXFP4, 4, 0, SubScales::kNone, false, 0, Table::kMxfp4, true},
    {ElementType::kQ2_K, 2, 0, SubScales::kNibblesPer16, true, 0, Table::kNone, false},
    {ElementType::kQ3_K, 2, 1, SubScales::kSixBitsPer16, false, 4, Table::kNone, false},
    {ElementType::kQ4_K, 4, 0, SubScales::kPer32, true, 0, Table::kNone, false},
    {ElementType::kQ5_K, 4, 1, SubScales::kPer32, true, 0, Table::kNone, false},
    {ElementType::kQ6_K, 4, 2, SubScales::kPer16, false, 32, Table::kNone, false},
    {ElementType::kIQ4_XS, 4, 0, SubScales::kPer32, false, 0, Table::kIq4, false},
};

// Null for the types of plain floats.
static constexpr const TypeForm* find_type_form(ElementType type) {
  for (const TypeForm& form : kTypeForms) {
    if (form.type == type) return &form;
  }
  return nullptr;
}
// Of a quantised type.
static constexpr const TypeForm& type_form(ElementType type) {
  return *find_type_form(type);
}

}  // namespace shoal::kernels
