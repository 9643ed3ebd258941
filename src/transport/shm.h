// Links between ranks on one machine, through memory that both have mapped: a ring of bytes in each
// direction, and a socket pair by which a sleeper is woken and a dead peer noticed. Such a link is
// plain: nothing is encrypted, and whoever holds the descriptors can read and write it. Nothing
// that the peer writes into the memory makes this side touch a byte outside of the rings.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal {

// What one rank needs to hold its end, to be handed over by whoever starts both: close-on-exec
// descriptors of the memory and of one socket of the pair.
struct ShmEnd {
  UniqueFd memory;
  UniqueFd socket;
  bool first = false;  // which of the two ends this is
};

// Bytes on their way in one direction; a power of two. As large as a payload of prefill, and small
// enough to stay in a core's second-level cache.
inline constexpr size_t kShmRingBytes = 1 << 20;
Result<std::pair<ShmEnd, ShmEnd>> make_shm_pair(size_t ring_bytes = kShmRingBytes);

// kCorrupt when the descriptors are not an end of such a pair, or one of another version.
Result<std::unique_ptr<Link>> make_shm_link(ShmEnd end, std::string peer);

// Both ends of a link, for ranks that share a process (benchmarks, tests). The names are what each
// end calls the other.
struct ShmLinks {
  std::unique_ptr<Link> first;
  std::unique_ptr<Link> second;
};
Result<ShmLinks> connected_shm_pair(std::string peer_of_first, std::string peer_of_second,
                                    size_t ring_bytes = kShmRingBytes);

}  // namespace shoal
