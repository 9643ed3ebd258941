// Files of Hugging Face repositories. HF_ENDPOINT names another server of the same interface;
// HF_TOKEN, if set, is sent to it and to nobody it redirects to. Blocking; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "store/catalogue.h"
#include "store/download.h"

namespace shoal {

std::string hugging_face_endpoint();  // without a slash at the end
// Everything but destination, checksum and size.
DownloadRequest hugging_face_request(const HuggingFaceSource& source,
                                     const NetworkPatience& patience);
// The .gguf files of a repository, in the order it lists them. kNotFound when there are none.
Result<std::vector<std::string>> hugging_face_gguf_files(const std::string& repo,
                                                         const NetworkPatience& patience,
                                                         CancelFlag cancel);
// The one file that "hf:owner/repo[:quant]" means among these: the one of that quant; without a
// quant the only one, or the one in Q4_K_M. kNotFound and kInvalidArgument list the choices.
Result<std::string> choose_gguf_file(const std::string& repo, const std::vector<std::string>& files,
                                     const std::string& quant);

}  // namespace shoal
