// One rank of a plan on this machine alone: its peers are imagined behind links that take as long
// as a model of them says, and answer with zeros. For a part of a model that nobody here could hold
// whole. One thread, which computes.
#pragma once

#include <memory>
#include <string>

#include "engine/engine.h"
#include "placement/placement.h"
#include "transport/link_model.h"

namespace shoal::cli {

// The engine of rank `rank`, which takes steps by submit() whatever its rank.
Result<std::unique_ptr<Engine>> make_rank_alone(
    const gguf::File& file, const ModelDescription& description, const Plan& plan, int rank,
    Backend& backend, const EngineOptions& options, const LinkModel& link,
    const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace shoal::cli
