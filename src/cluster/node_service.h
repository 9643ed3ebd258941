// This node's place in the cluster: the node port, the members, heartbeats with everyone, measured
// links, pairing. The daemon makes one and calls it from the loop's thread only; callbacks run
// there too and must not destroy the service. Nothing that comes in throws, aborts or reaches a
// handler of the daemon unless a member sent it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "cluster/link_timing.h"
#include "cluster/member_list.h"
#include "cluster/membership.h"
#include "http/http.h"
#include "placement/placement.h"
#include "transport/link.h"

namespace shoal::cluster {

namespace asio = boost::asio;

struct NodeServiceOptions {
  std::string home;
  std::string cluster_listen = "0.0.0.0:7466";
  std::vector<std::string> peers;  // static addresses at which members may be found
  std::string node_name;           // empty: the host's name
  int protocol = kProtocolVersion;
};

struct PeerEvent {
  enum class Kind { kJoined, kAlive, kSuspect, kDead, kRestarted, kRemoved };
  Kind kind;
  std::string id;
  std::string name;
  std::string reason;
};

struct NodeServiceCallbacks {
  std::function<void(const PeerEvent&)> on_peer;
  // Another member removed this node (or it left): it is a cluster of one now. The sentence says
  // who and why.
  std::function<void(const std::string& reason)> on_removed;
  // No instance runs: links may be measured again. Unset: always.
  std::function<bool()> is_idle;
};

// What is known of another member.
struct PeerView {
  std::string id;
  std::string name;
  std::vector<std::string> addresses;
  std::string address;  // at which it answers; empty when it never did
  PeerStatus status = PeerStatus::kNever;
  std::string reason;  // a sentence when it is not alive, or refuses this node, as far as known
  uint64_t incarnation = 0;
  NodeFacts facts;               // as last told; `read_bytes_per_s` is 0 before that
  Json state;                    // its daemon's, as last told
  double heartbeat_s = 0;        // median time of a heartbeat and its answer
  double link_round_trip_s = 0;  // of a data link; 0: not measured yet
  double link_bytes_per_s = 0;
  double link_age_s = 0;  // since it was measured, or heard of
};
Json to_json(const PeerView& view);

struct NodeState;

class NodeService {
 public:
  // Reads or makes the identity and the member list in `home`, listens, begins to look for members.
  static Result<std::unique_ptr<NodeService>> start(asio::io_context& loop,
                                                    NodeServiceOptions options, NodeFacts self,
                                                    NodeServiceCallbacks callbacks = {});
  ~NodeService();  // closes everything; coroutines under way end with kCancelled when the loop runs
                   // on
  NodeService(const NodeService&) = delete;
  NodeService& operator=(const NodeService&) = delete;

  const std::string& id() const;
  const std::string& name() const;
  uint64_t incarnation() const;
  const http::TlsIdentity& tls() const;
  uint16_t port() const;
  std::vector<std::string> addresses() const;  // as told to the others
  NodeFacts facts() const;
  void set_facts(NodeFacts facts);  // id and name are the service's
  void set_local_state(
      Json state);  // travels with every heartbeat; keep it to some tens of kilobytes
  void announce();  // a heartbeat to everybody now, so that new facts or state travel at once

  std::vector<PeerView> peers() const;  // by name, then id
  Result<PeerView> find_peer(
      const std::string& who) const;  // a name, or at least 4 digits of an id
  // This node first, then every member that is alive and has told its facts; links that either end
  // measured.
  Topology topology() const;

  // Measures the link to a member now, with frames of these sizes for about so long each, whatever
  // the cluster's mode. kBusy when either end measures another link; kUnsupported when the member's
  // Shoal is too old; kUnreachable.
  asio::awaitable<Result<LinkTimes>> time_link(std::string node_id, LinkMode mode,
                                               std::vector<uint64_t> sizes, double seconds);

  LinkMode link_mode() const;
  Status set_link_mode(LinkMode mode);  // for the whole cluster

  // Requests to a member. Null when it is no member or has never answered. Fetch it anew for each
  // use: it changes with the peer's address. Requests queue on one connection; stream() opens its
  // own.
  std::shared_ptr<http::Client> client(const std::string& node_id);
  // POST of JSON, answered with JSON; errors are sentences with the peer's name.
  asio::awaitable<Result<Json>> call(std::string node_id, std::string path, Json body,
                                     Deadline deadline);
  // Where a worker may dial the node port of a member (or of this node). kUnreachable.
  Result<std::string> reachable_address(const std::string& node_id) const;

  // Members' requests whose path begins with `prefix`; the longest prefix counts.
  // /control/{pair,heartbeat,probe,time_link,removed,leave} are the service's.
  // Request::peer_fingerprint is the member's id.
  void route(std::string prefix, http::Handler handler);
  // A data link for a worker: the socket is blocking, the preamble consumed. Who dials is proved by
  // the key of its link alone.
  void on_data_link(std::function<void(LinkPreamble, UniqueFd)> handler);

  Result<std::string> invite();  // the code
  asio::awaitable<Status> join(std::string code);
  asio::awaitable<Status> remove(std::string who);  // a name, or at least 4 digits of an id
  asio::awaitable<Status> leave();

 private:
  explicit NodeService(std::shared_ptr<NodeState> state);
  std::shared_ptr<NodeState> state_;
};

}  // namespace shoal::cluster
