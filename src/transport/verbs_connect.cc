#include <sys/epoll.h>

#include <array>

#include "transport/verbs_frames.h"

namespace shoal {
namespace {

// One descriptor to sleep on: readable when the card signals or the control link has something to
// say.
Result<UniqueFd> watch_both(int channel, int control) {
  UniqueFd both(::epoll_create1(EPOLL_CLOEXEC));
  if (!both) return system_error("cannot make", "an epoll set");
  for (const int descriptor : {channel, control}) {
    epoll_event readable{.events = EPOLLIN | EPOLLRDHUP, .data = {}};
    if (descriptor >= 0 && ::epoll_ctl(both.get(), EPOLL_CTL_ADD, descriptor, &readable) != 0)
      return system_error("cannot watch", "a link");
  }
  return both;
}

// The peer waits for our hello either way; if we have none, it is told so.
Result<VerbsHello> exchange_hellos(Link& control, const VerbsHello& mine, Deadline deadline) {
  const auto out = encode(mine);
  std::array<std::byte, kVerbsHelloBytes> in{};
  SHOAL_TRY(control.exchange(out, in, deadline));
  auto theirs = decode_verbs_hello(in);
  if (!theirs) return std::unexpected(theirs.error().within(control.peer()));
  if (mine.able && !theirs->able) {
    return fail(ErrorCode::kUnsupported,
                "{} cannot use RDMA, its own log says why; use another kind of link",
                control.peer());
  }
  if (mine.able && theirs->kind != mine.kind) {
    return fail(ErrorCode::kCorrupt,
                "{} wants the other kind of queue pair (RC, UC): start both ranks with the same",
                control.peer());
  }
  return theirs;
}

Status exchange_ready(Link& control, Deadline deadline) {
  std::array<std::byte, kVerbsReady.size()> in{};
  SHOAL_TRY(control.exchange(as_bytes(kVerbsReady), in, deadline));
  if (as_text(in) == kVerbsReady) return {};
  return fail(ErrorCode::kCorrupt, "{} did not say that its queue pair is ready", control.peer());
}

}  // namespace

Result<std::unique_ptr<Link>> make_verbs_link(std::unique_ptr<Link> control, VerbsOptions options,
                                              Deadline deadline) {
  auto endpoint = [&]() -> Result<std::unique_ptr<VerbsEndpoint>> {
    if (options.api == nullptr) {
      SHOAL_ASSIGN(options.api, load_verbs());
    }
    return VerbsEndpoint::open(*options.api, options);
  }();
  if (!endpoint) {
    (void)exchange_hellos(*control, VerbsHello{}, deadline);
    return std::unexpected(endpoint.error());
  }
  SHOAL_ASSIGN(const VerbsHello theirs, exchange_hellos(*control, (*endpoint)->hello(), deadline));
  if (const auto connected = (*endpoint)->connect(theirs); !connected) {
    return std::unexpected(
        connected.error().within(fmt::format("the RDMA link to {}", control->peer())));
  }
  SHOAL_TRY(exchange_ready(*control, deadline));
  SHOAL_ASSIGN(auto watch,
               watch_both((*endpoint)->channel_descriptor(), control->interest().descriptor));
  return link_over(std::move(*endpoint), std::move(control), std::move(watch), theirs);
}

}  // namespace shoal
