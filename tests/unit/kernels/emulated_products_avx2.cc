// In a file of its own because of its compiler flags.
#include "emulated_products.h"
#include "emulated_tiles.h"
#include "kernels/avx2_vectors.h"

namespace shoal::kernels {

Product emulated_product_avx2(ElementType type) {
  return tile_product_of<Avx2, EmulatedTiles>(type);
}

}  // namespace shoal::kernels
