// Random tensors in file form for the kernels' tests, and the file formats' definitions once more,
// in double and element by element, written apart from those in src/kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/random.h"
#include "kernels/kernel_table.h"
#include "tensor/backend.h"
#include "tensor/element_type.h"

namespace shoal::kernels_test {

inline constexpr ElementType kAllTypes[] = {
    ElementType::kF32,    ElementType::kF16,   ElementType::kBF16, ElementType::kQ8_0,
    ElementType::kQ4_0,   ElementType::kQ4_1,  ElementType::kQ5_0, ElementType::kQ5_1,
    ElementType::kIQ4_NL, ElementType::kMXFP4, ElementType::kQ2_K, ElementType::kQ3_K,
    ElementType::kQ4_K,   ElementType::kQ5_K,  ElementType::kQ6_K, ElementType::kIQ4_XS};
inline constexpr Isa kAllIsas[] = {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAmx,
                                   Isa::kNeon};
// Those of this build's architecture, whether or not the machine has them.
inline std::vector<Isa> built_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAllIsas) {
    if (kernels::kernels_for(isa) != nullptr) isas.push_back(isa);
  }
  return isas;
}

// What vector instructions compute is the same on every architecture, down to the bits:
// fixtures/bits.txt keeps a digest of it, by name.
std::string digest_of(const void* bytes, size_t count);
std::string kept_digest(const std::string& name);

inline std::string name_of(ElementType type) {
  return std::string(element_traits(type).name);
}

// A random source: numbers depend on the seed alone.
class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  uint32_t bits() { return philox(seed_, counter_++)[0]; }
  double unit() { return uniform(seed_, counter_++); }
  float symmetric() { return static_cast<float>(2 * unit() - 1); }
  int64_t below(int64_t end) { return static_cast<int64_t>(unit() * static_cast<double>(end)); }

 private:
  uint64_t seed_;
  uint64_t counter_ = 0;
};

// How large the scales of blocks are.
enum class Scales { kUsual, kZero, kSubnormal, kHuge };

// Where the binary16 scales of a quantised type's block are. Those of MXFP4 are a byte, at 0.
std::vector<size_t> scale_offsets(ElementType type);
// Whether byte `offset` of a block belongs to them.
bool is_scale_byte(ElementType type, size_t offset);

// `rows` rows of `columns` in file form. The scales of MXFP4 are never zero, but near.
std::vector<std::byte> random_tensor(ElementType type, int64_t rows, int64_t columns, uint64_t seed,
                                     Scales scales = Scales::kUsual);

inline TensorSource source_of(ElementType type, int64_t rows, int64_t columns,
                              const std::vector<std::byte>& bytes) {
  return {"test", type, rows, columns, bytes};
}

struct Element {
  double value;  // exact
  double
      magnitude;  // sum of the magnitudes of the terms that make it: what roundings are relative to
};
Element element_at(ElementType type, const std::vector<std::byte>& bytes, int64_t columns,
                   int64_t row, int64_t column);

double half_value(uint16_t bits);

}  // namespace shoal::kernels_test
