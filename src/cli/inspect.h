// `shoal inspect FILE`: what a GGUF file says of itself. Writes to standard output, errors to
// standard error; reads nothing but the file's header and metadata. One thread. The daemon runs it
// in a child process to learn a model's card.
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "gguf/gguf.h"
#include "sampling/defaults.h"

namespace shoal::cli {

// What the catalogue recommends for sampling, to be shown with what the file does.
using CatalogueDefaults = std::span<const SamplingDefault>;

// For people, at 80 columns: the model, its memory, sampling where a request says nothing, types,
// metadata with long values shortened, tensors.
std::string inspection_text(const gguf::File& file, CatalogueDefaults catalogue = {});
// The same with stable names: path, version, file_bytes, part_count, alignment, metadata[],
// tensors[], types[], model (a ModelCard, or null with not_runnable saying why), memory,
// sampling_defaults[], sampling_ignored[].
Json inspection_json(const gguf::File& file, CatalogueDefaults catalogue = {});

// Returns the exit code. A sound file that Shoal cannot run (an unknown architecture, a vocabulary
// alone) is shown with the reason and is no error; a file that contradicts itself is one.
// `card_only` prints the ModelCard as JSON and nothing else, and there every model that cannot be
// run is an error.
int inspect_command(const std::string& path, bool json, bool card_only,
                    CatalogueDefaults catalogue = {});
// The same of a file that is open, or of why it is not.
int inspect_opened(const Result<gguf::File>& file, bool json, bool card_only,
                   CatalogueDefaults catalogue = {});

}  // namespace shoal::cli
