// Cosines and sines of the positions of a step, computed once per step and rope. Owned by the
// backend's thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/program.h"

namespace shoal::kernels {

class RopeTable {
 public:
  RopeTable() = default;
  explicit RopeTable(const RopeSpec& spec) : spec_(spec) {}

  // Angles for these positions of the rows from `first_row` on; rows that are there already are
  // kept. `factors` divides the frequencies, or is empty.
  void turn_to(std::span<const int32_t> positions, std::span<const float> factors,
               int64_t first_row = 0);
  const float* cosines(int64_t row) const { return cosines_.data() + row * pairs(); }
  const float* sines(int64_t row) const { return sines_.data() + row * pairs(); }
  const RopeSpec& spec() const { return spec_; }

 private:
  int64_t pairs() const { return spec_.dimensions / 2; }

  RopeSpec spec_{};
  std::vector<double> frequencies_;     // empty until the first call
  std::vector<int32_t> positions_;      // of each row; -1: never turned
  std::vector<float> cosines_, sines_;  // [row][pair]
};

}  // namespace shoal::kernels
