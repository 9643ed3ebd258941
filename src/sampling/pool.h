// The tokens that may still be drawn while samplers run one after another: at first the whole
// vocabulary, unsorted, or candidates; once a sampler has cut it to few, a list, best first. The
// probability of a token that is left is exp(logit / temperature) over the sum of all that are
// left. One thread; private to this module.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "sampling/top.h"

namespace shoal {

// A logit becomes (above 0: logit / divisor, else logit * divisor) - subtrahend.
struct LogitChange {
  int32_t token;
  double divisor = 1;
  double subtrahend = 0;
};

class Pool {
 public:
  // Both keep a view of what they are given. At least one; candidates are best first.
  explicit Pool(std::span<const float> logits);
  explicit Pool(std::span<const ScoredToken> candidates);

  bool listed() const { return listed_; }
  double temperature() const { return temperature_; }
  // The highest logit left; never +inf, so that differences from it are numbers.
  float highest() const;
  // The sum of exp((logit - highest) / temperature) over what is left.
  double total() const;
  double weight(float logit, float highest) const;
  // How many may be drawn. Costs a pass over the vocabulary.
  int64_t count() const;
  // The best `count` of what is left, best first; fewer when no more are left. Valid until the next
  // call.
  std::span<const ScoredToken> best(size_t count) const;
  // Calls keep_going(best few) with 128 and then ever more of the best, until it returns false or
  // was given all that is left.
  template <typename F>
  void grow_best(F keep_going) const {
    for (size_t count = 128;; count *= 4) {
      const std::span<const ScoredToken> few = best(count);
      if (!keep_going(few) || few.size() < count) return;
    }
  }
  // Calls visit(token, logit) for all that is left, in no particular order.
  template <typename F>
  void for_each(F visit) const {
    if (listed_) {
      for (const ScoredToken& one : list_) visit(one.token, one.logit);
      return;
    }
    for (size_t i = 0; i < logits_.size(); ++i) {
      if (left(logits_[i])) visit(static_cast<int32_t>(i), logits_[i]);
    }
  }

  void keep_best(size_t count);                       // at least 1
  void keep_from(double lowest);                      // logits at least so high; the best always
  void keep(std::vector<ScoredToken> tokens);         // which are left; not empty; in any order
  void remove_best(size_t count);                     // fewer than are left
  void change(std::span<const LogitChange> changes);  // rising tokens, each once
  void scale(double temperature);                     // above 0

  // One of those left, by a number from 0 to below 1.
  int32_t draw(double random) const;

 private:
  bool left(float logit) const {
    return logit >= floor_ && logit > -std::numeric_limits<float>::infinity();
  }
  void own_logits();
  int32_t draw_from_list(double random) const;
  int32_t draw_from_all(double random) const;

  bool listed_;
  std::span<const float> logits_;  // not listed: the vocabulary; in own_ once changed
  std::vector<float> own_;
  double floor_ = -std::numeric_limits<double>::infinity();  // not listed: what lies below is cut
  std::vector<ScoredToken> list_;
  double temperature_ = 1;
  mutable std::vector<ScoredToken> few_;  // the last answer of best(); empty once the pool changed
};

}  // namespace shoal
