// How a link is imagined: latency, bandwidth and jitter, by name or in numbers, and the schedule
// that follows from them. Pure: time is given. Any thread; a schedule by one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace shoal {

struct LinkModel {
  std::string name;
  double latency_s = 0;    // one way, of an empty frame
  double bytes_per_s = 0;  // in each direction
  double jitter_s = 0;     // mean of what is added to the latency, exponentially distributed

  double transfer_s(uint64_t bytes) const {
    return latency_s + static_cast<double>(bytes) / bytes_per_s;
  }
};

// wifi6, 1gbe, 2.5gbe, 10gbe, tb4-ip, tb5-rdma, roce100.
std::span<const LinkModel> link_models();
// One of these names, or "ALPHA_US,GBPS[,JITTER_US]": microseconds one way, gigabits per second,
// microseconds. kInvalidArgument.
Result<LinkModel> parse_link_model(std::string_view text);

// One direction of such a link. Frames occupy its bandwidth one after the other and never overtake.
class LinkSchedule {
 public:
  LinkSchedule(LinkModel model, uint64_t seed) : model_(std::move(model)), seed_(seed) {}
  // When a frame that was sent at `sent`, after those asked about before, has wholly arrived.
  Clock::time_point arrival(Clock::time_point sent, uint64_t bytes);

 private:
  LinkModel model_;
  uint64_t seed_;
  uint64_t frames_ = 0;
  Clock::time_point free_at_{};
  Clock::time_point last_{};
};

}  // namespace shoal
