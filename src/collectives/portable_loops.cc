#include "collectives/payload_loops_code.h"

namespace shoal {

const PayloadLoops kPortableLoops = {pack_any, unpack_any, sum_any};

}  // namespace shoal
