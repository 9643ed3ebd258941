// What a Group is made of. Private to this module: group.cc, all_reduce.cc and point_to_point.cc
// share it.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "collectives/group.h"
#include "collectives/lane.h"

namespace shoal {

inline constexpr size_t kMostRanks = 64;
// A round moves a record of TLS (16 KiB) or as much as a socket takes; who computes does not stay
// for less, nor for long.
inline constexpr uint64_t kWorthARound = 8192;
inline constexpr int kPushRounds = 64;

// How far the all-reduce under way is: kAlone needs no links, kScatter waits for the contributions
// to this rank's chunk.
enum class ReduceStage { kNone, kAlone, kDirect, kScatter, kGather };

struct Group::State {
  struct Peer {
    Lane lane;
    // try_receive()'s frame that has not been handed over.
    Bytes* tried = nullptr;
    Lane::Ticket tried_ticket = 0;
    // Of the all-reduce under way.
    Bytes part;                        // what came: a contribution, whole or this rank's chunk
    Lane::Ticket part_ticket = 0;      // when `part` is there
    Lane::Ticket reduce_sent = 0;      // the last frame that goes out for it,
    Lane::Ticket reduce_received = 0;  // and that comes in
  };

  struct Reduction {
    ReduceStage stage = ReduceStage::kNone;
    std::span<float> values;
    Bytes buffer;                 // room for `packed`, unless the payload is f32
    std::span<std::byte> packed;  // this rank's contribution as it travels, then sums
    std::array<const std::byte*, kMostRanks> parts;
  };

  size_t rank = 0;
  size_t size = 1;
  std::vector<std::unique_ptr<Link>> links;
  std::vector<Peer> peers;    // the other ranks, in order
  std::vector<Link*> others;  // their links
  std::optional<Error> error;
  LinkCounters counters;
  std::vector<Bytes> spare;  // emptied frames
  Bytes packed_values;       // of receive_values()

  Payload payload = Payload::kF32;
  LinkCost link_cost;
  ReduceRoute route = ReduceRoute::kByCost;
  size_t reduce_first = 0;
  size_t reduce_count = 1;
  Reduction reduction;

  Peer& peer(int other);
  Bytes take_spare(size_t bytes);

  // Runs what waits: counts it, and makes its failure everybody's.
  template <typename Call>
  Status run(Call&& call) {
    if (error) return std::unexpected(*error);
    if (size == 1) return call();
    const auto start = Clock::now();
    Status status = call();
    counters.wait_ns += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
    ++counters.calls;
    if (!status) close(status.error());
    return status;
  }

  // Until what the lanes await is done.
  Status wait(Deadline deadline);
  // One round over all links without waiting. Its failure is everybody's.
  struct Pushed {
    uint64_t bytes = 0;  // that moved, either way
    bool began = false;  // there is more to push
  };
  Result<Pushed> push();
  Result<Pushed> one_round();
  // Pushes as long as the links take and bring much: what a slow one moves by and by is for later.
  Status push_on();
  Result<Turn> turn();
  bool satisfied() const;
  std::unexpected<Error> overdue();
  void close(Error why);
  void add_bytes(LinkCounters& to) const;

  // The peers that this rank's all-reduces add over, in rank order.
  std::span<Peer> members();
  // Where the numbers begin that member `index` adds for all on the scatter route.
  size_t chunk_begin(size_t index) const;
  std::span<std::byte> packed_chunk(size_t index) const;
  std::span<float> my_chunk() const;
  void start_reduction(std::span<float> values);
  void start_direct();
  void start_scatter();
  bool scattered();
  void gather_sums();
  void add_up(std::span<std::byte> mine, std::span<float> out);
  Status finish_reduction(Deadline deadline);
};

}  // namespace shoal
