// Group: the ranks of one instance and the collectives among them. Called by the one thread that computes; every rank must
// make the same calls in the same order. Reductions add contributions in rank order 0, 1, 2, ..., whatever the algorithm,
// so all ranks end with the same bits, and so does a repeat. A group of one returns at once.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "transport/link.h"

namespace shoal {

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

  // values = sum over ranks, in place. Every rank passes the same length.
  Status all_reduce(std::span<float> values, Deadline deadline);
  // parts[r] = what rank r passed as `mine`, of any length per rank; on every rank.
  Status all_gather(std::span<const std::byte> mine, std::vector<Bytes>& parts, Deadline deadline);
  // The same, but only `root` ends with the parts; the others' `parts` is left alone.
  Status gather(int root, std::span<const std::byte> mine, std::vector<Bytes>& parts, Deadline deadline);
  // frame = what `root` passed, on every rank.
  Status broadcast(int root, Bytes& frame, Deadline deadline);

  LinkCounters counters() const;  // summed over the links

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
