// What the catalogue recommends for sampling from a model.
#pragma once

#include <string>
#include <vector>

#include "sampling/defaults.h"
#include "store/store.h"

namespace shoal::serve {

// Of the entry that `model` names, else of the one that the file's name or checksum is of; nothing
// where there is none. Reads HOME/catalogue.toml, so never on the loop.
Result<std::vector<SamplingDefault>> catalogue_sampling(const Store& store,
                                                        const std::string& model,
                                                        const ModelFile& file);

}  // namespace shoal::serve
