// What frames cost over a link, timed from one of its ends while the other follows. Blocking, each
// end by a thread of its own; used by LinkProber and by `shoal bench links`.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "transport/link.h"

namespace shoal::cluster {

struct FrameTimes {
  uint64_t bytes = 0;
  double p50_s = 0;
  double p99_s = 0;
  double bytes_per_s = 0;  // of frames, in each direction
};

// Of a link between two nodes.
struct LinkTimes {
  FrameTimes round_trip;              // of a small frame
  std::vector<FrameTimes> exchanges;  // of each size
};

// About what an all-reduce of one row carries.
inline constexpr uint64_t kSmallFrameBytes = 4096;

// How long to time, and how long a single frame may take.
struct TimingPatience {
  double seconds = 0.4;
  std::chrono::seconds one_frame{60};
};

// A frame goes there and comes back.
Result<FrameTimes> time_round_trips(Link& link, uint64_t bytes, const TimingPatience& patience);
// Both ends send a frame and wait for the other's, as ranks do.
Result<FrameTimes> time_exchanges(Link& link, uint64_t bytes, const TimingPatience& patience);
// Both, for a link between nodes: an error is the first that was met.
Result<LinkTimes> time_link(Link& link, const std::vector<uint64_t>& sizes,
                            const TimingPatience& patience);

// The other end: does what it is told to until that end closes, the link fails, or `end`. Orders
// for frames of more than `most_bytes` end it too.
void follow_timing(Link& link, uint64_t most_bytes, Deadline end);

}  // namespace shoal::cluster
