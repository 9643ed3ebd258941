// Heartbeats: what goes out when the membership core asks for it, and what comes of an answer.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.h"
#include "cluster/addresses.h"
#include "cluster/node_state.h"

namespace shoal::cluster {
namespace {

constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::milliseconds kAnswerTime{1000};
constexpr size_t kTimesKept = 16;

}  // namespace

void NodeState::handle(const Event& event) {
  for (const Action& action : membership.on(event, Clock::now())) {
    if (const auto* send = std::get_if<SendHeartbeat>(&action)) {
      const auto found = peers.find(send->id);
      if (found != peers.end()) spawn(beat(shared_from_this(), found->second));
    } else if (const auto* changed = std::get_if<StatusChanged>(&action)) {
      const bool moved = changed->from != changed->to;
      if (changed->to == PeerStatus::kAlive) {
        if (moved) log::info("{} is alive", name_of(changed->id));
      } else if (moved || !changed->reason.empty()) {
        log::warn("{} is {}: {}", name_of(changed->id),
                  changed->to == PeerStatus::kNever ? "not reached" : peer_status_name(changed->to),
                  changed->reason);
      }
      if (!moved) continue;
      if (changed->to == PeerStatus::kAlive) report(PeerEvent::Kind::kAlive, changed->id, "");
      if (changed->to == PeerStatus::kSuspect)
        report(PeerEvent::Kind::kSuspect, changed->id, changed->reason);
      if (changed->to == PeerStatus::kDead)
        report(PeerEvent::Kind::kDead, changed->id, changed->reason);
    } else if (const auto* restarted = std::get_if<PeerRestarted>(&action)) {
      const auto found = peers.find(restarted->id);
      if (found != peers.end()) found->second->next_probe = {};
      report(PeerEvent::Kind::kRestarted, restarted->id, "its daemon was restarted");
    }
  }
}

Hello NodeState::hello_for(const std::string& peer) const {
  const auto now = Clock::now();
  Hello hello;
  hello.protocol = options.protocol;
  hello.incarnation = incarnation;
  hello.hears_you = membership.hears(peer, now);
  hello.refusal = membership.exclusion(peer, now);
  hello.name = options.node_name;
  hello.addresses = addresses;
  hello.facts = facts;
  hello.state = local_state;
  for (const auto& [id, other] : peers) {
    if (other->link) hello.links[id] = *other->link;
  }
  hello.list_digest = list.digest();
  const auto found = peers.find(peer);
  if (found == peers.end() || found->second->list_digest != hello.list_digest) hello.list = list;
  return hello;
}

void NodeState::absorb(Peer& peer, const Hello& hello, bool hears_us) {
  const std::string id = peer.id;
  const bool ours = hello.protocol == options.protocol;
  if (ours) {
    peer.problem =
        hello.refusal.empty() ? "" : fmt::format("it excludes this node: {}", hello.refusal);
    peer.facts = hello.facts;
    peer.facts->id = id;
    peer.facts->name = hello.name;
    peer.state = hello.state;
    const auto before = peer.links.find(identity.id);
    const auto now = hello.links.find(identity.id);
    const bool measured_anew =
        now != hello.links.end() && (before == peer.links.end() || before->second != now->second);
    if (measured_anew && !peer.link) peer.measured_at = Clock::now();
    peer.links = hello.links;
    peer.list_digest = hello.list_digest;
  }
  handle(PeerHeard{id, hello.incarnation, hello.protocol, hears_us && hello.refusal.empty()});
  if (!ours) return;
  bool changed = hello.list && list.merge(*hello.list);
  changed |= list.describe(id, hello.name, hello.addresses);
  if (changed) list_changed();
}

std::vector<std::string> NodeState::candidates(const Peer& peer) const {
  std::vector<std::string> all;
  const auto add = [&](const std::string& address) {
    if (!address.empty() && std::ranges::find(all, address) == all.end()) all.push_back(address);
  };
  add(peer.address);
  if (const Member* member = list.find(peer.id)) {
    for (const std::string& address : member->addresses) add(address);
  }
  add(peer.observed);
  for (const std::string& address : options.peers) add(address);
  return all;
}

std::shared_ptr<http::Client> NodeState::dial(const Peer& peer, const std::string& address) const {
  return http::make_tls_client(loop, address, identity.tls, peer.id);
}

std::shared_ptr<http::Client> NodeState::control_client(Peer& peer) {
  if (peer.address.empty()) return nullptr;
  if (!peer.control_client || peer.control_address != peer.address) {
    peer.control_client = dial(peer, peer.address);
    peer.control_address = peer.address;
  }
  return peer.control_client;
}

void NodeState::beat_all() {
  for (const auto& [id, peer] : peers) spawn(beat(shared_from_this(), peer));
}

asio::awaitable<void> NodeState::tick(std::shared_ptr<NodeState> self) {
  while (!self->stopping) {
    self->handle(Tick{});
    self->probe_when_due();
    boost::system::error_code ignored;
    self->ticker.expires_after(kTick);
    co_await self->ticker.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

asio::awaitable<void> NodeState::beat(std::shared_ptr<NodeState> self, std::shared_ptr<Peer> peer) {
  if (peer->beating || peer->gone || self->stopping) co_return;
  if (!peer->heartbeat_client) {
    const auto all = self->candidates(*peer);
    if (all.empty()) {
      peer->problem = "no address of it is known; name one with --peer";
      co_return;
    }
    peer->dialled = all[peer->next_address++ % all.size()];
    peer->heartbeat_client = self->dial(*peer, peer->dialled);
  }
  const auto client = peer->heartbeat_client;
  http::Request request;
  request.method = "POST";
  request.path = "/control/heartbeat";
  request.headers["Content-Type"] = "application/json";
  request.body = dump_json(to_json(self->hello_for(peer->id)));
  peer->beating = true;
  const auto start = Clock::now();
  const auto response = co_await client->request(std::move(request), start + kAnswerTime);
  peer->beating = false;
  if (peer->gone || self->stopping) co_return;

  Result<Hello> hello = std::unexpected(Error{});
  if (response) {
    // A version that is refused is answered with its number beside the error.
    const auto body = parse_json(response->body);
    const bool has_hello = body && body->is_object() && body->contains("protocol");
    if (has_hello) {
      hello = hello_from_json(*body, self->options.protocol);
    } else {
      const auto answer = parse_answer(*response);
      hello = answer ? fail(ErrorCode::kCorrupt, "it answers a heartbeat with something else")
                     : std::unexpected(answer.error());
    }
  } else {
    hello = std::unexpected(response.error());
  }
  if (!hello) {
    peer->problem = hello.error().message;
    // Once more at the address that answered before: a restarted peer closes its old connections.
    const bool again = peer->failures++ == 0 && peer->dialled == peer->address;
    peer->heartbeat_client = again ? self->dial(*peer, peer->dialled) : nullptr;
    co_return;
  }
  peer->failures = 0;
  peer->next_address = 0;
  peer->address = peer->dialled;
  peer->heartbeat_times_s.push_back(seconds_since(start));
  if (peer->heartbeat_times_s.size() > kTimesKept) peer->heartbeat_times_s.pop_front();
  self->absorb(*peer, *hello, true);
}

}  // namespace shoal::cluster
