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

std::unexpected<Error> give_up(std::span<Link* const> links) {
  std::unexpected<Error> first = fail(ErrorCode::kDeadline, "the deadline passed");
  bool found = false;
  for (Link* link : links) {
    const Link::Interest interest = link->interest();
    if (!interest.to_read && !interest.to_write) continue;
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

Status complete(std::span<Link* const> links, Deadline deadline) {
  const WaitCounter counter(links);
  const auto all_done = [&links]() -> Result<Turn> {
    const auto busy = [](const Link* link) { return link->sending() || link->receiving(); };
    return std::ranges::any_of(links, busy) ? Turn::kNothing : Turn::kEnough;
  };
  SHOAL_ASSIGN(const bool in_time, drive(links, all_done, deadline));
  if (!in_time) return give_up(links);
  return {};
}

Result<bool> drive(std::span<Link* const> links, const std::function<Result<Turn>()>& turn,
                   Deadline deadline) {
  SHOAL_CHECK(links.size() <= kMostLinks);
  std::array<pollfd, kMostLinks> waiting;
  Deadline spin_until{};
  for (bool moved = true;; moved = false) {  // the first round starts the spinning
    for (Link* link : links) {
      SHOAL_ASSIGN(const Link::Progress progress, link->advance());
      moved |= progress.moved;
    }
    SHOAL_ASSIGN(const Turn next, turn());
    if (next == Turn::kEnough) return true;
    const auto now = Clock::now();
    if (now >= deadline) return false;
    if (moved || next == Turn::kBegan) spin_until = now + kSpin;
    if (now < spin_until) continue;
    for (size_t i = 0; i < links.size(); ++i) {
      const Link::Interest interest = links[i]->interest();
      const int events = (interest.to_read ? POLLIN : 0) | (interest.to_write ? POLLOUT : 0);
      waiting[i] = {interest.descriptor, static_cast<short>(events), 0};
    }
    // A timeout is not final here: advance() looks once more, then the deadline check decides.
    SHOAL_TRY(wait_for(std::span(waiting).first(links.size()), deadline));
    for (size_t i = 0; i < links.size(); ++i) {
      // With nothing to read or write, only a reset wakes: the peer failed after it had done its
      // part.
      if (waiting[i].events == 0 && waiting[i].revents != 0) return links[i]->reset_by_peer();
    }
  }
}

}  // namespace shoal
