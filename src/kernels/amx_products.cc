// Products by AMX: many rows of input by tiles, few by AVX-512, with the same bits.
#include "kernels/amx_products.h"

#include "kernels/amx_tiles.h"
#include "kernels/avx2_products.h"
#include "kernels/avx512_products.h"
#include "kernels/avx512_vectors.h"

namespace shoal::kernels {

static_assert(kApartRows < Avx512::kManyRows / 2);  // so that tiles never get levels apart

Product amx_product(ElementType type) {
  const Product by_tiles = tile_product_of<Avx512, AmxTiles, avx512_product>(type);
  return by_tiles != nullptr ? by_tiles : avx512_product(type);
}

// Four sums that wait for nobody but themselves: a tile's product answers after about 52 cycles and
// one can start every 16.
constexpr int kPeakSums = 4;
const int64_t kAmxPeakMultiplyAdds = kPeakSums * kTileRows * kTileBytes * kGroupRows;

uint64_t amx_peak(int64_t rounds) {
  TileShapes shapes;
  for (int tile = 0; tile < 8; ++tile) shapes.set(tile, kTileRows, kTileBytes);
  alignas(64) int8_t bytes[kTileRows][kTileBytes];
  for (int i = 0; i < kTileRows * kTileBytes; ++i)  // zeros would be faster than numbers
    bytes[i / kTileBytes][i % kTileBytes] = static_cast<int8_t>(i * 37 % 251 - 125);
  AmxTiles::configure(shapes);
  AmxTiles::zero<0>();
  AmxTiles::zero<1>();
  AmxTiles::zero<2>();
  AmxTiles::zero<3>();
  AmxTiles::load<4>(bytes, kTileBytes);
  AmxTiles::load<5>(bytes, kTileBytes);
  AmxTiles::load<6>(bytes, kTileBytes);
  AmxTiles::load<7>(bytes, kTileBytes);
  for (int64_t round = 0; round < rounds; ++round) {
    AmxTiles::dot_signed<0, 4, 6>();
    AmxTiles::dot_signed<1, 4, 7>();
    AmxTiles::dot_signed<2, 5, 6>();
    AmxTiles::dot_signed<3, 5, 7>();
  }
  alignas(64) int32_t sums[kPeakSums][kTileRows][kGroupRows];
  AmxTiles::store<0>(sums[0], kTileBytes);
  AmxTiles::store<1>(sums[1], kTileBytes);
  AmxTiles::store<2>(sums[2], kTileBytes);
  AmxTiles::store<3>(sums[3], kTileBytes);
  AmxTiles::release();
  uint64_t total = 0;
  for (const auto& tile : sums) total += static_cast<uint64_t>(tile[0][0]);
  return total;
}

}  // namespace shoal::kernels
