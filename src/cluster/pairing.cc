// How nodes come and go: invitations, joining, removal, leaving. Both ends of a pairing are proved
// by TLS (the inviter's fingerprint is in the code) and by the code's token.
#include <algorithm>
#include <ctime>

#include "base/log.h"
#include "cluster/node_state.h"

namespace shoal::cluster {
namespace {

constexpr std::chrono::seconds kPairTime{5};
constexpr std::chrono::milliseconds kTellTime{1500};
constexpr size_t kLeastPrefix = 4;

std::string join_texts(const std::vector<std::string>& texts, std::string_view between) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : std::string(between)) + text;
  return all;
}

}  // namespace

Result<std::string> NodeState::invite() {
  if (addresses.empty())
    return fail(ErrorCode::kUnreachable,
                "this node has no address at which another could reach it");
  std::array<std::byte, 16> token{};
  std::ranges::copy(random_bytes(token.size()), token.begin());
  return encode(desk.invite(identity.id, addresses, token, Clock::now()));
}

// --- the inviter ---

Result<Json> NodeState::answer_pair(const http::Request& request) {
  SHOAL_ASSIGN(const Json json, parse_json(request.body));
  SHOAL_ASSIGN(const int protocol, json_field<int>(json, "protocol"));
  if (protocol != options.protocol) {
    return fail(ErrorCode::kUnsupported,
                "{} speaks protocol version {}, the joining node version {}: run the same Shoal "
                "version on both",
                options.node_name, options.protocol, protocol);
  }
  SHOAL_ASSIGN(const std::string invitation_named, json_field<std::string>(json, "invitation"));
  SHOAL_ASSIGN(const std::string proof, json_field<std::string>(json, "proof"));
  SHOAL_ASSIGN(const std::string name, json_field<std::string>(json, "name"));
  SHOAL_ASSIGN(std::vector<std::string> at, addresses_from_json(json, "addresses"));
  const std::string joiner = request.peer_fingerprint;
  if (!is_node_id(joiner) || joiner == identity.id) {
    return fail(ErrorCode::kPermission,
                "a node cannot join itself: run `shoal cluster join` on the other machine");
  }
  SHOAL_ASSIGN(const Invitation invitation,
               desk.admit(invitation_named, proof, joiner, Clock::now()));
  if (!list.is_member(joiner)) {
    const MemberList before = list;
    list.add({joiner, clean_name(name), std::move(at), std::time(nullptr), false, {}}, identity.id);
    if (const Status saved = save(); !saved) {
      list = before;
      return std::unexpected(saved.error().within("the new member could not be written down"));
    }
    log::info("{} ({}) has joined", name_of(joiner), joiner.substr(0, 8));
    sync_peers();
    beat_all();
  }
  return Json{{"proof", pairing_proof(invitation, Side::kInviter, joiner, identity.id)},
              {"list", to_json(list)}};
}

// --- the joiner ---

