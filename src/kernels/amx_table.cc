// The table of AMX: products by tiles where rows are many, the rest by AVX-512, which every such
// processor has.
#include "kernels/amx_products.h"
#include "kernels/kernel_table.h"

namespace shoal::kernels {

const KernelTable* amx_kernels() {
  static const KernelTable table = [] {
    KernelTable t = *avx512_kernels();
    t.isa = Isa::kAmx;
    t.product = amx_product;
    t.peak = amx_peak;
    t.peak_multiply_adds = kAmxPeakMultiplyAdds;
    return t;
  }();
  return &table;
}

}  // namespace shoal::kernels
