// The products by tiles with tiles that are emulated, and the vectors of AVX2 or AVX-512, of which
// the machine must have those that are named. By tiles for any number of rows of input. Null for a
// type without one.
#pragma once

#include "kernels/kernel_table.h"

namespace shoal::kernels {

Product emulated_product_avx2(ElementType type);
Product emulated_product_avx512(ElementType type);

}  // namespace shoal::kernels
