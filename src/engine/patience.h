// How long a rank waits for another before it gives it up: long enough for the slowest honest step,
// short enough that a stopped machine is noticed. Learnt from this rank's own steps, as a plan's
// ranks compute about equally long. Pure; one thread.
#pragma once

#include <algorithm>
#include <chrono>

namespace shoal {

class Patience {
 public:
  // `least`: for an answer that needs no computing.
  explicit Patience(std::chrono::milliseconds least) : least_s_(seconds_of(least)) {}

  // A step of so many rows begins here.
  void begin(size_t rows, bool generated_only) {
    rows_ = static_cast<double>(rows);
    generated_only_ = generated_only;
  }
  // It took this rank so long to compute.
  void finished(double compute_s) {
    double& known = generated_only_ ? generated_row_s_ : prompt_row_s_;
    // The longest of late, so that one hiccup is forgotten.
    known = std::max(compute_s / std::max(rows_, 1.0), kForgetting * known);
  }
  // For what others have to send in this step.
  std::chrono::nanoseconds for_a_part() const {
    const double row_s = generated_only_ ? generated_row_s_ : prompt_row_s_;
    const double step_s = row_s > 0 ? kTimesSlower * row_s * rows_ : kFirstTimes * least_s_;
    return nanoseconds_of(least_s_ + step_s);
  }

 private:
  static constexpr double kForgetting = 0.98;
  // Ranks of a plan are balanced to within tens of percent, and a loaded machine may halve its
  // speed for a while.
  static constexpr double kTimesSlower = 4;
  // The first step of its kind touches memory for the first time, and nobody knows how long it
  // takes.
  static constexpr double kFirstTimes = 14;

  static double seconds_of(std::chrono::milliseconds duration) {
    return std::chrono::duration<double>(duration).count();
  }
  static std::chrono::nanoseconds nanoseconds_of(double seconds) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(seconds));
  }

  double least_s_;
  double rows_ = 1;
  bool generated_only_ = false;
  double generated_row_s_ = 0;
  double prompt_row_s_ = 0;
};

}  // namespace shoal
