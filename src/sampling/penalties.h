// How logits change before and between the filters: bias, penalties of what was said, DRY. Pure;
// private to this module.
#pragma once

#include <vector>

#include "sampling/history.h"
#include "sampling/parameters.h"
#include "sampling/pool.h"

namespace shoal {

// Each in rising order of tokens, each token once.

std::vector<LogitChange> biases(const SamplingParameters& parameters);

// Repetition (Keskar et al., "CTRL", 2019, section 4.1; a logit below 0 is multiplied, as in
// Hugging Face's and llama.cpp's form, so that it falls too); frequency, for each occurrence, and
// presence, once (OpenAI's API reference). Over the last `repeat_last_n` tokens of prompt and
// answer.
std::vector<LogitChange> penalties(const TokenHistory& history,
                                   const SamplingParameters& parameters);

// DRY ("Don't repeat yourself", as llama.cpp documents it): a token that would lengthen a
// repetition of the n tokens before it loses multiplier * base ^ (n - allowed_length), if n is at
// least that. Repetitions begin after the last breaker; a token that is a breaker itself loses
// nothing.
std::vector<LogitChange> dry_penalties(const TokenHistory& history,
                                       const SamplingParameters& parameters);

}  // namespace shoal
