// Stands for the vector kernels of x86 on processors of another architecture.
#include "kernels/avx2_products.h"

namespace shoal::kernels {

const KernelTable* avx2_kernels() {
  return nullptr;
}
Product avx2_product(ElementType) {
  return nullptr;
}
const KernelTable* avx512_kernels() {
  return nullptr;
}
const KernelTable* amx_kernels() {
  return nullptr;
}

}  // namespace shoal::kernels
