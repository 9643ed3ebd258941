// The table of AVX-512: its own products and attention, the rest by AVX2, which every such
// processor has.
#include "kernels/avx2_products.h"
#include "kernels/avx512_attention.h"
#include "kernels/avx512_products.h"
#include "kernels/kernel_table.h"

namespace shoal::kernels {

const KernelTable* avx512_kernels() {
  static const KernelTable table = [] {
    KernelTable t = *avx2_kernels();
    t.isa = Isa::kAvx512;
    t.product = avx512_product;
    t.apart_rows = kApartRows;
    t.attend = avx512_attend;
    t.attend_span = avx512_attend_span;
    t.attend_join = avx512_attend_join;
    t.read_streams = avx512_read_streams;
    t.peak = avx512_peak;
    t.peak_multiply_adds = kAvx512PeakMultiplyAdds;
    return t;
  }();
  return &table;
}

}  // namespace shoal::kernels
