// The best few of many logits. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace shoal {

struct ScoredToken {
  int32_t token;
  float logit;
};

// The order of candidates everywhere: falling logit, equal ones by rising token.
inline bool better(const ScoredToken& a, const ScoredToken& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// The best `count` of values (all of them when there are fewer), best first; values[i] belongs to
// token first_token + i. A value that is not a number counts as -inf. `best` is reused.
void select_top(std::span<const float> values, int32_t first_token, size_t count,
                std::vector<ScoredToken>& best);

}  // namespace shoal
