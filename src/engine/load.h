// Fills a backend with one rank's part of a model's weights.
#pragma once

#include <functional>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tensor/backend.h"

namespace shoal {

// Each tensor's pages are let go as it is packed, so that the peak of resident memory stays near
// the packed weights; biggest tensors first, for backends that read one as a whole. `progress(bytes
// of this rank's part done, in all)`.
Status load_weights(const gguf::File& file, const Program& program, Backend& backend,
                    const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace shoal
