// What other nodes report of themselves in their heartbeats: outside input, of whatever version and
// state of mind a member is. An entry whose fields are not what this daemon writes is left out, so
// that readers may take them as described. Pure; any thread.
#pragma once

#include <vector>

#include "base/json.h"

namespace shoal::serve {

// Files: name, sha256, size_bytes.
std::vector<Json> reported_models(const Json& state);
// As LocalShards::published() writes; statistics that are none are left out alone.
std::vector<Json> reported_shards(const Json& state);
// As Instances::published() writes.
std::vector<Json> reported_instances(const Json& state);

}  // namespace shoal::serve
