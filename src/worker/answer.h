// One request being answered: from rows' results to numbered events. Used by the lead's computing
// thread alone.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "sampling/sampler.h"
#include "supervise/protocol.h"
#include "tokenizer/tokenizer.h"
#include "worker/intake.h"

namespace shoal {

class Answer {
 public:
  Answer(PreparedRequest prepared, const Tokenizer& tokenizer,
         std::function<void(const Event&)> emit);

  // What the rows of this request must return, and how many candidates when that is what they do.
  Want want() const;
  uint32_t candidate_count() const;

  void admitted(int64_t max_tokens);  // the scheduler took it; max_tokens as clamped
  // The result of a prompt row that asked for logits: it predicts the prompt's token at position
  // + 1. True when that completes the answer, because nothing is to be generated.
  bool scored_prompt(int64_t position, const RowResult& row);
  // The result of the row at `position`, which chooses the token at position + 1. Returns that
  // token while generation goes on, nothing when the answer is complete (its last event has been
  // emitted).
  std::optional<int32_t> sampled(int64_t position, const RowResult& row);
  void failed(const Error& error);

  uint64_t id() const { return prepared_.id; }
  const PreparedRequest& prepared() const { return prepared_; }

 private:
  TokenLogprob logprob_of(int32_t token, double logprob,
                          const std::vector<std::pair<int32_t, double>>& alternatives) const;
  void remember(int32_t token);
  Sampled choose(uint64_t position, const RowResult& row);
  std::vector<SamplerReport> reports_of(const std::vector<SamplerStage>& stages) const;
  bool ends(int32_t token) const;
  void accept_prompt();
  void complete(std::string reason);

  PreparedRequest prepared_;
  const Tokenizer* tokenizer_;
  std::function<void(const Event&)> emit_;
  Detokenizer detokenizer_;
  StopStrings stops_;
  bool remembers_;  // the sampler looks at what was said
  TokenHistory history_;
  std::vector<TokenLogprob> prompt_logprobs_;
  int64_t max_tokens_ = 0;
  int64_t output_tokens_ = 0;
  bool accepted_ = false;
  Clock::time_point started_;
  Clock::time_point first_token_;
};

}  // namespace shoal
