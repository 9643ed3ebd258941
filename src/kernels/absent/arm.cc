// Stands for the vector kernels of 64-bit ARM on processors of another architecture.
#include "kernels/neon_products.h"

namespace shoal::kernels {

const KernelTable* neon_kernels() {
  return nullptr;
}
Product neon_product(ElementType) {
  return nullptr;
}
Product neon_dot_product(ElementType) {
  return nullptr;
}

}  // namespace shoal::kernels
