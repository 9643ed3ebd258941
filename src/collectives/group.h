// Group: the ranks of one instance and the collectives among them. Called by the one thread that
// computes; every rank must make the same calls in the same order. Reductions add contributions in
// rank order 0, 1, 2, ..., whatever the algorithm, so all ranks end with the same bits, and so does
// a repeat. A group of one returns at once. Any failure is final for the group: all its links are
// closed, so that no other rank waits for this one longer than it takes to notice, and every later
// call fails with the same error. Once buffers have grown, nothing allocates.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal {

// How contributions travel in an all_reduce; every rank of a group must use the same.
enum class ReduceRoute {
  kByCost,   // the cheaper of the two for the payload and the number of ranks
  kDirect,   // everybody sends everything to everybody: alpha + (p-1) n/B
  kScatter,  // reduce-scatter, then all-gather: 2 alpha + 2 (p-1)/p n/B
};

class Group {
 public:
  // links[r] reaches rank r; links[rank] is empty. 1 to 64 ranks.
  Group(int rank, std::vector<std::unique_ptr<Link>> links);
  static Group alone() { return Group(0, std::vector<std::unique_ptr<Link>>(1)); }
  Group(Group&&) noexcept;
  Group& operator=(Group&&) noexcept;
  ~Group();

  int rank() const;
  int size() const;

  // values = sum over ranks, in place. Every rank passes the same length; another one is kCorrupt.
  Status all_reduce(std::span<float> values, Deadline deadline);
  // parts[r] = what rank r passed as `mine`, of any length per rank; on every rank.
  Status all_gather(std::span<const std::byte> mine, std::vector<Bytes>& parts, Deadline deadline);
  // The same, but only `root` ends with the parts; the others' `parts` is left alone.
  Status gather(int root, std::span<const std::byte> mine, std::vector<Bytes>& parts,
                Deadline deadline);
  // frame = what `root` passed, on every rank.
  Status broadcast(int root, Bytes& frame, Deadline deadline);

  // Bytes summed over the links; wait_ns and calls of the collectives themselves.
  LinkCounters counters() const;
  void set_reduce_route(ReduceRoute route);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
