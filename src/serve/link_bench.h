// Measuring the links of this node while somebody watches: what `shoal bench links` asks for. On
// the loop's thread.
#pragma once

#include "http/http.h"
#include "serve/context.h"
#include "serve/loop.h"

namespace shoal::serve {

// Answers with a line of JSON before and after each member and mode: {"phase"}, then what was
// measured or {"refused"}. The body: sizes, modes, seconds, and node for a single member.
Task<void> bench_links(Context& context, http::Exchange& exchange, Json body);

}  // namespace shoal::serve
