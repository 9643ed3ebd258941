#include <algorithm>

#include "collectives/group_state.h"
#include "collectives/packing.h"

namespace shoal {

Group::State::Peer& Group::State::peer(int other) {
  const auto index = static_cast<size_t>(other);
  SHOAL_CHECK(other >= 0 && index < size && index != rank);
  return peers[index < rank ? index : index - 1];
}

// The smallest that holds so many bytes, or the largest, to grow.
Bytes Group::State::take_spare(size_t bytes) {
  if (spare.empty()) return {};
  const auto worse = [bytes](const Bytes& a, const Bytes& b) {
    const bool a_fits = a.capacity() >= bytes;
    const bool b_fits = b.capacity() >= bytes;
    if (a_fits != b_fits) return b_fits;
    return a_fits ? a.capacity() > b.capacity() : a.capacity() < b.capacity();
  };
  const auto best = std::ranges::max_element(spare, worse);
  std::swap(*best, spare.back());
  Bytes frame = std::move(spare.back());
  spare.pop_back();
  frame.clear();
  return frame;
}

Status Group::send(int to, std::span<const std::byte> frame, Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    Lane& lane = state.peer(to).lane;
    lane.await_sent(lane.send(frame));
    return state.wait(deadline);
  });
}

Status Group::receive(int from, Bytes& frame, Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    State::Peer& peer = state.peer(from);
    const bool tried = peer.tried == &frame;
    peer.lane.await_received(tried ? peer.tried_ticket : peer.lane.receive(frame));
    if (tried) peer.tried = nullptr;
    return state.wait(deadline);
  });
}

Status Group::receive_exactly(int from, std::span<std::byte> frame, Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    Lane& lane = state.peer(from).lane;
    lane.await_received(lane.receive_exactly(frame));
    return state.wait(deadline);
  });
}

Status Group::post_values(int to, std::span<const float> values) {
  const Payload payload = stream_payload(state_->payload);
  const size_t bytes = packed_bytes(payload, values.size());
  Bytes frame = state_->take_spare(bytes);
  frame.resize(bytes);
  pack(payload, values, frame);
  return post(to, std::move(frame));
}

Status Group::receive_values(int from, std::span<float> values, Deadline deadline) {
  State& state = *state_;
  const Payload payload = stream_payload(state.payload);
  if (payload == Payload::kF32) {
    return receive_exactly(from, std::as_writable_bytes(values), deadline);
  }
  state.packed_values.resize(packed_bytes(payload, values.size()));
  SHOAL_TRY(receive_exactly(from, state.packed_values, deadline));
  unpack(payload, state.packed_values, values);
  return {};
}

Status Group::post(int to, Bytes frame) {
  State& state = *state_;
  if (state.error) return std::unexpected(*state.error);
  state.peer(to).lane.send_owned(std::move(frame));
  return state.push_on();
}

bool Group::all_sent() const {
  return std::ranges::all_of(state_->peers,
                             [](const State::Peer& other) { return other.lane.all_sent(); });
}

Bytes Group::spare_frame() {
  return state_->take_spare(0);
}

Status Group::flush(Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    for (State::Peer& other : state.peers) other.lane.await_sent(other.lane.last_sent());
    return state.wait(deadline);
  });
}

Result<bool> Group::try_receive(int from, Bytes& frame) {
  State& state = *state_;
  if (state.error) return std::unexpected(*state.error);
  State::Peer& peer = state.peer(from);
  SHOAL_CHECK(peer.tried == nullptr || peer.tried == &frame);
  if (peer.tried == nullptr) {
    peer.tried = &frame;
    peer.tried_ticket = peer.lane.receive(frame);
  }
  while (!peer.lane.received(peer.tried_ticket)) {
    SHOAL_ASSIGN(const State::Pushed pushed, state.push());
    if (!pushed.began && pushed.bytes == 0) return false;
  }
  peer.tried = nullptr;
  return true;
}

Status Group::wait_for_any(Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    const auto come = [](const State::Peer& other) {
      return other.tried != nullptr && other.lane.received(other.tried_ticket);
    };
    const auto turn = [&]() -> Result<Turn> {
      SHOAL_ASSIGN(const Turn all, state.turn());
      if (std::ranges::any_of(state.peers, come)) return Turn::kEnough;
      return all == Turn::kBegan ? Turn::kBegan : Turn::kNothing;
    };
    SHOAL_ASSIGN([[maybe_unused]] const bool in_time, drive(state.others, turn, deadline));
    return {};
  });
}

}  // namespace shoal
