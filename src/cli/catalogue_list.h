// `shoal list --catalogue`: what can be pulled, for people at 80 columns and as JSON with stable
// names. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "store/store.h"

namespace shoal::cli {

// `files` is what is on disk.
std::string catalogue_text(const Catalogue& catalogue, const std::vector<ModelFile>& files);
// models[]: name, title, licence, terms, parameter_count, quantisation, size_bytes,
// size_is_approximate, sha256, context_tokens, base, tool_format, reasoning_format, sampling,
// sources[], on_disk. What is not known is null.
Json catalogue_json(const Catalogue& catalogue, const std::vector<ModelFile>& files);

}  // namespace shoal::cli
