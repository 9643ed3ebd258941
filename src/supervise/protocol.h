// What a daemon and its worker say to each other over their socket pair, and the one internal form
// of a request and of the events that answer it. Every frame is a 4-byte little-endian length and
// JSON; a frame may carry one descriptor (SCM_RIGHTS). docs/formats/worker-protocol.md lists the
// frames.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "sampling/defaults.h"
#include "sampling/sampler.h"

namespace shoal {

// One request for text, whichever dialect it came in.
struct GenerateRequest {
  std::string model;
  bool chat = false;
  OrderedJson messages = OrderedJson::array();  // chat: role, content, ...
  OrderedJson tools = OrderedJson::array();
  OrderedJson template_arguments = OrderedJson::object();
  std::string prompt;                  // completion: text, or
  std::vector<int32_t> prompt_tokens;  // token ids, when not empty
  bool echo = false;        // the prompt's text first; with logprobs, its tokens' log probabilities
  int64_t max_tokens = -1;  // -1: up to the context
  SamplingParameters sampling;
  std::vector<std::string> sampling_named;  // by the request: the others are the model's to choose
  std::vector<std::string> stop;
  std::vector<int32_t> stop_tokens;
  bool ignore_end = false;  // generate past end-of-turn tokens (benchmarks)
};
OrderedJson to_json(const GenerateRequest& request);
Result<GenerateRequest> generate_request_from_json(const OrderedJson& json);

// What a client is told whose answer ends because a rank of the model was lost.
inline Error cut_off(const Error& cause) {
  return {ErrorCode::kUnreachable,
          fmt::format("the answer was cut off: {}. The model is being restarted; ask again",
                      cause.message)};
}

struct TokenLogprob {
  int32_t token = 0;
  std::string bytes;   // may be half a character
  double logprob = 0;  // NaN: the first token of an echoed prompt has none
  std::vector<TokenLogprob> alternatives;
};

// What one sampler left to be drawn: SamplerStage of sampling/sampler.h, with the tokens' bytes.
struct SamplerReport {
  struct Candidate {
    int32_t token = 0;
    std::string bytes;
    double before = 0;  // probabilities
    double after = 0;
  };
  std::string name;
  int64_t kept = 0;
  std::vector<Candidate> best;
};

struct Timings {
  double queue_s = 0;
  double prefill_s = 0;
  double decode_s = 0;  // after the first token
  double prefill_tokens_per_s() const;
  double decode_tokens_per_s() const;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
};

// The stream that answers a request: one kAccepted, kTokens numbered from 0 without gaps, then one
// kDone or kError.
struct Event {
  enum class Kind { kAccepted, kToken, kDone, kError };
  Kind kind = Kind::kToken;
  int64_t number = 0;                         // kToken
  int32_t token = 0;                          // kToken
  std::string text;                           // kToken: complete characters only, may be empty
  std::optional<TokenLogprob> logprob;        // kToken, when asked for
  std::vector<SamplerReport> samplers;        // kToken, with sampling.sampler_trace
  std::vector<TokenLogprob> prompt_logprobs;  // kAccepted of an echoed prompt
  std::string prompt_text;                    // kAccepted of an echoed prompt
  int64_t prompt_tokens = 0;                  // kAccepted
  // kAccepted, with sampling.sampler_trace: what the model's recommendations set.
  std::vector<SamplingDefault> sampling_defaults;
  std::string finish_reason;  // kDone: "stop", "length"
  Timings timings;            // kDone
  Error error;                // kError
};
Json to_json(const Event& event);
Result<Event> event_from_json(const Json& json);

}  // namespace shoal
