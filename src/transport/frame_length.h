// What is said of a frame's length, and the room that it earns: alike over every kind of link.
// Pure; any thread. Private to this module.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace shoal {

// Before it is sent: kTooLarge over Link::kLargestFrame.
Status check_sent_length(const std::string& peer, uint64_t length);
// As a peer announces it; `due`: what it has to be, where that is known. kCorrupt.
Status check_announced_length(const std::string& peer, uint64_t length,
                              std::optional<uint64_t> due);
// How much a receiver's buffer has room for next, when it has room for `room` bytes of a frame and
// needs `needed`: a length alone earns no memory, only what has arrived does.
size_t next_room(uint64_t length, size_t room, size_t needed);

}  // namespace shoal
