#include "kernels/operation_profile.h"

#include <algorithm>

namespace shoal::kernels {

void OperationProfile::start(const HeldBytes& held) {
  weight_bytes_.assign(held.weights.begin(), held.weights.end());
  kv_position_bytes_.assign(held.kv_positions.begin(), held.kv_positions.end());
  parts_.clear();
  on_ = true;
}

void OperationProfile::add(const Program& program, const Operation& operation,
                           const StepBatch& batch, int64_t experts_read, double seconds) {
  const std::string_view name = part_of(program, operation);
  auto part = std::ranges::find(parts_, name, &ProfiledPart::name);
  if (part == parts_.end()) part = parts_.insert(parts_.end(), {.name = name});
  const Work work =
      work_of(program, operation, batch, {weight_bytes_, kv_position_bytes_}, experts_read);
  part->seconds += seconds;
  ++part->calls;
  part->read_bytes += work.read_bytes;
  part->multiply_adds += work.multiply_adds;
}

}  // namespace shoal::kernels
