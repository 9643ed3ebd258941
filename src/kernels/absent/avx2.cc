// Stands for the AVX2 kernels on processors of another architecture.
#include "kernels/kernel_table.h"

namespace shoal::kernels {

const KernelTable* avx2_kernels() {
  return nullptr;
}

}  // namespace shoal::kernels
