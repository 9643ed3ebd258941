// In a file of its own because of its compiler flags.
#include "emulated_products.h"
#include "emulated_tiles.h"
#include "kernels/avx512_vectors.h"

namespace shoal::kernels {

Product emulated_product_avx512(ElementType type) {
  return tile_product_of<Avx512, EmulatedTiles>(type);
}

}  // namespace shoal::kernels
