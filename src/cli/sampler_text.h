// What each sampler left of a token's candidates, in lines of at most 80 columns: `run --verbose`.
// Pure.
#pragma once

#include <string>

#include "base/json.h"

namespace shoal::cli {

// `stages`: one element of a choice's "samplers" (docs/operating/api.md). `number` counts from 0.
// Names, how many tokens are left, and the best few with their probability before and after.
std::string sampler_lines(int64_t number, const Json& stages);

}  // namespace shoal::cli