namespace {

Status may_join(const NodeState& state, const Invitation& invitation) {
  if (state.joining) return fail(ErrorCode::kBusy, "this node is joining a cluster already");
  if (invitation.inviter == state.identity.id) {
    return fail(
        ErrorCode::kInvalidArgument,
        "this is this node's own invitation: run `shoal cluster join` on the other machine");
  }
  if (state.list.is_member(invitation.inviter)) {
    return fail(ErrorCode::kConflict, "this node is already in one cluster with {}",
                state.name_of(invitation.inviter));
  }
  const auto members = state.list.members();
  if (members.size() > 1) {
    return fail(ErrorCode::kConflict,
                "this node is in a cluster of {} already; run `shoal cluster leave` first, or "
                "invite the other node here",
                members.size());
  }
  return {};
}

// The list that the inviter answers with; checked, because it becomes ours whole.
Result<MemberList> list_from_answer(const Json& answer, const Invitation& invitation,
                                    const std::string& self) {
  SHOAL_ASSIGN(const std::string proof, json_field<std::string>(answer, "proof"));
  const std::string expected = pairing_proof(invitation, Side::kInviter, self, invitation.inviter);
  if (!equal_in_constant_time(as_bytes(proof), as_bytes(expected))) {
    return fail(ErrorCode::kPermission,
                "the inviter could not prove that the invitation is its own");
  }
  SHOAL_ASSIGN(const Json list_json, json_field<Json>(answer, "list"));
  SHOAL_ASSIGN(MemberList list, member_list_from_json(list_json));
  if (!list.is_member(self) || !list.is_member(invitation.inviter)) {
    return fail(ErrorCode::kCorrupt,
                "the inviter's member list lacks this node or the inviter itself");
  }
  return list;
}

// Says what a failed attempt at one address means. `final`: no other address will do better.
Error explain(const Error& error, const http::Client& client, const Invitation& invitation,
              const std::string& address, bool& final) {
  const std::string met = client.peer_fingerprint();
  if (!met.empty() && met != invitation.inviter) {
    return {
        ErrorCode::kPermission,
        fmt::format(
            "the machine at {} is not the one that made the invitation (its fingerprint is {}..., "
            "not {}...): "
            "another node has that address now, or somebody is in between; nothing was told to it",
            address, met.substr(0, 16), invitation.inviter.substr(0, 16))};
  }
  final =
      !met.empty() && error.code != ErrorCode::kUnreachable && error.code != ErrorCode::kDeadline;
  const bool turned_away = error.code == ErrorCode::kPermission &&
                           error.message.find("refused this node") != std::string::npos;
  if (turned_away) {
    return {ErrorCode::kPermission, fmt::format("{} has no open invitation: it has expired, was "
                                                "used, or the daemon there was restarted; run "
                                                "`shoal cluster invite` there again",
                                                address)};
  }
  return error;
}

asio::awaitable<Result<Json>> ask_to_pair(std::shared_ptr<NodeState> self, Invitation invitation) {
  const Json body = {
      {"protocol", self->options.protocol},
      {"invitation", invitation_id(invitation)},
      {"proof", pairing_proof(invitation, Side::kJoiner, self->identity.id, invitation.inviter)},
      {"name", self->options.node_name},
      {"addresses", self->addresses}};
  std::vector<std::string> failures;
  ErrorCode worst = ErrorCode::kUnreachable;
  for (const std::string& address : invitation.addresses) {
    const std::shared_ptr<http::Client> client =
        http::make_tls_client(self->loop, address, self->identity.tls, invitation.inviter);
    const auto answer = co_await call(client, "/control/pair", body, Clock::now() + kPairTime);
    if (answer || self->stopping) co_return answer;
    bool final = false;
    const Error error = explain(answer.error(), *client, invitation, address, final);
    if (final) co_return std::unexpected(error);
    if (error.code == ErrorCode::kPermission) worst = error.code;
    failures.push_back(error.message);
  }
  if (worst == ErrorCode::kPermission) co_return fail(worst, "{}", join_texts(failures, "; "));
  co_return fail(worst,
                 "the inviter was not reached ({}): is `shoal serve` running there, and may its "
                 "port be reached?",
                 join_texts(failures, "; "));
}

}  // namespace

asio::awaitable<Status> NodeState::join(std::shared_ptr<NodeState> self, std::string code) {
  const auto invitation = decode_invitation(code);
  if (!invitation) co_return std::unexpected(invitation.error());
  if (const Status allowed = may_join(*self, *invitation); !allowed) co_return allowed;
  self->joining = true;
  const auto answer = co_await ask_to_pair(self, *invitation);
  self->joining = false;
  if (self->stopping) co_return fail(ErrorCode::kCancelled, "this node is stopping");
  if (!answer) co_return std::unexpected(answer.error());
  auto list = list_from_answer(*answer, *invitation, self->identity.id);
  if (!list) co_return std::unexpected(list.error());
  list->describe(self->identity.id, self->options.node_name, self->addresses);
  const MemberList before = std::exchange(self->list, std::move(*list));
  if (const Status saved = self->save(); !saved) {
    self->list = before;
    co_return std::unexpected(
        saved.error().within("the cluster's members could not be written down"));
  }
  log::info("joined a cluster of {}", self->list.members().size());
  self->sync_peers();
  self->beat_all();
  co_return Status();
}

