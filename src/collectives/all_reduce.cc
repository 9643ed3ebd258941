#include <cmath>

#include "collectives/group_state.h"
#include "collectives/packing.h"
#include "collectives/reduce.h"

namespace shoal {
namespace {

std::span<std::byte> room(Bytes& buffer, size_t bytes) {
  if (buffer.size() < bytes) buffer.resize(bytes);
  return std::span(buffer).first(bytes);
}

}  // namespace

std::span<Group::State::Peer> Group::State::members() {
  // `peers` leaves this rank out.
  const size_t begin = reduce_first - (reduce_first > rank ? 1 : 0);
  return std::span(peers).subspan(begin, reduce_count - 1);
}

size_t Group::State::chunk_begin(size_t index) const {
  const size_t count = reduction.values.size();
  if (index == reduce_count) return count;
  return count * index / reduce_count / kPayloadBlock * kPayloadBlock;
}

std::span<std::byte> Group::State::packed_chunk(size_t index) const {
  const size_t begin = packed_bytes(payload, chunk_begin(index));
  return reduction.packed.subspan(begin, packed_bytes(payload, chunk_begin(index + 1)) - begin);
}

std::span<float> Group::State::my_chunk() const {
  const size_t index = rank - reduce_first;
  return reduction.values.subspan(chunk_begin(index), chunk_begin(index + 1) - chunk_begin(index));
}

void Group::State::start_reduction(std::span<float> values) {
  SHOAL_CHECK(reduction.stage == ReduceStage::kNone);
  reduction.values = values;
  reduction.stage = ReduceStage::kAlone;
  if (reduce_count == 1 || values.empty()) return;
  if (payload == Payload::kF32) {
    reduction.packed = std::as_writable_bytes(values);
  } else {
    reduction.packed = room(reduction.buffer, packed_bytes(payload, values.size()));
    pack(payload, values, reduction.packed);
  }
  const bool direct = route == ReduceRoute::kByCost
                          ? direct_is_cheaper(reduction.packed.size(), reduce_count, link_cost)
                          : route == ReduceRoute::kDirect;
  direct ? start_direct() : start_scatter();
}

void Group::State::start_direct() {
  reduction.stage = ReduceStage::kDirect;
  for (Peer& other : members()) {
    Lane& lane = other.lane;
    other.reduce_sent = lane.send(reduction.packed);
    other.reduce_received = lane.receive_exactly(room(other.part, reduction.packed.size()));
  }
}

// The frames of both trips take their places in the lanes at once, so that what is sent between
// begin and finish comes after them on every rank. A chunk's sums may be received where its
// contribution is sent from: its owner has nothing to send before it has all of that.
void Group::State::start_scatter() {
  reduction.stage = ReduceStage::kScatter;
  const size_t mine = rank - reduce_first;
  size_t index = 0;
  for (Peer& other : members()) {
    if (index == mine) ++index;
    Lane& lane = other.lane;
    lane.send(packed_chunk(index));
    other.part_ticket = lane.receive_exactly(room(other.part, packed_chunk(mine).size()));
    other.reduce_sent = lane.reserve_send();
    other.reduce_received = lane.receive_exactly(packed_chunk(index));
    ++index;
  }
}

bool Group::State::scattered() {
  for (const Peer& other : members()) {
    if (!other.lane.received(other.part_ticket)) return false;
  }
  return true;
}

void Group::State::gather_sums() {
  reduction.stage = ReduceStage::kGather;
  const std::span<std::byte> chunk = packed_chunk(rank - reduce_first);
  add_up(chunk, my_chunk());
  if (payload != Payload::kF32) pack(payload, my_chunk(), chunk);
  for (Peer& other : members()) other.lane.fill(other.reduce_sent, chunk);
}

void Group::State::add_up(std::span<std::byte> mine, std::span<float> out) {
  size_t count = 0;
  for (const Peer& other : members()) {
    if (count == rank - reduce_first) reduction.parts[count++] = mine.data();
    reduction.parts[count++] = other.part.data();
  }
  if (count < reduce_count) reduction.parts[count++] = mine.data();
  sum_in_order(payload, std::span(reduction.parts).first(count), out);
}

Status Group::State::finish_reduction(Deadline deadline) {
  SHOAL_CHECK(reduction.stage != ReduceStage::kNone);
  if (reduction.stage != ReduceStage::kAlone) {
    for (Peer& other : members()) {
      other.lane.await_sent(other.reduce_sent);
      other.lane.await_received(other.reduce_received);
    }
    SHOAL_TRY(wait(deadline));
  }
  const bool direct = reduction.stage == ReduceStage::kDirect;
  const bool alone = reduction.stage == ReduceStage::kAlone;
  if (direct) add_up(reduction.packed, reduction.values);
  // As the scatter route rounds sums, so that the route leaves no trace in the bits.
  const bool rounds = payload != Payload::kF32 && !alone && (!direct || reduce_count > 2);
  if (rounds && direct) pack(payload, reduction.values, reduction.packed);
  if (rounds) unpack(payload, reduction.packed, reduction.values);
  reduction.stage = ReduceStage::kNone;
  return {};
}

void Group::reduce_among(int first_rank, int count) {
  const int end = first_rank + count;
  SHOAL_CHECK(first_rank >= 0 && count >= 1 && end <= size());
  SHOAL_CHECK(first_rank <= rank() && rank() < end);
  SHOAL_CHECK(state_->reduction.stage == ReduceStage::kNone);
  state_->reduce_first = static_cast<size_t>(first_rank);
  state_->reduce_count = static_cast<size_t>(count);
}

void Group::set_payload(Payload payload) {
  SHOAL_CHECK(state_->reduction.stage == ReduceStage::kNone);
  state_->payload = payload;
}

void Group::set_link_cost(LinkCost cost) {
  const auto sound = [](double number) { return number > 0 && std::isfinite(number); };
  if (sound(cost.one_way_s) && sound(cost.bytes_per_s)) state_->link_cost = cost;
}

LinkCost Group::link_cost() const {
  return state_->link_cost;
}

void Group::set_reduce_route(ReduceRoute route) {
  state_->route = route;
}

Status Group::all_reduce(std::span<float> values, Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    state.start_reduction(values);
    return state.finish_reduction(deadline);
  });
}

Status Group::begin_all_reduce(std::span<float> values) {
  State& state = *state_;
  if (state.error) return std::unexpected(*state.error);
  state.start_reduction(values);
  return state.push_on();
}

void Group::progress() {
  if (!state_->error) (void)state_->push_on();
}

Status Group::finish_all_reduce(Deadline deadline) {
  State& state = *state_;
  return state.run([&] { return state.finish_reduction(deadline); });
}

}  // namespace shoal
