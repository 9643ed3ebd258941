// What NodeService and its coroutines share. Private to this module; loop thread only. Coroutines
// hold it by shared_ptr and look at `stopping` after every wait.
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <map>
#include <optional>
#include <set>

#include "cluster/control_message.h"
#include "cluster/data_port.h"
#include "cluster/hello.h"
#include "cluster/identity.h"
#include "cluster/invitation.h"
#include "cluster/link_probe.h"
#include "cluster/member_store.h"
#include "cluster/node_service.h"

namespace shoal::cluster {

// Another member.
struct Peer {
  std::string id;
  bool gone = false;        // no longer a member
  bool beating = false;     // a heartbeat is under way
  size_t next_address = 0;  // among the candidates
  int failures = 0;         // in a row
  std::string dialled;      // the address that `heartbeat_client` leads to
  std::string address;      // at which it last answered
  std::string observed;     // where its requests come from, with its own port
  std::string problem;      // why it could not be reached, or why it refuses us
  std::shared_ptr<http::Client> heartbeat_client;
  std::shared_ptr<http::Client> control_client;
  std::string control_address;
  std::deque<double> heartbeat_times_s;
  std::optional<NodeFacts> facts;
  Json state = Json::object();
  std::map<std::string, LinkMeasure> links;
  std::string list_digest;
  std::optional<LinkMeasure> link;  // measured by this node
  Clock::time_point measured_at{};  // when this node measured, or first heard what the peer had
  Clock::time_point next_probe{};
};

struct NodeState : std::enable_shared_from_this<NodeState> {
  NodeState(asio::io_context& io, NodeServiceOptions with, Identity who, MemberStore where,
            MemberList members, NodeServiceCallbacks calls);

  asio::io_context& loop;
  NodeServiceOptions options;
  Identity identity;
  MemberStore store;
  MemberList list;
  NodeServiceCallbacks callbacks;
  uint64_t incarnation;
  Membership membership;
  InvitationDesk desk;
  NodeFacts facts;
  Json local_state = Json::object();
  std::vector<std::string> addresses;
  std::map<std::string, std::shared_ptr<Peer>> peers;
  std::map<std::string, http::Handler> routes;
  std::function<void(LinkPreamble, UniqueFd)> data_link_handler;
  bool stopping = false;
  bool joining = false;
  bool probing = false;  // from the announcement of a measurement to its end
  asio::steady_timer ticker;
  LinkProber prober;
  DataPort data_port;
  std::unique_ptr<http::Server> server;

  std::string name_of(const std::string& id) const;
  bool is_idle() const { return !callbacks.is_idle || callbacks.is_idle(); }
  void spawn(asio::awaitable<void> work);

  // node_service.cc
  Status listen();
  void stop();
  // Peers follow the list; the list goes to disk.
  Status save();
  void list_changed();
  void sync_peers();
  void become_alone(const std::string& reason);
  void report(PeerEvent::Kind kind, const std::string& id, const std::string& reason);

  // heartbeat.cc
  void handle(const Event& event);
  Hello hello_for(const std::string& peer) const;
  void absorb(Peer& peer, const Hello& hello, bool hears_us);
  std::vector<std::string> candidates(const Peer& peer) const;
  std::shared_ptr<http::Client> dial(const Peer& peer, const std::string& address) const;
  std::shared_ptr<http::Client> control_client(Peer& peer);
  void beat_all();
  static asio::awaitable<void> tick(std::shared_ptr<NodeState> self);
  static asio::awaitable<void> beat(std::shared_ptr<NodeState> self, std::shared_ptr<Peer> peer);

  // link measuring, probing.cc
  void probe_when_due();
  static asio::awaitable<void> probe(std::shared_ptr<NodeState> self, std::shared_ptr<Peer> peer);
  static asio::awaitable<Status> announce_timing(std::shared_ptr<NodeState> self,
                                                 std::shared_ptr<Peer> peer, ProbeTicket ticket);
  static asio::awaitable<Result<LinkTimes>> time_link(std::shared_ptr<NodeState> self,
                                                      std::shared_ptr<Peer> peer, LinkMode mode,
                                                      std::vector<uint64_t> sizes, double seconds);

  // control_port.cc
  asio::awaitable<void> answer(http::Exchange& exchange);
  Result<Json> answer_heartbeat(const http::Request& request);
  Result<Json> answer_probe(const http::Request& request);

  // pairing.cc
  Result<Json> answer_pair(const http::Request& request);
  Result<Json> answer_removed(const http::Request& request);
  Result<Json> answer_leave(const http::Request& request);
  Result<std::string> invite();
  static asio::awaitable<Status> join(std::shared_ptr<NodeState> self, std::string code);
  static asio::awaitable<Status> remove(std::shared_ptr<NodeState> self, std::string who);
  static asio::awaitable<Status> leave(std::shared_ptr<NodeState> self);
  Result<std::string> find_member(const std::string& who) const;
};

}  // namespace shoal::cluster
