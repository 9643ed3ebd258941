// Models that other programs keep on this machine: Hugging Face's cache, llama.cpp's, Ollama's, and
// the folders of SHOAL_MODELS. They are found and used where they are; nothing here or above ever
// writes, copies or deletes them. Reads folders and small files; any thread.
#pragma once

#include <string>
#include <vector>

#include "store/store.h"

namespace shoal {

// What is there now, in a steady order; `kept_by` says whose each is. Checksums are not computed.
// Folders that cannot be read are passed over.
std::vector<ModelFile> models_of_other_programs();

}  // namespace shoal