// --- leaving ---

Result<std::string> NodeState::find_member(const std::string& who) const {
  std::vector<std::string> found;
  std::vector<std::string> names;
  for (const Member& member : list.members()) {
    if (member.id == identity.id) continue;
    names.push_back(member.name);
    const bool by_id = who.size() >= kLeastPrefix && member.id.starts_with(who);
    if (member.name == who || by_id) found.push_back(member.id);
  }
  if (found.size() == 1) return found.front();
  if (found.size() > 1) {
    return fail(ErrorCode::kInvalidArgument, "{} nodes are called '{}'; name one by its id",
                found.size(), who);
  }
  const bool self =
      who == options.node_name || (who.size() >= kLeastPrefix && identity.id.starts_with(who));
  if (self)
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is this node; to take it out, run `shoal cluster leave` here", who);
  return fail(ErrorCode::kNotFound, "no member is called '{}'; the others are: {}", who,
              names.empty() ? "none" : join_texts(names, ", "));
}

asio::awaitable<Status> NodeState::remove(std::shared_ptr<NodeState> self, std::string who) {
  const auto id = self->find_member(who);
  if (!id) co_return std::unexpected(id.error());
  // It is told over a connection that was made while it was a member; the list says so to everybody
  // else.
  std::shared_ptr<http::Client> farewell;
  const auto peer = self->peers.find(*id);
  if (peer != self->peers.end() && !peer->second->address.empty()) {
    farewell = self->dial(*peer->second, peer->second->address);
  }
  const MemberList before = self->list;
  self->list.remove(*id, self->identity.id);
  if (const Status saved = self->save(); !saved) {
    self->list = before;
    co_return std::unexpected(saved.error().within("the removal could not be written down"));
  }
  log::info("removed {} from the cluster", self->name_of(*id));
  self->sync_peers();
  self->beat_all();
  if (farewell) {
    const Json body = {{"by", self->options.node_name}};
    (void)co_await call(farewell, "/control/removed", body, Clock::now() + kTellTime);
  }
  co_return Status();
}

asio::awaitable<Status> NodeState::leave(std::shared_ptr<NodeState> self) {
  if (self->list.members().size() < 2)
    co_return fail(ErrorCode::kConflict, "this node is a cluster of one already");
  std::vector<std::shared_ptr<http::Client>> others;
  for (const auto& [id, peer] : self->peers) {
    const Membership::Peer* known = self->membership.find(id);
    const bool alive =
        known != nullptr && known->status == PeerStatus::kAlive && !peer->address.empty();
    if (alive) others.push_back(self->dial(*peer, peer->address));
  }
  bool told = false;
  for (const auto& other : others) {
    const auto answer =
        co_await call(other, "/control/leave", Json::object(), Clock::now() + kTellTime);
    if (self->stopping) co_return fail(ErrorCode::kCancelled, "this node is stopping");
    told |= answer.has_value();
    if (told) break;  // the others learn it from each other
  }
  if (!told)
    log::warn(
        "no other member was reached: they keep this node in their lists until one removes it");
  self->become_alone("this node left the cluster");
  co_return Status();
}

Result<Json> NodeState::answer_removed(const http::Request& request) {
  const std::string by = name_of(request.peer_fingerprint);
  become_alone(fmt::format("{} removed this node from the cluster", by));
  return Json::object();
}

Result<Json> NodeState::answer_leave(const http::Request& request) {
  const std::string id = request.peer_fingerprint;
  list.remove(id, identity.id);
  SHOAL_TRY(save());
  log::info("{} has left the cluster", name_of(id));
  sync_peers();
  beat_all();
  return Json::object();
}

}  // namespace shoal::cluster
