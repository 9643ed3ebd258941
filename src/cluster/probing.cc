// When links are measured: once when a peer comes up, again every few minutes while nothing runs.
// Of two nodes the one with the lower id measures and tells the other with its heartbeats.
#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "cluster/node_state.h"

namespace shoal::cluster {
namespace {

constexpr std::chrono::seconds kAgain{180};
constexpr std::chrono::milliseconds kRetry{1500};
constexpr std::chrono::milliseconds kAnswerTime{1000};

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
  ProbeTicket ticket;
  std::ranges::copy(random_bytes(ticket.id.size()), ticket.id.begin());
  ticket.key = random_bytes(32);
  ticket.mode = self->list.link_mode();
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

Result<Json> NodeState::answer_probe(const http::Request& request) {
  SHOAL_ASSIGN(const Json json, parse_json(request.body));
  SHOAL_ASSIGN(ProbeTicket ticket, ticket_from_json(json));
  if (probing)
    return fail(ErrorCode::kBusy, "this node is measuring another link; try again later");
  SHOAL_TRY(prober.expect(std::move(ticket)));
  return Json::object();
}

}  // namespace shoal::cluster
