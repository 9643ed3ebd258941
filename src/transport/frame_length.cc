#include "transport/frame_length.h"

#include <algorithm>

#include "transport/link.h"

namespace shoal {
namespace {

constexpr size_t kFirstGrowth = 1 << 20;

}  // namespace

Status check_sent_length(const std::string& peer, uint64_t length) {
  if (length <= Link::kLargestFrame) return {};
  return fail(ErrorCode::kTooLarge, "a frame of {} bytes to {} is over the limit of {}", length,
              peer, Link::kLargestFrame);
}

Status check_announced_length(const std::string& peer, uint64_t length,
                              std::optional<uint64_t> due) {
  if (due && length != *due) {
    return fail(ErrorCode::kCorrupt,
                "{} sent a frame of {} bytes where {} were due: the ranks do not run the same plan",
                peer, length, *due);
  }
  if (length <= Link::kLargestFrame) return {};
  return fail(ErrorCode::kCorrupt, "{} announced a frame of {} bytes, over the limit of {}", peer,
              length, Link::kLargestFrame);
}

size_t next_room(uint64_t length, size_t room, size_t needed) {
  return std::min<size_t>(length, std::max({kFirstGrowth, 2 * room, needed}));
}

}  // namespace shoal
