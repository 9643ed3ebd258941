// Looking into a model on Hugging Face without fetching it: byte ranges of its files, as few as its
// header needs. Blocking; one thread.
#pragma once

#include <vector>

#include "base/file.h"
#include "gguf/gguf.h"
#include "store/catalogue.h"
#include "store/http_transfer.h"

namespace shoal::cli {

// A model whose metadata and list of tensors are here, and of whose weights only those that
// describing the model reads; the rest reads as zeros.
struct RemoteModel {
  std::vector<MappedFile> files;  // sparse, in memory, and what `file` reads
  gguf::File file;
};

// `sources` are the parts of one model, in order. kUnsupported (a server without ranges),
// kTooLarge (a header beyond reason), and what fetching and reading can meet.
Result<RemoteModel> open_remote(const std::vector<HuggingFaceSource>& sources,
                                const NetworkPatience& patience, CancelFlag cancel = nullptr);

}  // namespace shoal::cli
