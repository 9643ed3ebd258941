#include "supervise/pair_keys.h"

namespace shoal {

std::vector<std::vector<Bytes>> draw_pair_keys(int ranks) {
  SHOAL_CHECK(ranks >= 1);
  const auto count = static_cast<size_t>(ranks);
  std::vector<std::vector<Bytes>> keys(count, std::vector<Bytes>(count));
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = a + 1; b < count; ++b) keys[a][b] = keys[b][a] = random_bytes(32);
  }
  return keys;
}

}  // namespace shoal
