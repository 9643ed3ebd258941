#include "collectives/lane.h"

namespace shoal {
namespace {

// Emptied frames that are kept: as many as a large group posts in one step.
constexpr size_t kMostSpares = 16;

}  // namespace

Lane::Ticket Lane::send(std::span<const std::byte> frame) {
  outgoing_.push({.frame = frame, .owned = {}, .ready = true});
  return sent_ + outgoing_.size();
}

Lane::Ticket Lane::send_owned(Bytes frame) {
  const std::span<const std::byte> bytes = frame;
  outgoing_.push({.frame = bytes, .owned = std::move(frame), .ready = true});
  return sent_ + outgoing_.size();
}

Lane::Ticket Lane::reserve_send() {
  outgoing_.push({.frame = {}, .owned = {}, .ready = false});
  return sent_ + outgoing_.size();
}

void Lane::fill(Ticket reserved, std::span<const std::byte> frame) {
  Outgoing& place = outgoing_[reserved - sent_ - 1];
  SHOAL_CHECK(!place.ready);
  place.frame = frame;
  place.ready = true;
}

Lane::Ticket Lane::receive(Bytes& frame) {
  incoming_.push({.growing = &frame, .frame = {}});
  return received_ + incoming_.size();
}

Lane::Ticket Lane::receive_exactly(std::span<std::byte> frame) {
  incoming_.push({.growing = nullptr, .frame = frame});
  return received_ + incoming_.size();
}

Status Lane::begin(const Incoming& next) {
  return next.growing != nullptr ? link_->begin_receive(*next.growing)
                                 : link_->begin_receive_exactly(next.frame);
}

Result<bool> Lane::begin_next(std::vector<Bytes>& spare) {
  if (sending_ && !link_->sending()) {
    if (outgoing_.front().owned.capacity() > 0 && spare.size() < kMostSpares) {
      spare.push_back(std::move(outgoing_.front().owned));
    }
    outgoing_.pop();
    ++sent_;
    sending_ = false;
  }
  if (receiving_ && !link_->receiving()) {
    incoming_.pop();
    ++received_;
    receiving_ = false;
  }
  bool began = false;
  if (!sending_ && !outgoing_.empty() && outgoing_.front().ready) {
    SHOAL_TRY(link_->begin_send(outgoing_.front().frame));
    sending_ = began = true;
  }
  if (!receiving_ && !incoming_.empty()) {
    SHOAL_TRY(begin(incoming_.front()));
    receiving_ = began = true;
  }
  return began;
}

}  // namespace shoal
