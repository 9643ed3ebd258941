#include "collectives/group.h"

#include <algorithm>
#include <array>
#include <optional>

#include "collectives/reduce.h"

namespace shoal {
namespace {

constexpr size_t kMostRanks = 64;

// Direct exchange wins while the bytes that it sends more than the other route, (p-1) n (1 - 2/p),
// take less time than one more trip: alpha * B = 50 us * 1.25 GB/s on the 10 GbE that such clusters
// have at best; slower links have a similar product (1 GbE 70 us * 0.12 GB/s prefers less,
// Thunderbolt more). Two ranks are always better off direct.
constexpr double kTripBytes = 64 << 10;

bool direct_is_cheaper(size_t payload_bytes, size_t ranks) {
  const auto p = static_cast<double>(ranks);
  return (p - 1) * static_cast<double>(payload_bytes) * (1 - 2 / p) <= kTripBytes;
}

}  // namespace

struct Group::State {
  size_t rank = 0;
  std::vector<std::unique_ptr<Link>> links;
  std::vector<Link*> others;  // in rank order, without this rank
  std::vector<std::vector<float>> received;
  std::array<const float*, kMostRanks> parts{};
  std::optional<Error> error;
  ReduceRoute route = ReduceRoute::kByCost;
  LinkCounters counters;

  size_t size() const { return links.size(); }

  // Runs one collective: counts it, and makes its failure everybody's.
  template <typename Collective>
  Status run(Collective&& collective) {
    if (error) return std::unexpected(*error);
    if (size() == 1) return collective();
    const auto start = Clock::now();
    Status status = collective();
    counters.wait_ns += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
    ++counters.calls;
    if (!status) close(status.error());
    return status;
  }

  void close(Error why) {
    add_bytes(counters);
    error = std::move(why);
    for (Link* link : others) link->abandon(*error);
    others.clear();
    for (auto& link : links) link.reset();
  }

  void add_bytes(LinkCounters& to) const {
    for (const Link* link : others) {
      to.bytes_sent += link->counters().bytes_sent;
      to.bytes_received += link->counters().bytes_received;
    }
  }

  std::span<float> room(size_t from, size_t count) {
    if (received[from].size() < count) received[from].resize(count);
    return std::span(received[from]).first(count);
  }

  Status reduce_direct(std::span<float> values, Deadline deadline);
  Status reduce_scattered(std::span<float> values, Deadline deadline);
};

Status Group::State::reduce_direct(std::span<float> values, Deadline deadline) {
  for (size_t r = 0; r < size(); ++r) {
    parts[r] = values.data();
    if (r == rank) continue;
    const std::span<float> theirs = room(r, values.size());
    parts[r] = theirs.data();
    SHOAL_TRY(links[r]->begin_send(std::as_bytes(values)));
    SHOAL_TRY(links[r]->begin_receive_exactly(std::as_writable_bytes(theirs)));
  }
  SHOAL_TRY(complete(others, deadline));
  sum_in_order(std::span(parts).first(size()), values);
  return {};
}

Status Group::State::reduce_scattered(std::span<float> values, Deadline deadline) {
  const auto chunk = [&](size_t r) {
    const size_t begin = values.size() * r / size();
    const size_t end = values.size() * (r + 1) / size();
    return values.subspan(begin, end - begin);
  };
  const std::span<float> mine = chunk(rank);
  for (size_t r = 0; r < size(); ++r) {
    parts[r] = mine.data();
    if (r == rank) continue;
    const std::span<float> theirs = room(r, mine.size());
    parts[r] = theirs.data();
    SHOAL_TRY(links[r]->begin_send(std::as_bytes(chunk(r))));
    SHOAL_TRY(links[r]->begin_receive_exactly(std::as_writable_bytes(theirs)));
  }
  SHOAL_TRY(complete(others, deadline));
  sum_in_order(std::span(parts).first(size()), mine);
  for (size_t r = 0; r < size(); ++r) {
    if (r == rank) continue;
    SHOAL_TRY(links[r]->begin_send(std::as_bytes(mine)));
    SHOAL_TRY(links[r]->begin_receive_exactly(std::as_writable_bytes(chunk(r))));
  }
  return complete(others, deadline);
}

Group::Group(int rank, std::vector<std::unique_ptr<Link>> links)
    : state_(std::make_unique<State>()) {
  SHOAL_CHECK(!links.empty() && links.size() <= kMostRanks);
  SHOAL_CHECK(rank >= 0 && static_cast<size_t>(rank) < links.size());
  state_->rank = static_cast<size_t>(rank);
  state_->links = std::move(links);
  state_->received.resize(state_->size());
  for (size_t r = 0; r < state_->size(); ++r) {
    SHOAL_CHECK((state_->links[r] == nullptr) == (r == state_->rank));
    if (r != state_->rank) state_->others.push_back(state_->links[r].get());
  }
}

Group::Group(Group&&) noexcept = default;
Group& Group::operator=(Group&&) noexcept = default;
Group::~Group() = default;

int Group::rank() const {
  return static_cast<int>(state_->rank);
}
int Group::size() const {
  return static_cast<int>(state_->size());
}
void Group::set_reduce_route(ReduceRoute route) {
  state_->route = route;
}

LinkCounters Group::counters() const {
  LinkCounters all = state_->counters;
  state_->add_bytes(all);
  return all;
}

Status Group::all_reduce(std::span<float> values, Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    if (state.size() == 1 || values.empty()) return {};
    const bool direct = state.route == ReduceRoute::kByCost
                            ? direct_is_cheaper(values.size_bytes(), state.size())
                            : state.route == ReduceRoute::kDirect;
    return direct ? state.reduce_direct(values, deadline)
                  : state.reduce_scattered(values, deadline);
  });
}

Status Group::all_gather(std::span<const std::byte> mine, std::vector<Bytes>& parts,
                         Deadline deadline) {
  State& state = *state_;
  return state.run([&]() -> Status {
    parts.resize(state.size());
    for (size_t r = 0; r < state.size(); ++r) {
      if (r == state.rank) {
        parts[r].assign(mine.begin(), mine.end());
        continue;
      }
      SHOAL_TRY(state.links[r]->begin_send(mine));
      SHOAL_TRY(state.links[r]->begin_receive(parts[r]));
    }
    return complete(state.others, deadline);
  });
}

Status Group::gather(int root, std::span<const std::byte> mine, std::vector<Bytes>& parts,
                     Deadline deadline) {
  State& state = *state_;
  SHOAL_CHECK(root >= 0 && root < size());
  const auto from = static_cast<size_t>(root);
  return state.run([&]() -> Status {
    if (state.rank != from) {
      SHOAL_TRY(state.links[from]->begin_send(mine));
      return complete(state.others, deadline);
    }
    parts.resize(state.size());
    for (size_t r = 0; r < state.size(); ++r) {
      if (r == from) {
        parts[r].assign(mine.begin(), mine.end());
      } else {
        SHOAL_TRY(state.links[r]->begin_receive(parts[r]));
      }
    }
    return complete(state.others, deadline);
  });
}

Status Group::broadcast(int root, Bytes& frame, Deadline deadline) {
  State& state = *state_;
  SHOAL_CHECK(root >= 0 && root < size());
  const auto from = static_cast<size_t>(root);
  return state.run([&]() -> Status {
    if (state.rank != from) {
      SHOAL_TRY(state.links[from]->begin_receive(frame));
    } else {
      for (Link* link : state.others) SHOAL_TRY(link->begin_send(frame));
    }
    return complete(state.others, deadline);
  });
}

}  // namespace shoal
