#include "sampling/history.h"

#include <algorithm>

namespace shoal {

TokenHistory::TokenHistory(std::vector<std::string> breakers) : breakers_(std::move(breakers)) {
  std::erase_if(breakers_, [](const std::string& breaker) { return breaker.empty(); });
  for (const std::string& breaker : breakers_)
    longest_breaker_ = std::max(longest_breaker_, breaker.size());
}

void TokenHistory::add(int32_t token, std::string_view bytes) {
  const size_t before = tail_.size();
  tail_ += bytes;
  bool whole = false;
  bool touched = false;
  for (const std::string& breaker : breakers_) {
    whole |= bytes.find(breaker) != std::string_view::npos;
    // One that ends inside this token's bytes.
    const size_t first = before >= breaker.size() ? before - breaker.size() + 1 : 0;
    touched |= tail_.find(breaker, first) != std::string::npos;
  }
  if (tail_.size() >= longest_breaker_) {
    tail_.erase(0, tail_.size() - (longest_breaker_ == 0 ? 0 : longest_breaker_ - 1));
  }
  tokens_.push_back(token);
  holds_breaker_.push_back(whole);
  since_breaker_ = touched ? 0 : since_breaker_ + 1;
}

}  // namespace shoal
