// When links are measured: once when a peer comes up, again every few minutes while nothing runs.
// Of two nodes the one with the lower id measures and tells the other with its heartbeats. And when
// somebody asks, by whoever is asked.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.h"
#include "base/units.h"
#include "cluster/node_state.h"

namespace shoal::cluster {
namespace {

constexpr std::chrono::seconds kAgain{180};
constexpr std::chrono::milliseconds kRetry{1500};
constexpr std::chrono::milliseconds kAnswerTime{1000};
// Of measurements that somebody waits for: a periodic one of another link takes a second or two.
constexpr std::chrono::milliseconds kBusyTime{6000};
constexpr std::chrono::milliseconds kLeastPause{50};  // and up to 255 ms more
constexpr std::chrono::milliseconds kStoppingLook{500};

Json ticket_json(const ProbeTicket& ticket) {
  return {{"probe", to_hex(ticket.id)},
          {"key", to_hex(ticket.key)},
          {"mode", link_mode_name(ticket.mode)}};
}

Result<ProbeTicket> ticket_from_json(const Json& json) {
  SHOAL_ASSIGN(const std::string id_text, json_field<std::string>(json, "probe"));
  SHOAL_ASSIGN(const std::string key_text, json_field<std::string>(json, "key"));
  SHOAL_ASSIGN(const std::string mode_text, json_field<std::string>(json, "mode"));
  SHOAL_ASSIGN(const Bytes id, from_hex(id_text));
  ProbeTicket ticket;
  SHOAL_ASSIGN(ticket.key, from_hex(key_text));
  SHOAL_ASSIGN(ticket.mode, link_mode_named(mode_text));
  if (id.size() != ticket.id.size() || ticket.key.size() != 32) {
    return fail(ErrorCode::kInvalidArgument, "the announcement of a measurement is malformed");
  }
  std::ranges::copy(id, ticket.id.begin());
  return ticket;
}

ProbeTicket new_ticket(LinkMode mode) {
  ProbeTicket ticket;
  std::ranges::copy(random_bytes(ticket.id.size()), ticket.id.begin());
  ticket.key = random_bytes(32);
  ticket.mode = mode;
  return ticket;
}

}  // namespace

void NodeState::probe_when_due() {
  if (probing || prober.is_busy()) return;
  const auto now = Clock::now();
  for (const auto& [id, peer] : peers) {
    const Membership::Peer* known = membership.find(id);
    const bool ready = known != nullptr && known->status == PeerStatus::kAlive &&
                       !peer->address.empty() && identity.id < id && now >= peer->next_probe;
    if (!ready || (peer->link && !is_idle())) continue;
    peer->next_probe = now + kRetry;
    probing = true;
    spawn(probe(shared_from_this(), peer));
    return;
  }
}

asio::awaitable<void> NodeState::probe(std::shared_ptr<NodeState> self,
                                       std::shared_ptr<Peer> peer) {
  const ProbeTicket ticket = new_ticket(self->list.link_mode());
  const std::string address = peer->address;
  const auto client = self->control_client(*peer);
  const auto answer =
      co_await call(client, "/control/probe", ticket_json(ticket), Clock::now() + kAnswerTime);
  if (self->stopping || peer->gone || !answer) {
    self->probing = false;
    co_return;
  }
  self->prober.measure(
      address, ticket, [weak = std::weak_ptr(self), peer](Result<LinkMeasure> measure) {
        const auto state = weak.lock();
        if (!state) return;
        state->probing = false;
        if (state->stopping || peer->gone) return;
        if (!measure) {
          log::warn("the link to {} could not be measured: {}", state->name_of(peer->id),
                    measure.error().message);
          return;
        }
        const bool first = !peer->link.has_value();
        peer->link = *measure;
        peer->measured_at = Clock::now();
        peer->next_probe = Clock::now() + kAgain;
        if (first) {
          log::info("the link to {}: {} there and back, {}/s", state->name_of(peer->id),
                    format_duration(measure->round_trip_s),
                    format_bytes(static_cast<uint64_t>(measure->bytes_per_s)));
        }
        state->beat_all();
      });
}

// Nodes measure one link at a time, so one that is busy may be free in a moment.
asio::awaitable<Status> NodeState::announce_timing(std::shared_ptr<NodeState> self,
                                                   std::shared_ptr<Peer> peer, ProbeTicket ticket) {
  const Deadline patience = Clock::now() + kBusyTime;
  const std::string name = self->name_of(peer->id);
  asio::steady_timer pause(self->loop);
  while (true) {
    Error refusal{ErrorCode::kBusy, "this node is measuring another link"};
    if (!self->probing && !self->prober.is_busy()) {
      self->probing = true;
      const auto client = self->control_client(*peer);
      const auto answer = co_await call(client, "/control/time_link", ticket_json(ticket),
                                        Clock::now() + kAnswerTime);
      if (answer) co_return Status{};
      self->probing = false;
      refusal = answer.error().within(name);
      // A node that does not know the request takes it for one of another kind.
      if (answer.error().code == ErrorCode::kNotFound ||
          answer.error().code == ErrorCode::kInvalidArgument) {
        co_return fail(ErrorCode::kUnsupported,
                       "{} runs an older Shoal, which measures links when it sees fit only", name);
      }
      if (answer.error().code != ErrorCode::kBusy) co_return std::unexpected(refusal);
    }
    if (Clock::now() > patience || self->stopping || peer->gone) co_return std::unexpected(refusal);
    // Of chance length: two nodes that ask one another would else go on refusing each other.
    const auto more = static_cast<int>(random_bytes(1).front());
    pause.expires_after(kLeastPause + std::chrono::milliseconds(more));
    boost::system::error_code ignored;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

asio::awaitable<Result<LinkTimes>> NodeState::time_link(std::shared_ptr<NodeState> self,
                                                        std::shared_ptr<Peer> peer, LinkMode mode,
                                                        std::vector<uint64_t> sizes,
                                                        double seconds) {
  ProbeTicket ticket = new_ticket(mode);
  ticket.timing = true;
  const std::string address = peer->address;
  const Status announced = co_await announce_timing(self, peer, ticket);
  if (!announced) co_return std::unexpected(announced.error());
  const auto result = std::make_shared<std::optional<Result<LinkTimes>>>();
  const auto ended = std::make_shared<asio::steady_timer>(self->loop, Clock::time_point::max());
  const auto done = [weak = std::weak_ptr(self), result, ended](Result<LinkTimes> times) {
    if (const auto state = weak.lock()) state->probing = false;
    *result = std::move(times);
    ended->cancel();
  };
  self->prober.time(address, ticket, std::move(sizes), seconds, done);
  boost::system::error_code ignored;
  while (!*result && !self->stopping) {
    ended->expires_after(kStoppingLook);
    co_await ended->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  if (!*result) co_return fail(ErrorCode::kCancelled, "this node is stopping");
  if (!**result) co_return std::unexpected((**result).error().within(self->name_of(peer->id)));
  co_return std::move(***result);
}

Result<Json> NodeState::answer_probe(const http::Request& request) {
  SHOAL_ASSIGN(const Json json, parse_json(request.body));
  SHOAL_ASSIGN(ProbeTicket ticket, ticket_from_json(json));
  ticket.timing = request.path == "/control/time_link";
  if (probing)
    return fail(ErrorCode::kBusy, "this node is measuring another link; try again later");
  SHOAL_TRY(prober.expect(std::move(ticket)));
  return Json::object();
}

}  // namespace shoal::cluster
