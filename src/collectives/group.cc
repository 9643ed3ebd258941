#include "collectives/group.h"

#include <algorithm>

#include "collectives/group_state.h"

namespace shoal {

Status Group::State::wait(Deadline deadline) {
  SHOAL_ASSIGN(const Turn first, turn());
  if (first == Turn::kEnough) return {};
  SHOAL_ASSIGN(const bool in_time, drive(others, [this] { return turn(); }, deadline));
  if (!in_time && !satisfied()) return overdue();
  return {};
}

Result<Turn> Group::State::turn() {
  bool began = false;
  for (Peer& other : peers) {
    SHOAL_ASSIGN(const bool more, other.lane.begin_next(spare));
    began |= more;
  }
  if (reduction.stage == ReduceStage::kScatter && scattered()) {
    gather_sums();
    return turn();
  }
  if (began) return Turn::kBegan;
  return satisfied() ? Turn::kEnough : Turn::kNothing;
}

bool Group::State::satisfied() const {
  return std::ranges::all_of(peers, [](const Peer& other) { return other.lane.satisfied(); });
}

Result<Group::State::Pushed> Group::State::push() {
  auto pushed = one_round();
  if (!pushed) close(pushed.error());
  return pushed;
}

Result<Group::State::Pushed> Group::State::one_round() {
  SHOAL_TRY(turn());
  Pushed pushed;
  for (Link* link : others) {
    const LinkCounters before = link->counters();
    SHOAL_TRY(link->advance());
    pushed.bytes += link->counters().bytes_sent - before.bytes_sent +
                    link->counters().bytes_received - before.bytes_received;
  }
  SHOAL_ASSIGN(const Turn after, turn());
  pushed.began = after == Turn::kBegan;
  return pushed;
}

Status Group::State::push_on() {
  for (int round = 0; round < kPushRounds; ++round) {
    SHOAL_ASSIGN(const Pushed pushed, push());
    if (!pushed.began && pushed.bytes < kWorthARound) break;
  }
  return {};
}

// First who is waited for, of several the one that is most frames behind: the others may wait for
// it themselves. Then who has not taken what was posted, which may be why.
std::unexpected<Error> Group::State::overdue() {
  const auto least = [](const Peer& a, const Peer& b) { return a.lane.behind() < b.lane.behind(); };
  const auto last = std::ranges::max_element(peers, least);
  Error error = last->lane.link().overdue().error();
  for (Peer& other : peers) {
    if (!other.lane.satisfied() || other.lane.all_sent()) continue;
    error.message += "; " + other.lane.link().overdue().error().message;
    break;
  }
  return std::unexpected(std::move(error));
}

void Group::State::close(Error why) {
  add_bytes(counters);
  error = std::move(why);
  for (Link* link : others) link->abandon(*error);
  others.clear();
  peers.clear();
  reduction.stage = ReduceStage::kNone;
  for (auto& link : links) link.reset();
}

void Group::State::add_bytes(LinkCounters& to) const {
  for (const Link* link : others) {
    to.bytes_sent += link->counters().bytes_sent;
    to.bytes_received += link->counters().bytes_received;
  }
}

Group::Group(int rank, std::vector<std::unique_ptr<Link>> links)
    : state_(std::make_unique<State>()) {
  SHOAL_CHECK(!links.empty() && links.size() <= kMostRanks);
  SHOAL_CHECK(rank >= 0 && static_cast<size_t>(rank) < links.size());
  State& state = *state_;
  state.rank = static_cast<size_t>(rank);
  state.size = state.reduce_count = links.size();
  state.links = std::move(links);
  for (size_t r = 0; r < state.size; ++r) {
    SHOAL_CHECK((state.links[r] == nullptr) == (r == state.rank));
    if (r == state.rank) continue;
    state.others.push_back(state.links[r].get());
    state.peers.push_back({.lane = Lane(*state.links[r]), .part = {}});
  }
}

Group::Group(Group&&) noexcept = default;
Group& Group::operator=(Group&&) noexcept = default;
Group::~Group() = default;

int Group::rank() const {
  return static_cast<int>(state_->rank);
}
int Group::size() const {
  return static_cast<int>(state_->size);
}

LinkCounters Group::counters() const {
  LinkCounters all = state_->counters;
  state_->add_bytes(all);
  return all;
}

Status Group::all_gather(std::span<const std::byte> mine, std::vector<Bytes>& parts,
                         Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    parts.resize(state.size);
    parts[state.rank].assign(mine.begin(), mine.end());
    for (size_t i = 0; i < state.peers.size(); ++i) {
      Lane& lane = state.peers[i].lane;
      lane.await_sent(lane.send(mine));
      lane.await_received(lane.receive(parts[i < state.rank ? i : i + 1]));
    }
    return state.wait(deadline);
  });
}

Status Group::gather(int root, std::span<const std::byte> mine, std::vector<Bytes>& parts,
                     Deadline deadline) {
  State& state = *state_;
  SHOAL_CHECK(root >= 0 && root < size());
  return state.run([&]() -> Status {
    if (state.rank != static_cast<size_t>(root)) {
      Lane& lane = state.peer(root).lane;
      lane.await_sent(lane.send(mine));
      return state.wait(deadline);
    }
    parts.resize(state.size);
    parts[state.rank].assign(mine.begin(), mine.end());
    for (size_t i = 0; i < state.peers.size(); ++i) {
      Lane& lane = state.peers[i].lane;
      lane.await_received(lane.receive(parts[i < state.rank ? i : i + 1]));
    }
    return state.wait(deadline);
  });
}

Status Group::broadcast(int root, Bytes& frame, Deadline deadline) {
  State& state = *state_;
  SHOAL_CHECK(root >= 0 && root < size());
  return state.run([&]() -> Status {
    if (state.rank != static_cast<size_t>(root)) {
      Lane& lane = state.peer(root).lane;
      lane.await_received(lane.receive(frame));
    } else {
      for (State::Peer& other : state.peers) other.lane.await_sent(other.lane.send(frame));
    }
    return state.wait(deadline);
  });
}

Status Group::barrier(Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    for (State::Peer& other : state.peers) {
      other.lane.await_sent(other.lane.send({}));
      other.lane.await_received(other.lane.receive_exactly({}));
    }
    return state.wait(deadline);
  });
}

}  // namespace shoal
