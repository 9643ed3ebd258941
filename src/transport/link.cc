#include "transport/link.h"

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
  SHOAL_CHECK(links.size() <= kMostLinks);
  const WaitCounter counter(links);
  std::array<pollfd, kMostLinks> waiting;
  Deadline spin_until = Clock::now() + kSpin;
  while (true) {
    bool moved = false;
    bool done = true;
    for (size_t i = 0; i < links.size(); ++i) {
      SHOAL_ASSIGN(const Link::Progress progress, links[i]->advance());
      moved |= progress.moved;
      done &= progress.done;
      const Link::Interest interest = links[i]->interest();
      const int events = (interest.to_read ? POLLIN : 0) | (interest.to_write ? POLLOUT : 0);
      waiting[i] = {interest.descriptor, static_cast<short>(events), 0};
    }
    if (done) return {};
    const auto now = Clock::now();
    if (now >= deadline) return give_up(links);
    if (moved) spin_until = now + kSpin;
    if (moved || now < spin_until) continue;
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
