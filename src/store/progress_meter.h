// Turns the bytes of a transfer into reports that people can read: ten a second at most, with a
// smoothed speed. One thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"
#include "store/download.h"

namespace shoal {

class ProgressMeter {
 public:
  explicit ProgressMeter(OnTransfer on_transfer) : on_transfer_(std::move(on_transfer)) {}

  void restart(uint64_t done_bytes) {
    last_bytes_ = done_bytes;
    last_time_ = Clock::now();
    bytes_per_s_ = 0;
  }

  void show(uint64_t done_bytes, uint64_t total_bytes, bool checking = false) {
    const double elapsed_s = seconds_since(last_time_);
    if (elapsed_s < 0.1 || !on_transfer_) return;
    const double now =
        static_cast<double>(done_bytes - std::min(done_bytes, last_bytes_)) / elapsed_s;
    bytes_per_s_ = bytes_per_s_ == 0 ? now : 0.8 * bytes_per_s_ + 0.2 * now;
    last_bytes_ = done_bytes;
    last_time_ = Clock::now();
    on_transfer_({checking, done_bytes, total_bytes, bytes_per_s_});
  }

  void finish(uint64_t done_bytes, uint64_t total_bytes) {
    if (on_transfer_) on_transfer_({false, done_bytes, total_bytes, bytes_per_s_});
  }

 private:
  OnTransfer on_transfer_;
  uint64_t last_bytes_ = 0;
  Clock::time_point last_time_ = Clock::now();
  double bytes_per_s_ = 0;
};

}  // namespace shoal
