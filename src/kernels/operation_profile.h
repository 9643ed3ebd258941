// Where the time of a program goes: seconds, calls and work of each of its parts. Owned by the
// backend's thread.
#pragma once

#include <vector>

#include "tensor/work.h"

namespace shoal::kernels {

class OperationProfile {
 public:
  bool on() const { return on_; }
  // From zero. The spans are copied.
  void start(const HeldBytes& held);
  void stop() { on_ = false; }
  void add(const Program& program, const Operation& operation, const StepBatch& batch,
           int64_t experts_read, double seconds);
  const std::vector<ProfiledPart>& parts() const { return parts_; }  // in the order of first use

 private:
  bool on_ = false;
  std::vector<uint64_t> weight_bytes_;
  std::vector<uint64_t> kv_position_bytes_;
  std::vector<ProfiledPart> parts_;
};

}  // namespace shoal::kernels
