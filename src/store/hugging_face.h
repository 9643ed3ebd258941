// Files of Hugging Face repositories. HF_ENDPOINT names another server of the same interface;
// HF_TOKEN, if set, is sent to it and to nobody it redirects to. Blocking; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "store/catalogue.h"
#include "store/download.h"

namespace shoal {

std::string hugging_face_endpoint();  // without a slash at the end
// Everything but destination, checksum and size.
DownloadRequest hugging_face_request(const HuggingFaceSource& source,
                                     const NetworkPatience& patience);
struct HuggingFaceFile {
  std::string name;         // path inside the repository; of a split model its first part
  uint64_t size_bytes = 0;  // of all parts; 0: the server does not say
};
// The models of a repository, in the order it lists them: .gguf files without what lies beside
// models (projectors, importance matrices). A split model counts once, and not where a part is
// missing. kNotFound when there are none.
Result<std::vector<HuggingFaceFile>> hugging_face_models(const std::string& repo,
                                                         const NetworkPatience& patience,
                                                         CancelFlag cancel);
// The one that "hf:owner/repo[:quant]" means among these: the one of that quant; without a quant
// the only one, or the first found of Q4_K_M and what else people use in its place. kNotFound and
// kInvalidArgument list the choices.
Result<HuggingFaceFile> choose_gguf_file(const std::string& repo,
                                         const std::vector<HuggingFaceFile>& files,
                                         const std::string& quant);
// `bytes` bytes of a file from `offset`, fewer at its end. For looking into files, not for
// fetching them: what comes is checked against nothing.
struct RemoteRange {
  Bytes bytes;
  uint64_t file_bytes = 0;  // of the whole file
};
Result<RemoteRange> hugging_face_range(const HuggingFaceSource& source, uint64_t offset,
                                       uint64_t bytes, const NetworkPatience& patience,
                                       CancelFlag cancel);

}  // namespace shoal
