#include "cluster/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace shoal::cluster {
namespace {

constexpr size_t kMostSightings = 8;

}  // namespace

std::string_view peer_status_name(PeerStatus status) {
  switch (status) {
    case PeerStatus::kNever:
      return "never";
    case PeerStatus::kAlive:
      return "alive";
    case PeerStatus::kSuspect:
      return "suspect";
    case PeerStatus::kDead:
      return "dead";
  }
  return "never";
}

std::vector<Action> Membership::on(const Event& event, Clock::time_point now) {
  std::vector<Action> actions;
  if (const auto* added = std::get_if<PeerAdded>(&event)) {
    if (added->id != self_) peers_.try_emplace(added->id).first->second.awaited_since = now;
  } else if (const auto* removed = std::get_if<PeerRemoved>(&event)) {
    peers_.erase(removed->id);
  } else if (const auto* heard = std::get_if<PeerHeard>(&event)) {
    const auto found = peers_.find(heard->id);
    if (found != peers_.end()) {
      hear(found->second, *heard, now, actions);
      judge(found->first, found->second, now, actions);
    }
  } else {
    for (auto& [id, peer] : peers_) {
      judge(id, peer, now, actions);
      const bool answers = peer.last_heard && now - *peer.last_heard < options_.dead;
      const bool lost = now - peer.awaited_since > options_.lost;
      const auto retry = lost ? options_.lost_retry : options_.dead_retry;
      const auto interval = answers ? options_.heartbeat : retry;
      if (peer.last_sent && now - *peer.last_sent < interval) continue;
      peer.last_sent = now;
      actions.push_back(SendHeartbeat{id});
    }
  }
  return actions;
}

void Membership::hear(State& peer, const PeerHeard& heard, Clock::time_point now,
                      std::vector<Action>& actions) {
  if (heard.protocol != options_.protocol) {
    peer.other_protocol = heard.protocol;
    return;
  }
  peer.other_protocol = 0;
  const bool is_new = !peer.sightings.contains(heard.incarnation);
  auto& sighting = peer.sightings.try_emplace(heard.incarnation, Sighting{now, now}).first->second;
  sighting.last = now;
  if (is_new && peer.incarnation != 0) actions.push_back(PeerRestarted{heard.id});
  if (is_new) peer.incarnation = heard.incarnation;
  if (peer.sightings.size() > kMostSightings) {
    peer.sightings.erase(std::min_element(
        peer.sightings.begin(), peer.sightings.end(),
        [](const auto& a, const auto& b) { return a.second.last < b.second.last; }));
  }
  // A late word of the incarnation before says nothing of the present one; but when the present one
  // has long been silent and the other speaks, the other is the one that lives.
  if (heard.incarnation != peer.incarnation) {
    const auto present = peer.sightings.find(peer.incarnation);
    const bool silent =
        present == peer.sightings.end() || now - present->second.last > options_.twins;
    if (!silent) return;
    peer.incarnation = heard.incarnation;
    actions.push_back(PeerRestarted{heard.id});
  }
  peer.last_heard = peer.awaited_since = now;
  peer.hears_us = heard.hears_us;
  if (heard.hears_us) peer.last_mutual = now;
}

// An older incarnation that still speaks well after a newer one began: not a restart, but two
// processes.
bool Membership::has_twins(const State& peer, Clock::time_point now) const {
  for (const auto& [older_id, older] : peer.sightings) {
    for (const auto& [newer_id, newer] : peer.sightings) {
      if (older_id == newer_id || older.first > newer.first) continue;
      const bool overlap = older.last - newer.first > options_.dead;
      if (overlap && now - older.last < options_.twins && now - newer.last < options_.twins)
        return true;
    }
  }
  return false;
}

void Membership::judge(const std::string& id, State& peer, Clock::time_point now,
                       std::vector<Action>& actions) {
  PeerStatus status = peer.last_mutual ? PeerStatus::kDead : PeerStatus::kNever;
  if (peer.last_mutual && now - *peer.last_mutual < options_.dead) status = PeerStatus::kSuspect;
  if (peer.last_mutual && now - *peer.last_mutual < options_.suspect) status = PeerStatus::kAlive;
  const bool excluded = !exclusion_of(peer, now).empty();
  if (excluded) status = peer.last_mutual ? PeerStatus::kDead : PeerStatus::kNever;
  std::string reason = reason_of(peer, status, now);
  if (status == peer.status && reason == peer.reason) return;
  const PeerStatus from = std::exchange(peer.status, status);
  peer.reason = std::move(reason);
  actions.push_back(StatusChanged{id, from, status, peer.reason});
}

std::string Membership::exclusion_of(const State& peer, Clock::time_point now) const {
  if (peer.other_protocol != 0) {
    return fmt::format(
        "it speaks protocol version {}, this node version {}: run the same Shoal version on both",
        peer.other_protocol, options_.protocol);
  }
  if (has_twins(peer, now)) {
    return "two live incarnations of this identity are heard, so both are excluded: stop one of "
           "them (was its home copied?)";
  }
  return "";
}

std::string Membership::exclusion(const std::string& id, Clock::time_point now) const {
  const auto found = peers_.find(id);
  return found == peers_.end() ? "" : exclusion_of(found->second, now);
}

std::string Membership::reason_of(const State& peer, PeerStatus status,
                                  Clock::time_point now) const {
  std::string exclusion = exclusion_of(peer, now);
  if (!exclusion.empty()) return exclusion;
  if (status == PeerStatus::kAlive || status == PeerStatus::kNever) return "";
  const bool heard_lately = peer.last_heard && now - *peer.last_heard < options_.suspect;
  if (heard_lately && !peer.hears_us) return "it is heard, but does not hear this node";
  return status == PeerStatus::kSuspect ? "not heard for a second" : "not heard for two seconds";
}

const Membership::Peer* Membership::find(const std::string& id) const {
  const auto found = peers_.find(id);
  return found == peers_.end() ? nullptr : &found->second;
}

bool Membership::hears(const std::string& id, Clock::time_point now) const {
  const auto found = peers_.find(id);
  return found != peers_.end() && found->second.last_heard &&
         now - *found->second.last_heard < options_.suspect;
}

}  // namespace shoal::cluster
