#include "transport/link.h"

#include <algorithm>
#include <array>

#include "transport/socket.h"

namespace shoal {
namespace {

// Waking a blocked thread costs 25 to 30 us, an exchange of a small frame over a local link 7: spin
// across the usual gap between two ranks, and no longer, because ranks may share a core.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr size_t kMostLinks = 64;

class WaitCounter {
 public:
  explicit WaitCounter(std::span<Link* const> links) : links_(links) {}
  ~WaitCounter() {
    const auto elapsed =
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
    for (Link* link : links_) link->count_wait(static_cast<uint64_t>(elapsed));
  }

 private:
  std::span<Link* const> links_;
  Clock::time_point start_ = Clock::now();
};

// Sleeping on a link that nobody feeds must not outlast a peer that vanished without a word.
constexpr auto kLongestSleep = std::chrono::milliseconds(200);
// A sleeper wakes this long before the moment that it waits for, and spins the rest.
constexpr auto kWakeEarly = std::chrono::microseconds(100);

bool is_busy(const Link* link) {
  return link->sending() || link->receiving();
}

// What drive() knows of its links while it waits.
struct Waiting {
  std::span<Link* const> links;
  std::array<pollfd, kMostLinks> descriptors;
  Deadline wake_at;

  Result<bool> advance();  // whether anything moved
  void look();             // at what the links wait for
  Status sleep(Deadline deadline);
};

Result<bool> Waiting::advance() {
  SHOAL_CHECK(links.size() <= kMostLinks);
  bool moved = false;
  for (Link* link : links) {
    SHOAL_ASSIGN(const Link::Progress progress, link->advance());
    moved |= progress.moved;
  }
  return moved;
}

void Waiting::look() {
  wake_at = kNoDeadline;
  for (size_t i = 0; i < links.size(); ++i) {
    const Link::Interest interest = links[i]->interest();
    const int events = (interest.to_read ? POLLIN : 0) | (interest.to_write ? POLLOUT : 0);
    descriptors[i] = {interest.descriptor, static_cast<short>(events), 0};
    wake_at = std::min(wake_at, interest.wake_at);
  }
}

Status Waiting::sleep(Deadline deadline) {
  size_t told = 0;
  bool quiet = true;
  for (; told < links.size() && quiet; ++told) quiet = links[told]->before_sleep();
  Result<bool> ready = true;
  if (quiet) {
    Deadline until = std::min(deadline, Clock::now() + kLongestSleep);
    if (wake_at != kNoDeadline) until = std::min(until, wake_at - kWakeEarly);
    ready = wait_for(std::span(descriptors).first(links.size()), until);
  }
  for (size_t i = 0; i < told; ++i) links[i]->after_sleep();
  if (!ready) return std::unexpected(ready.error());
  for (size_t i = 0; i < links.size(); ++i) {
    if (!*ready && is_busy(links[i])) SHOAL_TRY(links[i]->check_peer());
    // With nothing to read or write, only a reset wakes: the peer failed after it had done its
    // part. One that ended in order meanwhile is no longer of interest.
    const bool reset = quiet && descriptors[i].events == 0 && descriptors[i].revents != 0;
    if (reset && links[i]->interest().descriptor >= 0) return links[i]->reset_by_peer();
  }
  return {};
}

std::unexpected<Error> give_up(std::span<Link* const> links) {
  std::unexpected<Error> first = fail(ErrorCode::kDeadline, "the deadline passed");
  bool found = false;
  for (Link* link : links) {
    if (!is_busy(link)) continue;
    auto error = link->overdue();
    if (!found) first = std::move(error);
    found = true;
  }
  return first;
}

}  // namespace

std::string_view link_mode_name(LinkMode mode) {
  return mode == LinkMode::kTls ? "tls" : "plain";
}

Result<LinkMode> link_mode_named(std::string_view name) {
  if (name == "tls") return LinkMode::kTls;
  if (name == "plain") return LinkMode::kPlain;
  return fail(ErrorCode::kInvalidArgument, "'{}' is not a link mode; use tls or plain", name);
}

Status Link::send(std::span<const std::byte> frame, Deadline deadline) {
  SHOAL_TRY(begin_send(frame));
  return finish(deadline);
}

Status Link::receive(Bytes& frame, Deadline deadline) {
  SHOAL_TRY(begin_receive(frame));
  return finish(deadline);
}

Status Link::exchange(std::span<const std::byte> out, std::span<std::byte> in, Deadline deadline) {
  SHOAL_TRY(begin_send(out));
  SHOAL_TRY(begin_receive_exactly(in));
  return finish(deadline);
}

Status Link::finish(Deadline deadline) {
  Link* self = this;
  return complete({&self, 1}, deadline);
}

Status complete(std::span<Link* const> links, Deadline deadline) {
  const WaitCounter counter(links);
  const auto all_done = [&links]() -> Result<Turn> {
    return std::ranges::any_of(links, is_busy) ? Turn::kNothing : Turn::kEnough;
  };
  SHOAL_ASSIGN(const bool in_time, drive(links, all_done, deadline));
  if (!in_time) return give_up(links);
  return {};
}

Result<bool> drive(std::span<Link* const> links, const std::function<Result<Turn>()>& turn,
                   Deadline deadline) {
  Waiting waiting;
  waiting.links = links;
  Deadline spin_until = Clock::now() + kSpin;
  while (true) {
    SHOAL_ASSIGN(const bool moved, waiting.advance());
    SHOAL_ASSIGN(const Turn next, turn());
    if (next == Turn::kEnough) return true;
    const auto now = Clock::now();
    // A sleep that times out is not final: advance() looks once more, then this decides.
    if (now >= deadline) return false;
    if (moved || next == Turn::kBegan) spin_until = now + kSpin;
    if (now < spin_until) continue;
    waiting.look();
    if (waiting.wake_at != kNoDeadline && waiting.wake_at - now <= kWakeEarly) continue;
    SHOAL_TRY(waiting.sleep(deadline));
  }
}

}  // namespace shoal
