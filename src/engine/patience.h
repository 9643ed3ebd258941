// How long a rank waits for another before it gives it up: long enough for the slowest honest step,
// short enough that a stopped machine is noticed. Learnt from this rank's own steps, and before the
// first from one that it tried alone, as a plan's ranks compute about equally long. Pure; one
// thread.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <vector>

namespace shoal {

// What a step of so many rows took this rank to compute.
struct StepTime {
  size_t rows = 0;
  double compute_s = 0;
};

class Patience {
 public:
  // `least`: for an answer that needs no computing. `steps_at_once`: other ranks may still compute
  // a step while this one has begun so many, that one included. `tried`: before the first step.
  Patience(std::chrono::milliseconds least, size_t steps_at_once, StepTime tried)
      : least_s_(std::chrono::duration<double>(least).count()), begun_rows_(steps_at_once, 0) {
    learn(tried);
  }

  // A step of so many rows begins here.
  void begin(size_t rows) {
    std::ranges::rotate(begun_rows_, begun_rows_.end() - 1);
    begun_rows_.front() = rows;
  }
  // It took this rank so long to compute.
  void finished(double compute_s) { learn({begun_rows_.front(), compute_s}); }
  // For what so many ranks compute of a step, one after the other, where this one has computed its
  // own for `so_far_s`.
  std::chrono::nanoseconds for_parts(size_t parts, double so_far_s) const {
    const double step_s = std::max(longest_s(), so_far_s);
    return in_ns(least_s_ + static_cast<double>(parts) * kTimesSlower * step_s);
  }

 private:
  static constexpr double kForgetting = 0.98;
  // Ranks of a plan are balanced to within tens of percent, and a loaded machine may halve its
  // speed for a while.
  static constexpr double kTimesSlower = 4;

  // Steps of about as many rows take about as long: sizes are powers of two.
  static constexpr size_t kSizes = 24;
  static size_t size_of(size_t rows) {
    return std::min<size_t>(static_cast<size_t>(std::bit_width(rows)), kSizes - 1);
  }
  void learn(StepTime step) {
    double& known_s = known_s_[size_of(step.rows)];
    // The longest of late, so that one hiccup is forgotten.
    known_s = std::max(step.compute_s, kForgetting * known_s);
  }
  // What a step of a size may take at most: a larger one's time, or a smaller one's times the rows.
  double known_or_bound_s(size_t size) const {
    for (size_t larger = size; larger < kSizes; ++larger) {
      if (known_s_[larger] > 0) return known_s_[larger];
    }
    for (size_t smaller = size; smaller-- > 0;) {
      if (known_s_[smaller] > 0)
        return known_s_[smaller] * static_cast<double>(size_t{2} << (size - smaller));
    }
    return 0;
  }
  // Of the steps that some rank may still compute.
  double longest_s() const {
    double longest = 0;
    for (const size_t rows : begun_rows_)
      if (rows > 0) longest = std::max(longest, known_or_bound_s(size_of(rows)));
    return longest;
  }

  static std::chrono::nanoseconds in_ns(double seconds) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(seconds));
  }

  double least_s_;
  std::vector<size_t> begun_rows_;  // the last first; 0: none yet
  std::array<double, kSizes> known_s_{};
};

}  // namespace shoal
