// In place of avx2_loops.cc on other architectures.
#include "collectives/payload_loops.h"

namespace shoal {

const PayloadLoops* avx2_loops() {
  return nullptr;
}

}  // namespace shoal
