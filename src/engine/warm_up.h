// One rank's part of a step computed by itself, to know what such a step takes before the first
// real one. Used once, by the engine's thread, after loading.
#pragma once

#include <span>

#include "base/result.h"
#include "engine/patience.h"
#include "kv/pages.h"
#include "tensor/backend.h"

namespace shoal {

// Runs the program's segments on some rows of a prompt without adding anything up or passing it on,
// so that the numbers mean nothing; they are written to the first KV pages, which no sequence holds
// yet. What a first step would touch for the first time is touched here. Fewer rows where limits or
// pages take fewer.
Result<StepTime> warm_up(const Program& program, Backend& backend, const BackendLimits& limits,
                         std::span<const KvGroup> groups);

}  // namespace shoal
