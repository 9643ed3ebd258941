// The samplers that cut what may be drawn, each by its definition, on what the one before left and
// at the temperature so far. All keep at least one token. Pure functions of the pool; private to
// this module.
#pragma once

#include <cstdint>

#include "sampling/pool.h"

namespace shoal {

// The k likeliest (Fan et al., "Hierarchical neural story generation", 2018). Ties: lower tokens.
void keep_top_k(Pool& pool, int64_t k);
// The fewest of the likeliest whose probabilities reach p (Holtzman et al., "The curious case of
// neural text degeneration", 2019).
void keep_top_p(Pool& pool, double p);
// Those at least `min_p` times as likely as the likeliest (Nguyen et al., "Turning up the heat:
// min-p sampling", 2024).
void keep_min_p(Pool& pool, double min_p);
// Logits no more than n standard deviations (of the logits left) below the highest (Tang et al.,
// "Top-n-sigma: not all logits are you need", 2024).
void keep_top_n_sigma(Pool& pool, double n);
// The fewest of those whose surprise -log p is nearest to the entropy whose probabilities reach p
// (Meister et al., "Locally typical sampling", 2022).
void keep_typical(Pool& pool, double p);
// Of the tokens at least as likely as the threshold all but the least likely go ("Exclude top
// choices", as llama.cpp documents it); whether it happens this time is for the caller to draw.
void exclude_top_choices(Pool& pool, double threshold);

}  // namespace shoal
