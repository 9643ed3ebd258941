// The report of `shoal bench` for people (80 columns) and for scripts. Pure.
#pragma once

#include <string>

#include "cli/bench.h"

namespace shoal::cli {

std::string to_text(const BenchReport& report);

// {model (the name of its file), ..., "results": [{prompt_tokens, output_tokens, batch, context,
// threads, ranks, isa, link, prefill_tokens_per_s, decode_tokens_per_s, read_bytes_per_s (the
// probe's), decode_bytes_per_s, peak_operations_per_s, prefill_operations_per_s, *_s_of_runs,
// profile?}]}. A multiply-add is two operations.
Json to_json(const BenchReport& report);

}  // namespace shoal::cli
