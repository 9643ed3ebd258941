#include "worker/intake.h"

#include "base/log.h"

namespace shoal {

Result<Intake> Intake::create(const gguf::File& file, int64_t context,
                              std::vector<SamplingDefault> catalogue) {
  SHOAL_ASSIGN(Tokenizer tokenizer, Tokenizer::from_gguf(file));
  SHOAL_ASSIGN(std::optional<ChatTemplate> chat_template, ChatTemplate::from_gguf(file));
  if (chat_template && !chat_template->default_name().empty()) {
    log::info("the model brings no chat template; that of {} is used, by its special tokens",
              chat_template->default_name());
  }
  const FileSampling of_file = sampling_of_file(file);
  for (const std::string& sentence : of_file.ignored) log::warn("{}", sentence);
  // The catalogue first: a person can read and change it (HOME/catalogue.toml), a file stays as it
  // was converted.
  return Intake(std::move(tokenizer), std::move(chat_template), context,
                merged(std::move(catalogue), of_file.defaults));
}

Result<std::vector<int32_t>> Intake::tokenise(const GenerateRequest& request) const {
  if (!request.chat && !request.prompt_tokens.empty()) {
    for (const int32_t token : request.prompt_tokens) {
      if (token < 0 || token >= tokenizer_.vocabulary_size()) {
        return fail(ErrorCode::kInvalidArgument,
                    "prompt holds the token id {}, but this model's ids are 0 to {}", token,
                    tokenizer_.vocabulary_size() - 1);
      }
    }
    return request.prompt_tokens;
  }
  std::string text = request.prompt;
  if (request.chat) {
    if (!chat_template_) {
      return fail(ErrorCode::kUnsupported,
                  "this model has no chat template: it continues texts; use /v1/completions, or a "
                  "model made for chat");
    }
    SHOAL_ASSIGN(text, chat_template_->render(request.messages, request.tools, true,
                                              request.template_arguments));
  }
  // Before the work of encoding it: nobody waits for the megabytes that cannot fit.
  const int64_t fewest = static_cast<int64_t>(text.size()) / tokenizer_.longest_token_bytes();
  if (fewest > context_) {
    return fail(ErrorCode::kContextLength,
                "the prompt has {} bytes, which are more than {} tokens, and the context is {} "
                "tokens; shorten it, or place the model with a larger context",
                text.size(), fewest, context_);
  }
  SHOAL_ASSIGN(std::vector<int32_t> tokens, tokenizer_.encode(text, true));
  // A template that writes BOS itself gets no second one.
  const auto bos = tokenizer_.bos();
  if (tokenizer_.adds_bos() && bos && (tokens.empty() || tokens.front() != *bos))
    tokens.insert(tokens.begin(), *bos);
  return tokens;
}

Status Intake::check_bias(const std::vector<LogitBias>& bias) const {
  for (const LogitBias& entry : bias) {
    if (entry.token < tokenizer_.vocabulary_size()) continue;
    return fail(ErrorCode::kInvalidArgument,
                "'logit_bias' names the token id {}, but this model's ids are 0 to {}", entry.token,
                tokenizer_.vocabulary_size() - 1);
  }
  return {};
}

Result<PreparedRequest> Intake::prepare(uint64_t id, GenerateRequest request) const {
  PreparedRequest prepared;
  prepared.id = id;
  prepared.arrived = Clock::now();
  SHOAL_ASSIGN(prepared.prompt, tokenise(request));
  if (prepared.prompt.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "the prompt is empty; give at least one character or token");
  }
  SHOAL_TRY(check_bias(request.sampling.logit_bias));
  prepared.defaults = apply(defaults_, request.sampling_named, request.sampling);
  prepared.request = std::move(request);
  return prepared;
}

}  // namespace shoal
