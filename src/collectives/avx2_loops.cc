#include "collectives/payload_loops_code.h"

namespace shoal {

const PayloadLoops* avx2_loops() {
  static constexpr PayloadLoops kLoops = {pack_any, unpack_any, sum_any};
  return &kLoops;
}

}  // namespace shoal
