// Who is alive, from heartbeats: the pure core `on(event, now) -> actions` behind a real clock and
// network (node_service) or a simulated one (tests). One thread at a time. A peer is alive only if
// both ends hear each other; suspect after 1 s, dead after 2 s. Two live incarnations of one
// identity are both excluded, and a peer of another protocol version is, each with a sentence.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"

namespace shoal::cluster {

// Of everything that nodes say to each other; a change that an older node would misread raises it.
inline constexpr int kProtocolVersion = 1;

enum class PeerStatus { kNever, kAlive, kSuspect, kDead };
std::string_view peer_status_name(PeerStatus status);  // "never", "alive", "suspect", "dead"

// --- events ---
struct PeerAdded {
  std::string id;
};
struct PeerRemoved {
  std::string id;
};
// A heartbeat, or the answer to one of ours, that the peer has proved to be its own.
struct PeerHeard {
  std::string id;
  uint64_t incarnation = 0;
  int protocol = 0;
  bool hears_us = false;
};
struct Tick {};
using Event = std::variant<PeerAdded, PeerRemoved, PeerHeard, Tick>;

// --- actions ---
struct SendHeartbeat {
  std::string id;
  bool operator==(const SendHeartbeat&) const = default;
};
struct StatusChanged {
  std::string id;
  PeerStatus from, to;
  std::string reason;  // a sentence when something is wrong, else empty
  bool operator==(const StatusChanged&) const = default;
};
struct PeerRestarted {  // what it held is gone
  std::string id;
  bool operator==(const PeerRestarted&) const = default;
};
using Action = std::variant<SendHeartbeat, StatusChanged, PeerRestarted>;

class Membership {
 public:
  struct Options {
    std::chrono::milliseconds heartbeat{250};
    std::chrono::milliseconds suspect{1000};
    std::chrono::milliseconds dead{2000};
    std::chrono::milliseconds dead_retry{1000};  // heartbeats to a peer that does not answer,
    std::chrono::milliseconds lost_retry{5000};  // and to one that has not for long
    std::chrono::seconds lost{30};
    std::chrono::seconds twins{10};  // both incarnations heard within this: both live
    int protocol = kProtocolVersion;
  };
  Membership(std::string self, Options options) : self_(std::move(self)), options_(options) {}

  // Tick at least every 50 ms. Events of unknown peers are ignored.
  std::vector<Action> on(const Event& event, Clock::time_point now);

  struct Peer {
    PeerStatus status = PeerStatus::kNever;
    std::string reason;        // why it is not alive or not usable, when that is known
    uint64_t incarnation = 0;  // the latest
  };
  const Peer* find(const std::string& id) const;
  // For the next heartbeat: that we have heard the peer lately.
  bool hears(const std::string& id, Clock::time_point now) const;
  // Why nothing else is to be said to the peer: two incarnations, or another version. Empty when
  // all is well.
  std::string exclusion(const std::string& id, Clock::time_point now) const;

 private:
  struct Sighting {
    Clock::time_point first, last;
  };
  struct State : Peer {
    std::map<uint64_t, Sighting> sightings;        // by incarnation
    std::optional<Clock::time_point> last_heard;   // of the latest incarnation
    std::optional<Clock::time_point> last_mutual;  // and it heard us
    std::optional<Clock::time_point> last_sent;
    Clock::time_point awaited_since{};  // added, or last heard
    int other_protocol = 0;
    bool hears_us = true;
  };

  void hear(State& peer, const PeerHeard& heard, Clock::time_point now,
            std::vector<Action>& actions);
  void judge(const std::string& id, State& peer, Clock::time_point now,
             std::vector<Action>& actions);
  bool has_twins(const State& peer, Clock::time_point now) const;
  std::string exclusion_of(const State& peer, Clock::time_point now) const;
  std::string reason_of(const State& peer, PeerStatus status, Clock::time_point now) const;

  std::string self_;
  Options options_;
  std::map<std::string, State> peers_;
};

}  // namespace shoal::cluster
