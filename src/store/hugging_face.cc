#include "store/hugging_face.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>

#include "base/json.h"
#include "store/model_name.h"
#include "store/model_parts.h"

namespace shoal {
namespace {

// What people mean by "the" quantisation of a model, the first that there is: first the usual
// compromise, then what is near it, then what is bigger than needed.
constexpr std::array kUsualQuants = {"Q4_K_M", "MXFP4",  "Q4_K_S", "Q4_0", "Q4_1", "IQ4_XS",
                                     "IQ4_NL", "Q5_K_M", "Q5_K_S", "Q5_0", "Q6_K", "Q8_0",
                                     "Q3_K_L", "Q3_K_M", "BF16",   "F16"};

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

std::string listed(const std::vector<HuggingFaceFile>& files) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(files.size(), 40); ++i) text += "\n  " + files[i].name;
  if (files.size() > 40) text += fmt::format("\n  and {} more", files.size() - 40);
  return text;
}

// Parts of split models become one each; those that lack a part are left out.
std::vector<HuggingFaceFile> joined_parts(const std::vector<HuggingFaceFile>& files) {
  std::map<std::string, uint64_t> sizes;
  for (const HuggingFaceFile& file : files) sizes[file.name] = file.size_bytes;
  std::vector<HuggingFaceFile> models;
  for (const HuggingFaceFile& file : files) {
    const std::vector<std::string> parts = files_of_model(file.name);
    if (parts.front() != file.name) continue;
    const bool is_whole =
        std::ranges::all_of(parts, [&](const std::string& part) { return sizes.contains(part); });
    if (!is_whole) continue;
    HuggingFaceFile model{file.name, 0};
    for (const std::string& part : parts) model.size_bytes += sizes[part];
    const bool all_known =
        std::ranges::all_of(parts, [&](const std::string& part) { return sizes[part] > 0; });
    if (!all_known) model.size_bytes = 0;
    models.push_back(std::move(model));
  }
  return models;
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

Result<std::vector<HuggingFaceFile>> hugging_face_models(const std::string& repo,
                                                         const NetworkPatience& patience,
                                                         CancelFlag cancel) {
  const std::string url =
      fmt::format("{}/api/models/{}?blobs=true", hugging_face_endpoint(), encode_path(repo));
  auto document = http_get_document(url, hugging_face_options(patience), 32 << 20, cancel);
  if (!document) {
    Error error = document.error();
    if (error.code == ErrorCode::kPermission) error.message += "; " + permission_hint();
    if (error.code == ErrorCode::kNotFound) {
      error.message += fmt::format(
          "; there is no repository {}: look at the spelling of owner and repository, where small "
          "and capital letters count",
          repo);
    }
    return std::unexpected(error);
  }
  const auto json = parse_json(document->text);
  if (!json || !json->is_object() || !json->contains("siblings") ||
      !json->at("siblings").is_array()) {
    return fail(ErrorCode::kCorrupt, "{} did not answer with a list of files", shown_url(url));
  }
  std::vector<HuggingFaceFile> files;
  for (const Json& sibling : json->at("siblings")) {
    const auto name = json_field<std::string>(sibling, "rfilename");
    if (!name || !is_gguf_name(*name) || !is_plain_relative_path(*name) || is_companion_name(*name))
      continue;
    const auto size_bytes = json_field<uint64_t>(sibling, "size");
    files.push_back({*name, size_bytes.value_or(0)});
  }
  std::vector<HuggingFaceFile> models = joined_parts(files);
  if (models.empty()) {
    return fail(ErrorCode::kNotFound,
                "the repository {} holds no {}; a repository of the same name with GGUF in it may",
                repo, files.empty() ? ".gguf file of a model" : "split model with all its parts");
  }
  return models;
}

Result<HuggingFaceFile> choose_gguf_file(const std::string& repo,
                                         const std::vector<HuggingFaceFile>& files,
                                         const std::string& quant) {
  if (quant.empty() && files.size() == 1) return files.front();
  const auto of_quant = [&](std::string_view wanted) {
    std::vector<HuggingFaceFile> fitting;
    for (const HuggingFaceFile& file : files) {
      if (has_quant(file.name, wanted)) fitting.push_back(file);
    }
    return fitting;
  };
  std::vector<HuggingFaceFile> fitting;
  if (!quant.empty()) {
    fitting = of_quant(quant);
  } else {
    for (const char* usual : kUsualQuants) {
      if (fitting.empty()) fitting = of_quant(usual);
    }
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

Result<RemoteRange> hugging_face_range(const HuggingFaceSource& source, uint64_t offset,
                                       uint64_t bytes, const NetworkPatience& patience,
                                       CancelFlag cancel) {
  const DownloadRequest request = hugging_face_request(source, patience);
  for (int failures = 0;;) {
    RemoteRange range;
    bool enough = false;
    HttpHandlers handlers;
    handlers.on_head = [&](const ResponseHead& head) -> Status {
      if (head.status != 200 && head.status != 206) return {};
      const bool is_part = head.status == 206;
      if ((is_part && head.range_begin != offset) || (!is_part && offset > 0)) {
        return fail(ErrorCode::kUnsupported,
                    "{} does not send parts of files, which looking into one needs; pull it",
                    shown_url(request.url));
      }
      range.file_bytes = (is_part ? head.range_total : head.content_length).value_or(0);
      if (range.file_bytes > 0) return {};
      return fail(ErrorCode::kUnsupported, "{} does not say how long the file is; pull it",
                  shown_url(request.url));
    };
    handlers.on_body = [&](std::span<const std::byte> more) -> Status {
      const auto room = static_cast<size_t>(bytes - range.bytes.size());
      more = more.first(std::min(room, more.size()));
      range.bytes.insert(range.bytes.end(), more.begin(), more.end());
      enough = range.bytes.size() == bytes;
      // A server that sends more than was asked for is not listened to any longer.
      return enough ? Status(fail(ErrorCode::kCancelled, "enough")) : Status();
    };
    HttpOptions options = request.http;
    options.range_bytes = bytes;
    const HttpOutcome outcome = http_get(request.url, offset, options, handlers, cancel);
    const uint64_t most = std::min(bytes, range.file_bytes - std::min(range.file_bytes, offset));
    const bool is_success = outcome.head.status == 200 || outcome.head.status == 206;
    if (enough || (is_success && !outcome.error && range.bytes.size() == most)) return range;
    Error error = outcome.error ? *outcome.error : status_error(outcome.head, request.url);
    if (!outcome.error && is_success)
      error = {ErrorCode::kUnreachable, shown_url(request.url) + " ended early"};
    if (outcome.head.status == 401 || outcome.head.status == 403)
      error.message += "; " + request.permission_hint;
    const bool may_pass =
        outcome.error ? outcome.may_pass : is_success || is_passing_status(outcome.head.status);
    if (!may_pass || ++failures >= patience.attempts ||
        !pause_unless_cancelled(
            pause_before_attempt_ms(patience, failures, outcome.head.retry_after_s), cancel)) {
      return std::unexpected(error);
    }
  }
}

}  // namespace shoal
