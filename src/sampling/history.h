// What a sequence has said so far, prompt and answer, as penalties see it. Belongs to one sequence;
// one thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

class TokenHistory {
 public:
  TokenHistory() = default;
  // DRY looks for repetitions only within what lies between two of these strings.
  explicit TokenHistory(std::vector<std::string> breakers);

  // `bytes`: what the token adds to the text; needed for breakers alone.
  void add(int32_t token, std::string_view bytes = {});

  std::span<const int32_t> tokens() const { return tokens_; }
  // The tokens after the last one that touches a breaker. A breaker is found in the text, so it
  // does not matter how the tokenizer cuts it.
  size_t since_breaker() const { return since_breaker_; }
  bool holds_breaker(size_t index) const { return holds_breaker_[index]; }  // a whole one by itself

 private:
  std::vector<std::string> breakers_;
  size_t longest_breaker_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<bool> holds_breaker_;
  std::string tail_;  // of the text: what may be the beginning of a breaker
  size_t since_breaker_ = 0;
};

}  // namespace shoal
