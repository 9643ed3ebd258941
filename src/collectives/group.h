// Group: the ranks of one instance, what they do together and what they tell one another. Called by
// the one thread that computes. Between two ranks everything is received in the order in which it
// was sent, collectives included: ranks that make calls which match in that order never mix them
// up. All-reduces add contributions in rank order, whatever the route, so all ranks end with the
// same bits, and so does a repeat. A group of one returns at once. Any failure is final for the
// group: all its links are closed, so that no other rank waits for this one longer than it takes to
// notice, and every later call fails with the same error. Every wait drives all links: what was
// posted goes on leaving, what try_receive() began goes on arriving, and a rank that fails is
// noticed whoever is waited for. Once buffers have grown, nothing allocates.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectives/payload.h"
#include "collectives/route.h"
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

  // --- what all ranks must set alike, and not while an all-reduce is under way ---

  // all_reduce adds over the ranks first_rank to first_rank + count - 1, of which this is one; all
  // ranks unless set.
  void reduce_among(int first_rank, int count);
  // Of all_reduce and, as stream_payload() says, of the values sent to one rank; f32 unless set.
  void set_payload(Payload payload);
  // What decides the route; another than positive, finite numbers changes nothing.
  void set_link_cost(LinkCost cost);
  LinkCost link_cost() const;
  void set_reduce_route(ReduceRoute route);

  // --- all-reduce ---

  // values = sum over the ranks of reduce_among, in place: each rank's contribution rounded to the
  // payload type, added in f32 in rank order. The sum of more than two is rounded too, whatever the
  // route (of two, on the scatter route alone, which costs never choose). Every rank passes the
  // same length; another one is kCorrupt.
  Status all_reduce(std::span<float> values, Deadline deadline);
  // The same in two halves, between which the caller computes: begin sends at once what the links
  // take. One at a time; `values` stays in place and is not touched until finished. In the order of
  // what goes between two ranks it counts as made at its beginning.
  Status begin_all_reduce(std::span<float> values);
  Status finish_all_reduce(Deadline deadline);
  // Moves on what is under way on all links, without waiting. A failure stays: the next call that
  // can say it does.
  void progress();

  // --- over all ranks ---

  // parts[r] = what rank r passed as `mine`, of any length per rank; on every rank.
  Status all_gather(std::span<const std::byte> mine, std::vector<Bytes>& parts, Deadline deadline);
  // The same, but only `root` ends with the parts; the others' `parts` is left alone.
  Status gather(int root, std::span<const std::byte> mine, std::vector<Bytes>& parts,
                Deadline deadline);
  // frame = what `root` passed, on every rank.
  Status broadcast(int root, Bytes& frame, Deadline deadline);
  // Returns when every rank has come to it.
  Status barrier(Deadline deadline);

  // --- between two ranks; never with itself ---

  // Returns when the link has taken the frame whole.
  Status send(int to, std::span<const std::byte> frame, Deadline deadline);
  Status receive(int from, Bytes& frame, Deadline deadline);
  // Another length is kCorrupt.
  Status receive_exactly(int from, std::span<std::byte> frame, Deadline deadline);
  // Numbers in the type that stream_payload() names, posted as below.
  Status post_values(int to, std::span<const float> values);
  Status receive_values(int from, std::span<float> values, Deadline deadline);

  // Queues a frame that the group owns from now on; it leaves before anything sent to `to` later:
  // at once as far as the link takes it, and further whenever a call of this group waits or tries.
  // One that does not leave is named when the deadline of a wait passes.
  Status post(int to, Bytes frame);
  // Whether nothing that was posted is still here.
  bool all_sent() const;
  // An empty frame with the memory of one posted earlier.
  Bytes spare_frame();
  // Waits until all that was posted has left. A group that is destroyed drops what has not.
  Status flush(Deadline deadline);
  // True when `frame` has come whole, false when not yet. After a false the same frame must be
  // passed, in place, to further calls until one says true, or to receive(). Never blocks.
  Result<bool> try_receive(int from, Bytes& frame);
  // Waits until some frame that try_receive() has begun is there. The deadline is no failure.
  Status wait_for_any(Deadline deadline);

  // Bytes summed over the links; wait_ns and calls of what waits.
  LinkCounters counters() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
