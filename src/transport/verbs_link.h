// Links over RDMA: frames go through a queue pair of the network card, two-sided, by way of slabs
// of memory that are registered once. Only where both ranks have such a card (or soft-RoCE) and its
// library; everything else about the two queue pairs is agreed inside an established link, which
// stays open to notice the peer's end. What travels over RDMA is neither encrypted nor
// authenticated, but a peer can write nowhere except into the slabs that wait for it. Thread rules
// and promises are those of Link (link.h). Bytes: docs/formats.
#pragma once

#include <memory>
#include <string>

#include "transport/link.h"

namespace shoal {

struct VerbsApi;

enum class QueuePairKind : uint8_t {
  kReliable = 1,    // RC: the card repeats what was lost; Linux
  kUnreliable = 2,  // UC: a lost piece ends the link; all that macOS has
};

struct VerbsOptions {
  std::string device;  // "mlx5_0"; empty: the first with an active port
  uint8_t port = 1;
  int gid_index = -1;  // -1: the one that is routed furthest
#ifdef __APPLE__
  QueuePairKind kind = QueuePairKind::kUnreliable;
#else
  QueuePairKind kind = QueuePairKind::kReliable;
#endif
  // What one work request carries, its 16-byte header included, and how many wait in each
  // direction: two directions of 16 are the 32 requests that every card takes.
  uint32_t slab_bytes = 64 << 10;  // kSmallestSlab to kLargestSlab
  uint32_t slabs = 8;              // kFewestSlabs to kMostSlabs
  const VerbsApi* api = nullptr;   // nullptr: the system's library; outlives the link

  static constexpr uint32_t kSmallestSlab = 1 << 10;
  static constexpr uint32_t kLargestSlab = 4 << 20;
  static constexpr uint32_t kFewestSlabs = 4;
  static constexpr uint32_t kMostSlabs = 16;
};

// Both ends call this at once. `control` must be new or quiet (no frame under way, none unread) and
// protected as the caller wants its keys protected; it is used up even on failure, so the peer
// learns of one at once. kUnsupported: no library, no device, no usable port; the peer refuses.
Result<std::unique_ptr<Link>> make_verbs_link(std::unique_ptr<Link> control, VerbsOptions options,
                                              Deadline deadline);

}  // namespace shoal
