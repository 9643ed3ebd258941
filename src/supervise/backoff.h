// How long to wait before a worker is started again. Pure; the caller brings the time.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace shoal {

class RestartBackoff {
 public:
  static constexpr Clock::duration kFirst = std::chrono::milliseconds(500);
  static constexpr Clock::duration kLongest = std::chrono::seconds(30);
  static constexpr Clock::duration kHealthy = std::chrono::seconds(60);

  // Of a worker that ran from `started` to `died`: 0.5 s after the first failure, then twice as
  // long each time, at most 30 s; from the start again after one that lived for a minute.
  Clock::duration next(Clock::time_point started, Clock::time_point died) {
    if (died - started >= kHealthy) reset();
    ++failures_;
    const Clock::duration wait = wait_;
    wait_ = std::min(wait_ * 2, kLongest);
    return wait;
  }
  void reset() {
    failures_ = 0;
    wait_ = kFirst;
  }
  int failures() const { return failures_; }  // in a row

 private:
  int failures_ = 0;
  Clock::duration wait_ = kFirst;
};

}  // namespace shoal
