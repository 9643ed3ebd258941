// Plans and instances (as the daemon's JSON has them) in words for people.
#pragma once

#include <string>

#include "base/json.h"
#include "placement/placement.h"

namespace shoal::cli {

// "plan: tensor parallel, 2 nodes, bf16 between them: alder (lead) 67%, birch 33%; context 8192"
std::string plan_line(const Json& instance);
// Every plan considered, chosen first: predictions, what each node holds, the reason; 80 columns.
std::string placement_text(const Json& placement);
std::string plan_ranks_text(const Plan& plan);

}  // namespace shoal::cli
