#include "store/hugging_face.h"

#include <algorithm>
#include <cstdlib>

#include "base/json.h"
#include "store/model_name.h"

namespace shoal {
namespace {

constexpr const char* kUsualQuant =
    "Q4_K_M";  // what most people mean by "the" quantisation of a model

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

HttpOptions hugging_face_options(const NetworkPatience& patience) {
  HttpOptions options;
  options.patience = patience;
  const std::string token = environment("HF_TOKEN");
  if (!token.empty() && token.find_first_of("\r\n") == std::string::npos) {
    options.headers.push_back("Authorization: Bearer " + token);
  }
  return options;
}

std::string permission_hint() {
  if (environment("HF_TOKEN").empty()) {
    return "the repository is private, asks for consent, or does not exist; if you may read it, "
           "set HF_TOKEN to an access "
           "token of yours";
  }
  return "the token in HF_TOKEN may not read this repository, or the repository does not exist; "
         "open its page and accept "
         "its terms if it has any";
}

std::string listed(const std::vector<std::string>& files) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(files.size(), 40); ++i) text += "\n  " + files[i];
  if (files.size() > 40) text += fmt::format("\n  and {} more", files.size() - 40);
  return text;
}

}  // namespace

std::string hugging_face_endpoint() {
  std::string endpoint = environment("HF_ENDPOINT");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint.empty() ? "https://huggingface.co" : endpoint;
}

DownloadRequest hugging_face_request(const HuggingFaceSource& source,
                                     const NetworkPatience& patience) {
  DownloadRequest request;
  request.url =
      fmt::format("{}/{}/resolve/{}/{}", hugging_face_endpoint(), encode_path(source.repo),
                  encode_path(source.revision), encode_path(source.file));
  request.expected_start = is_gguf_name(source.file) ? "GGUF" : "";
  request.permission_hint = permission_hint();
  request.http = hugging_face_options(patience);
  return request;
}

Result<std::vector<std::string>> hugging_face_gguf_files(const std::string& repo,
                                                         const NetworkPatience& patience,
                                                         CancelFlag cancel) {
  const std::string url =
      fmt::format("{}/api/models/{}", hugging_face_endpoint(), encode_path(repo));
  auto document = http_get_document(url, hugging_face_options(patience), 32 << 20, cancel);
  if (!document) {
    Error error = document.error();
    if (error.code == ErrorCode::kPermission) error.message += "; " + permission_hint();
    return std::unexpected(error);
  }
  const auto json = parse_json(document->text);
  if (!json || !json->is_object() || !json->contains("siblings") ||
      !json->at("siblings").is_array()) {
    return fail(ErrorCode::kCorrupt, "{} did not answer with a list of files", shown_url(url));
  }
  std::vector<std::string> files;
  for (const Json& sibling : json->at("siblings")) {
    const auto name = json_field<std::string>(sibling, "rfilename");
    if (name && is_gguf_name(*name) && is_plain_relative_path(*name)) files.push_back(*name);
  }
  if (files.empty())
    return fail(ErrorCode::kNotFound, "the repository {} holds no .gguf file", repo);
  return files;
}

Result<std::string> choose_gguf_file(const std::string& repo, const std::vector<std::string>& files,
                                     const std::string& quant) {
  if (quant.empty() && files.size() == 1) return files.front();
  const std::string wanted = quant.empty() ? kUsualQuant : quant;
  std::vector<std::string> fitting;
  for (const std::string& file : files) {
    if (has_quant(file, wanted)) fitting.push_back(file);
  }
  if (fitting.size() == 1) return fitting.front();
  if (quant.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "{} holds several files; name one as hf:{}/FILE or hf:{}:QUANT:{}", repo, repo,
                repo, listed(files));
  }
  if (fitting.empty()) {
    return fail(ErrorCode::kNotFound, "{} has no file of the quantisation {}; it has:{}", repo,
                quant, listed(files));
  }
  return fail(ErrorCode::kInvalidArgument,
              "{} has several files of the quantisation {}; name one as hf:{}/FILE:{}", repo, quant,
              repo, listed(fitting));
}

}  // namespace shoal
