// Fills a backend with one rank's part of a model's weights.
#pragma once

#include <functional>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tensor/backend.h"

namespace shoal {

// Biggest tensors first, each one's pages let go behind it, so that the peak of resident memory
// stays near the packed weights plus one of the smallest tensors. `progress(bytes of this rank's
// part done, in all)`.
Status load_weights(const gguf::File& file, const Program& program, Backend& backend,
                    const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace shoal
