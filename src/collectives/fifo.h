// Fifo: a queue in one piece of memory, which it keeps. Allocates only while it grows.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace shoal {

template <typename T>
class Fifo {
 public:
  bool empty() const { return head_ == items_.size(); }
  size_t size() const { return items_.size() - head_; }
  T& front() { return items_[head_]; }
  T& operator[](size_t i) { return items_[head_ + i]; }
  void push(T item) {
    // At most as many moves as items have left since the last time.
    if (head_ > 0 && head_ >= size()) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    items_.push_back(std::move(item));
  }
  void pop() { ++head_; }

 private:
  std::vector<T> items_;
  size_t head_ = 0;
};

}  // namespace shoal
