// Lane: what goes to and comes from one other rank, each in the order in which it was asked for,
// any number at once. Private to this module. Used by the group's one thread; never blocks. Memory
// that is sent from or received into stays in place until its ticket is done.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "collectives/fifo.h"
#include "transport/link.h"

namespace shoal {

class Lane {
 public:
  // Counts the frames of one direction: a ticket is done when so many frames are.
  using Ticket = uint64_t;

  explicit Lane(Link& link) : link_(&link) {}

  Link& link() const { return *link_; }

  Ticket send(std::span<const std::byte> frame);
  // The frame goes to begin_next()'s `spare` once it has left.
  Ticket send_owned(Bytes frame);
  // Takes a place among what is sent; later frames wait until it is filled.
  Ticket reserve_send();
  void fill(Ticket reserved, std::span<const std::byte> frame);
  Ticket receive(Bytes& frame);
  Ticket receive_exactly(std::span<std::byte> frame);

  bool sent(Ticket ticket) const { return sent_ >= ticket; }
  bool received(Ticket ticket) const { return received_ >= ticket; }
  bool all_sent() const { return outgoing_.empty(); }
  Ticket last_sent() const { return sent_ + outgoing_.size(); }

  // What the group's next wait is to wait for.
  void await_sent(Ticket ticket) { awaited_sent_ = ticket; }
  void await_received(Ticket ticket) { awaited_received_ = ticket; }
  bool satisfied() const { return sent(awaited_sent_) && received(awaited_received_); }
  // Frames that are awaited and not done.
  uint64_t behind() const {
    return std::max(awaited_sent_, sent_) - sent_ + std::max(awaited_received_, received_) -
           received_;
  }

  // Takes what the link has finished off the queues and begins what is next: true when something
  // began, which wants an advance() of the link.
  Result<bool> begin_next(std::vector<Bytes>& spare);

 private:
  struct Outgoing {
    std::span<const std::byte> frame;
    Bytes owned;
    bool ready = true;
  };
  struct Incoming {
    Bytes* growing = nullptr;  // otherwise exactly `frame`
    std::span<std::byte> frame;
  };
  Status begin(const Incoming& next);

  Link* link_;
  Fifo<Outgoing> outgoing_;
  Fifo<Incoming> incoming_;
  bool sending_ = false;  // the first of each queue is under way
  bool receiving_ = false;
  Ticket sent_ = 0;
  Ticket received_ = 0;
  Ticket awaited_sent_ = 0;
  Ticket awaited_received_ = 0;
};

}  // namespace shoal
