#include "cluster/node_service.h"

#include <sys/utsname.h>

#include <algorithm>
#include <boost/asio/detached.hpp>
#include <cstring>
#include <ctime>

#include "base/log.h"
#include "cluster/addresses.h"
#include "cluster/node_state.h"

namespace shoal::cluster {
namespace {

// Heartbeats with a daemon's state in them; instances' orders and file requests are small too.
constexpr uint64_t kLargestBodyBytes = 16 << 20;

std::string host_name() {
  utsname names{};
  if (::uname(&names) != 0 || names.nodename[0] == '\0') return "node";
  return names.nodename;
}

uint64_t draw_incarnation() {
  uint64_t value = 0;
  while (value == 0) std::memcpy(&value, random_bytes(sizeof value).data(), sizeof value);
  return value;
}

double median(std::deque<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Only a member's, or an invited stranger's, certificate passes the handshake.
http::PeerCheck check_of(const std::shared_ptr<NodeState>& state) {
  return [weak = std::weak_ptr(state)](const std::string& fingerprint) {
    const auto self = weak.lock();
    return self && !self->stopping &&
           (self->list.is_member(fingerprint) || self->desk.is_door_open(Clock::now()));
  };
}

PeerView view_of(const NodeState& state, const Member& member) {
  PeerView view;
  view.id = member.id;
  view.name = member.name;
  view.addresses = member.addresses;
  const auto found = state.peers.find(member.id);
  if (found == state.peers.end()) return view;
  const Peer& peer = *found->second;
  view.address = peer.address;
  view.facts = peer.facts.value_or(NodeFacts{});
  view.facts.id = member.id;
  view.facts.name = member.name;
  view.state = peer.state;
  view.heartbeat_s = median(peer.heartbeat_times_s);
  const auto theirs = peer.links.find(state.identity.id);
  if (peer.link) {
    view.link_round_trip_s = peer.link->round_trip_s;
    view.link_bytes_per_s = peer.link->bytes_per_s;
  } else if (theirs != peer.links.end()) {
    view.link_round_trip_s = theirs->second.round_trip_s;
    view.link_bytes_per_s = theirs->second.bytes_per_s;
  }
  if (view.link_round_trip_s > 0) view.link_age_s = seconds_since(peer.measured_at);
  if (const Membership::Peer* known = state.membership.find(member.id)) {
    view.status = known->status;
    view.incarnation = known->incarnation;
    view.reason = known->reason;
  }
  if (view.status != PeerStatus::kAlive && !peer.problem.empty()) {
    view.reason += (view.reason.empty() ? "" : "; ") + peer.problem;
  }
  return view;
}

}  // namespace

Json to_json(const PeerView& view) {
  return {{"id", view.id},
          {"name", view.name},
          {"addresses", view.addresses},
          {"address", view.address},
          {"status", peer_status_name(view.status)},
          {"reason", view.reason},
          {"facts", to_json(view.facts)},
          {"state", view.state},
          {"heartbeat_s", view.heartbeat_s},
          {"link_round_trip_s", view.link_round_trip_s},
          {"link_bytes_per_s", view.link_bytes_per_s},
          {"link_age_s", view.link_age_s}};
}

NodeState::NodeState(asio::io_context& io, NodeServiceOptions with, Identity who, MemberStore where,
                     MemberList members, NodeServiceCallbacks calls)
    : loop(io),
      options(std::move(with)),
      identity(std::move(who)),
      store(std::move(where)),
      list(std::move(members)),
      callbacks(std::move(calls)),
      incarnation(draw_incarnation()),
      membership(identity.id, {.protocol = options.protocol}),
      ticker(io),
      prober(io),
      data_port(io, [this](LinkPreamble preamble, UniqueFd socket) {
        if (stopping || prober.offer(preamble, socket)) return;
        if (data_link_handler) data_link_handler(preamble, std::move(socket));
      }) {
  options.node_name = clean_name(options.node_name.empty() ? host_name() : options.node_name);
}

std::string NodeState::name_of(const std::string& id) const {
  const Member* member = list.find(id);
  return member == nullptr || member->name.empty() ? "node " + id.substr(0, 8) : member->name;
}

void NodeState::spawn(asio::awaitable<void> work) {
  asio::co_spawn(loop, std::move(work), [](std::exception_ptr problem) {
    try {
      if (problem) std::rethrow_exception(problem);
    } catch (const std::exception& exception) {
      log::error("a task of the cluster ended by an exception: {}", exception.what());
    }
  });
}

Status NodeState::listen() {
  const auto weak = weak_from_this();
  auto listening = http::listen_node(
      loop, options.cluster_listen, identity.tls, check_of(shared_from_this()),
      [weak](http::Exchange& exchange) -> asio::awaitable<void> {
        if (const auto self = weak.lock()) co_await self->answer(exchange);
      },
      std::string(kPreambleMagic),
      [weak](UniqueFd socket, std::string) {
        if (const auto self = weak.lock()) self->data_port.accept(std::move(socket));
      },
      {.body_bytes = kLargestBodyBytes});
  if (!listening) return std::unexpected(listening.error());
  server = std::move(*listening);
  addresses = advertised_addresses(options.cluster_listen, server->port());
  const bool known = list.is_member(identity.id);
  if (!known)
    list.add({identity.id, options.node_name, addresses, std::time(nullptr), false, {}},
             identity.id);
  if (list.describe(identity.id, options.node_name, addresses) || !known) return save();
  return {};
}

void NodeState::stop() {
  stopping = true;
  prober.stop();
  ticker.cancel();
  if (server) server->close();
  for (auto& [id, peer] : peers) {
    peer->gone = true;
    if (peer->heartbeat_client) peer->heartbeat_client->cancel();
    if (peer->control_client) peer->control_client->cancel();
  }
  routes.clear();
  callbacks = {};
  data_link_handler = nullptr;
}

Status NodeState::save() {
  return store.save(list);
}

void NodeState::list_changed() {
  if (const Status saved = save(); !saved) log::error("the member list: {}", saved.error().message);
  if (!list.is_member(identity.id)) {
    const Member* entry = list.find(identity.id);
    const std::string who = entry == nullptr ? "another member" : name_of(entry->stamp.writer);
    become_alone(fmt::format("{} removed this node from the cluster", who));
    return;
  }
  sync_peers();
}

void NodeState::sync_peers() {
  for (const Member& member : list.members()) {
    if (member.id == identity.id || peers.contains(member.id)) continue;
    const auto peer = std::make_shared<Peer>();
    peer->id = member.id;
    peers[member.id] = peer;
    handle(PeerAdded{member.id});
    report(PeerEvent::Kind::kJoined, member.id, "");
  }
  std::vector<std::string> gone;
  for (const auto& [id, peer] : peers) {
    if (!list.is_member(id)) gone.push_back(id);
  }
  for (const std::string& id : gone) {
    const auto peer = peers[id];
    peer->gone = true;
    if (peer->heartbeat_client) peer->heartbeat_client->cancel();
    if (peer->control_client) peer->control_client->cancel();
    peers.erase(id);
    handle(PeerRemoved{id});
    report(PeerEvent::Kind::kRemoved, id, fmt::format("{} is no longer a member", name_of(id)));
  }
}

void NodeState::become_alone(const std::string& reason) {
  MemberList fresh;
  fresh.advance(list.counter());
  fresh.add({identity.id, options.node_name, addresses, std::time(nullptr), false, {}},
            identity.id);
  list = std::move(fresh);
  desk = {};
  if (const Status saved = save(); !saved) log::error("the member list: {}", saved.error().message);
  sync_peers();
  log::warn("{}; it is a cluster of one now", reason);
  if (callbacks.on_removed) callbacks.on_removed(reason);
}

void NodeState::report(PeerEvent::Kind kind, const std::string& id, const std::string& reason) {
  if (callbacks.on_peer) callbacks.on_peer({kind, id, name_of(id), reason});
}

// --- the service ---

NodeService::NodeService(std::shared_ptr<NodeState> state) : state_(std::move(state)) {}
NodeService::~NodeService() {
  state_->stop();
}

Result<std::unique_ptr<NodeService>> NodeService::start(asio::io_context& loop,
                                                        NodeServiceOptions options, NodeFacts self,
                                                        NodeServiceCallbacks callbacks) {
  SHOAL_ASSIGN(Identity identity, load_or_make_identity(options.home));
  SHOAL_ASSIGN(MemberStore store, MemberStore::open(options.home));
  SHOAL_ASSIGN(MemberList list, store.load());
  auto state = std::make_shared<NodeState>(loop, std::move(options), std::move(identity),
                                           std::move(store), std::move(list), std::move(callbacks));
  SHOAL_TRY(state->listen());
  std::unique_ptr<NodeService> service(new NodeService(state));
  service->set_facts(std::move(self));
  state->sync_peers();
  state->spawn(NodeState::tick(state));
  return service;
}

const std::string& NodeService::id() const {
  return state_->identity.id;
}
const std::string& NodeService::name() const {
  return state_->options.node_name;
}
uint64_t NodeService::incarnation() const {
  return state_->incarnation;
}
const http::TlsIdentity& NodeService::tls() const {
  return state_->identity.tls;
}
uint16_t NodeService::port() const {
  return state_->server->port();
}
std::vector<std::string> NodeService::addresses() const {
  return state_->addresses;
}
NodeFacts NodeService::facts() const {
  return state_->facts;
}

void NodeService::set_facts(NodeFacts facts) {
  facts.id = id();
  facts.name = name();
  state_->facts = std::move(facts);
}

void NodeService::set_local_state(Json state) {
  state_->local_state = std::move(state);
}
void NodeService::announce() {
  state_->beat_all();
}

std::vector<PeerView> NodeService::peers() const {
  std::vector<PeerView> views;
  for (const Member& member : state_->list.members()) {
    if (member.id != id()) views.push_back(view_of(*state_, member));
  }
  std::ranges::sort(views, {}, [](const PeerView& view) { return std::pair(view.name, view.id); });
  return views;
}

Result<PeerView> NodeService::find_peer(const std::string& who) const {
  SHOAL_ASSIGN(const std::string found, state_->find_member(who));
  return view_of(*state_, *state_->list.find(found));
}

Topology NodeService::topology() const {
  Topology topology;
  topology.nodes.push_back(state_->facts);
  std::map<std::pair<std::string, std::string>, LinkMeasure> links;
  const auto note = [&](const std::string& a, const std::string& b, const LinkMeasure& link,
                        bool replace) {
    const auto key = a < b ? std::pair(a, b) : std::pair(b, a);
    if (replace || !links.contains(key)) links[key] = link;
  };
  for (const auto& [peer_id, peer] : state_->peers) {
    const Membership::Peer* known = state_->membership.find(peer_id);
    if (known == nullptr || known->status != PeerStatus::kAlive || !peer->facts) continue;
    topology.nodes.push_back(*peer->facts);
    for (const auto& [other, link] : peer->links) note(peer_id, other, link, false);
    if (peer->link) note(id(), peer_id, *peer->link, true);
  }
  const auto present = [&](const std::string& node) {
    return std::ranges::any_of(topology.nodes,
                               [&](const NodeFacts& facts) { return facts.id == node; });
  };
  for (const auto& [ends, link] : links) {
    if (!present(ends.first) || !present(ends.second)) continue;
    topology.links.push_back({ends.first, ends.second, link.round_trip_s, link.bytes_per_s});
  }
  return topology;
}

asio::awaitable<Result<LinkTimes>> NodeService::time_link(std::string node_id, LinkMode mode,
                                                          std::vector<uint64_t> sizes,
                                                          double seconds) {
  const auto state = state_;
  const auto found = state->peers.find(node_id);
  if (found == state->peers.end() || found->second->address.empty()) {
    co_return fail(ErrorCode::kUnreachable, "{} has not been reached from this node",
                   state->name_of(node_id));
  }
  co_return co_await NodeState::time_link(state, found->second, mode, std::move(sizes), seconds);
}

LinkMode NodeService::link_mode() const {
  return state_->list.link_mode();
}

Status NodeService::set_link_mode(LinkMode mode) {
  state_->list.set_link_mode(mode, id());
  SHOAL_TRY(state_->save());
  // What was measured was the other mode's.
  for (auto& [peer_id, peer] : state_->peers) peer->next_probe = {};
  state_->beat_all();
  return {};
}

std::shared_ptr<http::Client> NodeService::client(const std::string& node_id) {
  const auto found = state_->peers.find(node_id);
  return found == state_->peers.end() ? nullptr : state_->control_client(*found->second);
}

asio::awaitable<Result<Json>> NodeService::call(std::string node_id, std::string path, Json body,
                                                Deadline deadline) {
  const auto to = client(node_id);
  const std::string name = state_->name_of(node_id);
  if (!to) co_return fail(ErrorCode::kUnreachable, "{} has not been reached yet", name);
  auto answer = co_await cluster::call(to, std::move(path), std::move(body), deadline);
  if (!answer) co_return std::unexpected(answer.error().within(name));
  co_return std::move(*answer);
}

Result<std::string> NodeService::reachable_address(const std::string& node_id) const {
  if (node_id == id()) {
    if (!state_->addresses.empty()) return state_->addresses.front();
    return fail(ErrorCode::kUnreachable, "this node has no address");
  }
  const auto found = state_->peers.find(node_id);
  if (found == state_->peers.end())
    return fail(ErrorCode::kNotFound, "{} is not a member", node_id.substr(0, 8));
  if (!found->second->address.empty()) return found->second->address;
  return fail(ErrorCode::kUnreachable, "{} has not been reached from this node",
              state_->name_of(node_id));
}

void NodeService::route(std::string prefix, http::Handler handler) {
  state_->routes[std::move(prefix)] = std::move(handler);
}
void NodeService::on_data_link(std::function<void(LinkPreamble, UniqueFd)> handler) {
  state_->data_link_handler = std::move(handler);
}

Result<std::string> NodeService::invite() {
  return state_->invite();
}
asio::awaitable<Status> NodeService::join(std::string code) {
  return NodeState::join(state_, std::move(code));
}
asio::awaitable<Status> NodeService::remove(std::string who) {
  return NodeState::remove(state_, std::move(who));
}
asio::awaitable<Status> NodeService::leave() {
  return NodeState::leave(state_);
}

}  // namespace shoal::cluster
