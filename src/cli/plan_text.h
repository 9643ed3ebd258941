// Plans and instances (as the daemon's JSON has them) in words for people.
#pragma once

#include <string>

#include "base/json.h"
#include "placement/placement.h"

namespace shoal::cli {

// "plan: 2 nodes, tensor parallel: alder (lead) 67%, birch 33%; context 8192"
std::string plan_line(const Json& instance);
// Every plan considered, chosen first: predictions, memory per node, the reason.
std::string placement_text(const Json& placement);
std::string plan_ranks_text(const Plan& plan);

}  // namespace shoal::cli
