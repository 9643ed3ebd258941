// Answers in OpenAI's shapes, whole and in chunks. Private to this module; pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/request.h"

namespace shoal::api {

// One choice of a whole answer, as it grows, or a piece of one.
struct Choice {
  std::string text;
  std::vector<TokenLogprob> logprobs;                // of the echoed prompt too
  std::vector<std::vector<SamplerReport>> samplers;  // one for each token, when asked for
  std::optional<std::vector<SamplingDefault>> sampling_defaults;  // with the first of them
  std::string finish_reason;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

class AnswerShape {
 public:
  // `id_random`: hexadecimal digits that no other answer has.
  AnswerShape(const Question& question, const std::string& id_random, int64_t created_s);

  // `timings` null: left out.
  OrderedJson whole(const std::vector<Choice>& choices, const Usage& usage,
                    const Timings* timings) const;

  // Chunks, in the order of a stream.
  OrderedJson first_chunk(size_t index) const;  // of a chat: the role
  // `text_before`: characters that this choice has sent before, for the offsets of its tokens.
  OrderedJson text_chunk(size_t index, const Choice& piece, int64_t text_before) const;
  OrderedJson last_chunk(size_t index, const std::string& finish_reason,
                         const Timings* timings) const;
  OrderedJson usage_chunk(const Usage& usage) const;

 private:
  OrderedJson head(const char* chat_object) const;
  OrderedJson chunk(OrderedJson choice) const;
  OrderedJson logprobs_json(const std::vector<TokenLogprob>& tokens, int64_t text_before) const;

  std::string id_;
  std::string model_;
  int64_t created_s_;
  bool chat_;
  bool logprobs_;
  bool include_usage_;
};

// Whole characters begun in these bytes.
int64_t character_count(std::string_view bytes);

}  // namespace shoal::api
