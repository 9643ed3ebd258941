// The lead's intake: turns requests into token ids (template, tokenizer) on a thread of its own, so
// that a long prompt does not hold up those who are generating.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "chat/chat_template.h"
#include "supervise/protocol.h"
#include "tokenizer/tokenizer.h"

namespace shoal {

struct PreparedRequest {
  uint64_t id = 0;
  GenerateRequest request;
  std::vector<int32_t> prompt;
  std::vector<SamplingDefault> defaults;  // that were set in `request`
  Clock::time_point arrived;
};

class Intake {
 public:
  // `context`: the positions of a sequence. `catalogue`: what it recommends for sampling; where it
  // is silent the file's metadata counts.
  static Result<Intake> create(const gguf::File& file, int64_t context,
                               std::vector<SamplingDefault> catalogue);

  // Renders, tokenises, and sets the sampling parameters that the request leaves to the model.
  // kInvalidArgument for a conversation that the template refuses, ids
  // outside the vocabulary, a prompt without tokens; kContextLength for a text that is too long
  // whatever its tokens; kUnsupported for a chat with a model that has no template.
  Result<PreparedRequest> prepare(uint64_t id, GenerateRequest request) const;

  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Intake(Tokenizer tokenizer, std::optional<ChatTemplate> chat_template, int64_t context,
         std::vector<SamplingDefault> defaults)
      : tokenizer_(std::move(tokenizer)),
        chat_template_(std::move(chat_template)),
        context_(context),
        defaults_(std::move(defaults)) {}
  Result<std::vector<int32_t>> tokenise(const GenerateRequest& request) const;
  Status check_bias(const std::vector<LogitBias>& bias) const;

  Tokenizer tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  int64_t context_;
  std::vector<SamplingDefault> defaults_;
};

}  // namespace shoal
