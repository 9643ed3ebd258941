// How threads share the units of a product: equal parts of the first three quarters, and the rest
// in pieces that whoever is done claims. Neither the memory nor the machine's owner serves threads
// equally, and a step waits for the last. One for each product; take() from every thread of it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace shoal::kernels {

class UnitClaims {
 public:
  UnitClaims(int64_t units, int64_t piece, int64_t threads)
      : units_(units),
        piece_(std::max<int64_t>(1, piece)),
        threads_(threads),
        next_(threads == 1 ? units : units - units / 4) {
    shared_ = next_.load();
  }

  // Calls work(begin, end) for the units of thread `index`; each unit is taken once.
  template <typename Work>
  void take(int64_t index, const Work& work) {
    const int64_t begin = shared_ * index / threads_, end = shared_ * (index + 1) / threads_;
    if (begin < end) work(begin, end);
    for (int64_t at; (at = next_.fetch_add(piece_, std::memory_order_relaxed)) < units_;)
      work(at, std::min(at + piece_, units_));
  }

 private:
  int64_t units_, piece_, threads_;
  int64_t shared_ = 0;  // units before this one are dealt out in advance
  std::atomic<int64_t> next_;
};

}  // namespace shoal::kernels
