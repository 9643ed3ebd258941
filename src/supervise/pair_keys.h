// The secrets of one forming of an instance. Any thread.
#pragma once

#include <vector>

#include "base/bytes.h"

namespace shoal {

// keys[a][b] == keys[b][a]: 32 fresh random bytes for the link between ranks a and b; keys[a][a] is
// empty. Drawn anew for every instance and generation; rank a is told row a and nothing else, never
// in its arguments or environment.
std::vector<std::vector<Bytes>> draw_pair_keys(int ranks);

}  // namespace shoal
