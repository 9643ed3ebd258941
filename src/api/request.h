// OpenAI's request bodies, checked field by field. Private to this module; pure.
#pragma once

#include <string_view>
#include <vector>

#include "api/error.h"
#include "supervise/protocol.h"

namespace shoal::api {

// One HTTP request: every choice of its answer is one GenerateRequest.
struct Question {
  std::string model;
  bool chat = false;
  bool stream = false;
  bool include_usage = false;
  bool logprobs = false;
  size_t choices_per_prompt = 1;         // n
  std::vector<GenerateRequest> choices;  // never empty; those of one prompt lie together
};

inline constexpr size_t kMostChoices = 16;

// Unknown fields are ignored; known ones of the wrong type or range, and known ones that Shoal
// cannot honour, are refused by name. `seed` is for requests that bring none.
Outcome<Question> parse_chat(std::string_view body, uint64_t seed);
Outcome<Question> parse_completion(std::string_view body, uint64_t seed);

}  // namespace shoal::api
