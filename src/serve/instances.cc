#include "serve/instances.h"

#include <algorithm>

#include "base/counted.h"
#include "base/log.h"
#include "base/units.h"
#include "serve/child.h"
#include "serve/model_sampling.h"
#include "serve/reported.h"
#include "supervise/pair_keys.h"

namespace shoal::serve {
namespace {

constexpr std::chrono::seconds kControlTimeout{10};
constexpr std::chrono::milliseconds kLook{250};  // between looks at what other nodes report
constexpr std::chrono::seconds kMeasuring{5};    // of the link to a node that is new
constexpr std::chrono::seconds kUnseen{
    5};  // a rank may stay unreported so long after it was ordered

Error failure_of(const Json& rank) {
  return error_from_json(rank).value_or(
      Error{ErrorCode::kInternal, "a rank failed without saying why"});
}

bool all_linked(const Topology& topology) {
  return topology.links.size() >= topology.nodes.size() * (topology.nodes.size() - 1) / 2;
}

bool complained(const FallenRank& rank) {
  return rank.complaint.has_value();
}

}  // namespace

const char* name_of(Instance::State state) {
  switch (state) {
    case Instance::State::kPlacing:
      return "placing";
    case Instance::State::kForming:
      return "forming";
    case Instance::State::kReady:
      return "ready";
    case Instance::State::kRestarting:
      return "restarting";
    case Instance::State::kFailed:
      return "failed";
    case Instance::State::kStopped:
      return "stopped";
  }
  return "";
}

Instances::Instances(Context& context, LocalShards& shards) : context_(context), shards_(shards) {}

std::shared_ptr<Instance> Instances::find(const std::string& model,
                                          const std::string& sha256) const {
  for (const auto& [id, instance] : instances_) {
    if (!instance->open() || instance->stopping) continue;
    if (instance->model == model || instance->id == model) return instance;
    if (!sha256.empty() && instance->file.sha256 == sha256) return instance;
  }
  return nullptr;
}

std::shared_ptr<Instance> Instances::place(const std::string& model, const Wish& wish) {
  if (std::shared_ptr<Instance> running = find(model)) return running;
  auto instance = std::make_shared<Instance>();
  instance->id = to_hex(random_bytes(16));
  instance->model = model;
  instance->wish = wish;
  instances_[instance->id] = instance;
  asio::co_spawn(context_.loop, keep(instance), asio::detached);
  return instance;
}

Task<Status> Instances::wait(std::shared_ptr<Instance> instance, Deadline deadline) {
  while (instance->open() && instance->state != Instance::State::kReady) {
    if (Clock::now() >= deadline) {
      co_return fail(ErrorCode::kBusy, "{} is {} still; try again in a moment", instance->model,
                     name_of(instance->state));
    }
    co_await shards_.changed().wait(std::min<Deadline>(deadline, Clock::now() + kLook));
  }
  if (instance->state == Instance::State::kReady) co_return Status{};
  if (instance->state == Instance::State::kStopped)
    co_return fail(ErrorCode::kUnreachable, "{} was stopped", instance->model);
  co_return std::unexpected(instance->error);
}

Task<Status> Instances::stop(std::string model) {
  const std::shared_ptr<Instance> instance = find(model);
  if (!instance)
    co_return fail(ErrorCode::kNotFound, "{} does not run here; `shoal ps` lists what runs", model);
  instance->stopping = true;
  shards_.changed().notify();
  while (instance->open()) co_await shards_.changed().wait(Clock::now() + kLook);
  co_return Status{};
}

void Instances::stop_all() {
  for (auto& [id, instance] : instances_) {
    instance->stopping = true;
    shards_.release(instance->id, instance->generation);
  }
  shards_.changed().notify();
}

Task<void> Instances::keep(std::shared_ptr<Instance> instance) {
  RestartBackoff backoff;
  Clock::time_point ready_since = Clock::now();
  bool was_ready = false;
  while (!instance->stopping) {
    const Status formed = co_await form(*instance);
    if (formed) {
      was_ready = true;
      instance->state = Instance::State::kReady;
      instance->error = {};
      log::info("{} is ready on {}", instance->model,
                counted(std::ssize(instance->plan.ranks), "node"));
      ready_since = Clock::now();
      shards_.changed().notify();
      instance->error = co_await watch(*instance);
    } else {
      instance->error = formed.error();
    }
    instance->state = Instance::State::kRestarting;
    shards_.changed().notify();
    co_await release_everywhere(*instance);
    if (instance->stopping || !was_ready) break;
    const auto delay = backoff.next(ready_since, Clock::now());
    log::warn("{}: {}; forming it again in {:.1f} s", instance->model, instance->error.message,
              std::chrono::duration<double>(delay).count());
    const Deadline next = Clock::now() + delay;
    while (!instance->stopping && Clock::now() < next) co_await shards_.changed().wait(next);
  }
  instance->state = instance->stopping ? Instance::State::kStopped : Instance::State::kFailed;
  instances_.erase(instance->id);
  shards_.changed().notify();
}

// Of many nodes it takes longer than the loop may be away.
Task<Result<Placement>> Instances::place_card(ModelCard card, Wish wish) {
  const Topology topology = context_.node.topology();
  const auto choose = [&] { return shoal::place(topology, card, wish); };
  co_return co_await offload(context_.pool, choose);
}

Task<Result<Placement>> Instances::plan(std::string model, Wish wish) {
  Instance draft;
  draft.model = std::move(model);
  draft.wish = wish;
  Store& store = context_.store;
  const auto resolve = [&] { return store.resolve(draft.model); };
  const Result<ModelFile> file = co_await offload(context_.pool, resolve);
  if (!file) co_return std::unexpected(file.error());
  const auto inspect = [&] { return inspect_card(file->path); };
  const Result<ModelCard> card = co_await offload(context_.pool, inspect);
  if (!card) co_return std::unexpected(card.error());
  co_return co_await place_card(*card, wish);
}

Task<Result<Placement>> Instances::place_file(Instance& instance) {
  instance.state = Instance::State::kPlacing;
  instance.phase = "reading " + instance.model;
  Store& store = context_.store;
  const auto resolve = [&] { return store.resolve(instance.model); };
  Result<ModelFile> file = co_await offload(context_.pool, resolve);
  if (!file && file.error().code == ErrorCode::kNotFound) {  // another node may have it
    for (const auto& peer : context_.node.peers()) {
      if (peer.status != cluster::PeerStatus::kAlive) continue;
      for (const Json& known : reported_models(peer.state)) {
        if (known.value("name", "") != instance.model) continue;
        const std::string sha = known.value("sha256", "");
        const Result<PeerSource> source = peer_source(context_, peer.id, sha);
        if (!source) continue;
        instance.phase = fmt::format("fetching {} from {}", instance.model, peer.name);
        instance.phase_total_bytes = known.value("size_bytes", uint64_t{0});
        const auto pull = [&] {
          return store.pull_from_peer(sha, instance.model, *source, instance.phase_total_bytes);
        };
        file = co_await offload(context_.pool, pull);
        if (file) break;
      }
      if (file) break;
    }
  }
  if (!file) co_return std::unexpected(file.error());
  if (file->sha256.empty()) {  // a path that was never hashed
    instance.phase = "hashing " + file->name;
    instance.phase_total_bytes = file->size_bytes;
    const auto hash = [&store, path = file->path] { return store.add_path(path); };
    file = co_await offload(context_.pool, hash);
    if (!file) co_return std::unexpected(file.error());
  }
  instance.file = *file;
  const auto recommend = [&] { return catalogue_sampling(store, instance.model, *file); };
  Result<std::vector<SamplingDefault>> sampling = co_await offload(context_.pool, recommend);
  if (!sampling) co_return std::unexpected(sampling.error());
  instance.sampling = std::move(*sampling);
  if (!cards_.contains(file->sha256)) {
    const auto inspect = [&] { return inspect_card(file->path); };
    Result<ModelCard> card = co_await offload(context_.pool, inspect);
    if (!card) co_return std::unexpected(card.error());
    cards_[file->sha256] = std::move(*card);
  }
    co_await await_measured_links(instance);
    Result<Placement> placement = co_await place_card(cards_[file->sha256], instance.wish);
  const bool particular = instance.wish.node_count != 0 || instance.wish.mode.has_value();
  if (placement || instance.generation == 0 || !particular) co_return placement;
  Wish fewer = instance.wish;  // it ran, and a node was lost: what still fits answers
  fewer.node_count = 0;
  fewer.mode.reset();
  co_return co_await place_card(cards_[file->sha256], fewer);
}

// A node that has just joined or come back is measured within a moment; a plan without it would be
// a pity. By every other, too, but an instance that is to come back does not wait for that: two
// nodes may never reach each other.
Task<void> Instances::await_measured_links(const Instance& instance) {
  const Deadline deadline = Clock::now() + kMeasuring;
  while (Clock::now() < deadline) {
    bool measured = true;
    for (const auto& peer : context_.node.peers()) {
      if (peer.status == cluster::PeerStatus::kAlive && peer.link_round_trip_s == 0)
        measured = false;
    }
    if (instance.generation == 0) measured = measured && all_linked(context_.node.topology());
    if (measured) co_return;
    co_await shards_.changed().wait(Clock::now() + kLook);
  }
}

Task<Status> Instances::form(Instance& instance) {
  Result<Placement> placement = co_await place_file(instance);
  if (!placement) co_return std::unexpected(placement.error());
  instance.plan = *placement->chosen();
  instance.plan.model = instance.model;
  instance.plan.sha256 = instance.file.sha256;
  instance.plan.file_bytes = instance.file.size_bytes;
  instance.reason = placement->considered.front().reason;
  const Result<uint64_t> generation = next_generation();
  if (!generation) co_return std::unexpected(generation.error());
  instance.generation = *generation;
  instance.state = Instance::State::kForming;
  shards_.changed().notify();
  if (Status reserved = co_await reserve_everywhere(instance); !reserved) co_return reserved;
  if (Status ready = co_await await_state(instance, "reserved", kNoDeadline); !ready)
    co_return ready;
  if (Status committed = co_await commit_everywhere(instance); !committed) co_return committed;
  co_return co_await await_state(instance, "ready", kNoDeadline);
}

std::vector<ShardReservation> Instances::reservations(const Instance& instance) const {
  const size_t ranks = instance.plan.ranks.size();
  const auto keys = draw_pair_keys(static_cast<int>(ranks));
  std::vector<std::string> holders = {context_.node.id()};
  for (const auto& peer : context_.node.peers()) {
    if (peer.status != cluster::PeerStatus::kAlive) continue;
    for (const Json& known : reported_models(peer.state)) {
      if (known.value("sha256", "") == instance.plan.sha256) holders.push_back(peer.id);
    }
  }
  std::vector<std::vector<std::string>> addresses;
  for (const PlannedRank& rank : instance.plan.ranks) {
    const Result<std::string> address = context_.node.reachable_address(rank.node);
    addresses.push_back(address ? std::vector{*address} : std::vector<std::string>{});
  }

  std::vector<ShardReservation> list;
  for (size_t rank = 0; rank < ranks; ++rank) {
    ShardReservation& reservation = list.emplace_back();
    const Bytes id = *from_hex(instance.id);
    std::copy(id.begin(), id.end(), reservation.order.instance.begin());
    reservation.order.generation = instance.generation;
    reservation.order.rank = static_cast<int>(rank);
    reservation.order.plan = instance.plan;
    reservation.order.link_mode = context_.node.link_mode();
    reservation.order.addresses = addresses;
    reservation.order.keys = keys[rank];
    reservation.order.sampling = instance.sampling;
    reservation.model_name = instance.file.name;
    reservation.coordinator = context_.node.id();
    reservation.holders = holders;
  }
  return list;
}

Task<Status> Instances::tell(const std::string& node, const std::string& verb, Json body) {
  const Result<Json> answer = co_await context_.node.call(
      node, "/control/instance/" + verb, std::move(body), Clock::now() + kControlTimeout);
  if (!answer) co_return std::unexpected(answer.error());
  co_return Status{};
}

Task<Status> Instances::reserve_everywhere(Instance& instance) {
  for (ShardReservation& reservation : reservations(instance)) {
    const PlannedRank& rank = instance.plan.ranks[static_cast<size_t>(reservation.order.rank)];
    Status reserved;
    if (rank.node == context_.node.id()) {
      reserved = shards_.reserve(std::move(reservation));
    } else {
      reserved = co_await tell(rank.node, "reserve", to_json(reservation));
    }
    if (!reserved) co_return std::unexpected(reserved.error().within(rank.node_name));
  }
  co_return Status{};
}

Task<Status> Instances::commit_everywhere(Instance& instance) {
  const Json body = {{"instance", instance.id}, {"generation", instance.generation}};
  for (const PlannedRank& rank : instance.plan.ranks) {
    Status committed;
    if (rank.node == context_.node.id()) {
      committed = shards_.commit(instance.id, instance.generation);
    } else {
      committed = co_await tell(rank.node, "commit", body);
    }
    if (!committed) co_return std::unexpected(committed.error().within(rank.node_name));
  }
  co_return Status{};
}

Task<void> Instances::release_everywhere(Instance& instance) {
  shards_.release(instance.id, instance.generation);
  const Json body = {{"instance", instance.id}, {"generation", instance.generation}};
  for (const PlannedRank& rank : instance.plan.ranks) {
    if (rank.node == context_.node.id()) continue;
    if (const Status told = co_await tell(rank.node, "release", body); !told) {
      log::warn("{} could not be told to let go of {}: {}", rank.node_name, instance.model,
                told.error().message);
    }
  }
}

// What is known of a rank: its published state, or why there is none.
Result<Json> Instances::rank_state(const Instance& instance, size_t rank) const {
  const PlannedRank& planned = instance.plan.ranks[rank];
  if (planned.node == context_.node.id()) {
    if (auto local = shards_.published(instance.id, instance.generation)) return *local;
    return fail(ErrorCode::kUnreachable, "rank {} no longer runs on {}", rank, planned.node_name);
  }
  for (const auto& peer : context_.node.peers()) {
    if (peer.id != planned.node) continue;
    if (peer.status == cluster::PeerStatus::kDead) {
      return fail(ErrorCode::kUnreachable, "node {} was lost", planned.node_name);
    }
    if (!peer.state.is_object()) break;
    for (const Json& shard : reported_shards(peer.state)) {
      if (shard.value("instance", "") == instance.id &&
          shard.value("generation", uint64_t{0}) == instance.generation)
        return shard;
    }
    return fail(ErrorCode::kNotFound, "rank {} is not reported by {}", rank, planned.node_name);
  }
  return fail(ErrorCode::kUnreachable, "node {} is no longer a member", planned.node_name);
}

Task<Status> Instances::await_state(Instance& instance, std::string_view state, Deadline patience) {
  const Deadline unseen_until = Clock::now() + kUnseen;
  while (true) {
    if (instance.stopping) co_return fail(ErrorCode::kCancelled, "{} was stopped", instance.model);
    Fallen fallen;
    look(instance, unseen_until, fallen);
    if (!fallen.ranks.empty()) {
      Error why = co_await cause(instance, unseen_until, std::move(fallen));
      co_return std::unexpected(std::move(why));
    }
    if (Clock::now() > patience)
      co_return fail(ErrorCode::kDeadline, "{} took too long to form", instance.model);
    size_t there = 0;
    uint64_t done = 0;
    uint64_t total = 0;
    std::string phase;
    for (size_t rank = 0; rank < instance.plan.ranks.size(); ++rank) {
      const Result<Json> seen = rank_state(instance, rank);
      if (!seen) continue;  // not heard of yet
      const std::string now = seen->value("state", "");
      if (now == state || now == "ready") ++there;
      if (now == "fetching" || phase.empty()) phase = now;
      done += seen->value("done_bytes", uint64_t{0});
      total += seen->value("total_bytes", uint64_t{0});
    }
    if (there == instance.plan.ranks.size()) co_return Status{};
    instance.phase = fmt::format("{} {}", phase.empty() ? "starting" : phase, instance.model);
    instance.phase_done_bytes = done;
    instance.phase_total_bytes = total;
    co_await shards_.changed().wait(Clock::now() + kLook);
  }
}

Task<Error> Instances::watch(Instance& instance) {
  while (true) {
    if (instance.stopping) co_return Error{ErrorCode::kCancelled, "it was stopped"};
    Fallen fallen;
    look(instance, Clock::now(), fallen);
    if (!fallen.ranks.empty()) co_return co_await cause(instance, Clock::now(), std::move(fallen));
    co_await shards_.changed().wait(Clock::now() + kLook);
  }
}

void Instances::look(const Instance& instance, Deadline unseen_until, Fallen& fallen) const {
  for (size_t rank = 0; rank < instance.plan.ranks.size(); ++rank) {
    if (std::ranges::find(fallen.ranks, rank, &FallenRank::rank) != fallen.ranks.end()) continue;
    const Result<Json> seen = rank_state(instance, rank);
    const bool failed = seen && seen->value("state", "") == "failed";
    const bool awaited = !seen && seen.error().code == ErrorCode::kNotFound;
    if (seen ? !failed : awaited && Clock::now() < unseen_until) continue;
    fallen.errors.push_back(seen ? failure_of(*seen) : seen.error());
    FallenRank& one = fallen.ranks.emplace_back(FallenRank{rank, std::nullopt});
    if (!seen) continue;
    if (auto complaint = json_field<std::string>(*seen, "complaint"))
      one.complaint = std::move(*complaint);
  }
}

// Waits a moment for what the others say, unless one has fallen without a word, which settles it.
Task<Error> Instances::cause(const Instance& instance, Deadline unseen_until, Fallen fallen) {
  Deadline until = Clock::now() + kLastWords;
  while (Clock::now() < until && fallen.ranks.size() < instance.plan.ranks.size() &&
         std::ranges::all_of(fallen.ranks, complained)) {
    co_await shards_.changed().wait(std::min<Deadline>(until, Clock::now() + kLook));
    const size_t heard = fallen.ranks.size();
    look(instance, unseen_until, fallen);
    if (fallen.ranks.size() > heard) until = Clock::now() + kLastWords;
  }
  const size_t rank = nearest_to_the_cause(fallen.ranks);
  const auto at = std::ranges::find(fallen.ranks, rank, &FallenRank::rank);
  co_return fallen.errors[static_cast<size_t>(at - fallen.ranks.begin())];
}

Result<uint64_t> Instances::next_generation() {
  const std::string path = context_.options.home + "/generation";
  uint64_t last = 0;
  if (const Result<std::string> text = read_file(path, 64))
    last = std::strtoull(text->c_str(), nullptr, 10);
  SHOAL_TRY(write_file_atomically(path, std::to_string(last + 1)));
  return last + 1;
}

Json Instances::describe(const Instance& instance) const {
  Json json = {{"id", instance.id},
               {"model", instance.model},
               {"state", name_of(instance.state)},
               {"generation", instance.generation},
               {"coordinator", context_.node.id()}};
  if (!instance.error.message.empty()) json["reason"] = instance.error.message;
  if (instance.plan.ranks.empty()) return json;
  json["sha256"] = instance.plan.sha256;
  json["lead"] = instance.lead();
  json["plan"] = to_json(instance.plan);
  json["plan_reason"] = instance.reason;
  Json ranks = Json::array();
  for (size_t rank = 0; rank < instance.plan.ranks.size(); ++rank) {
    const PlannedRank& planned = instance.plan.ranks[rank];
    Json row = {{"rank", rank},
                {"node", planned.node},
                {"node_name", planned.node_name},
                {"state", "unknown"}};
    if (const Result<Json> seen = rank_state(instance, rank)) {
      for (const char* name : {"state", "stats", "pid"}) {
        if (seen->contains(name)) row[name] = (*seen)[name];
      }
    }
    ranks.push_back(std::move(row));
  }
  json["ranks"] = std::move(ranks);
  return json;
}

Json Instances::published() const {
  Json list = Json::array();
  for (const auto& [id, instance] : instances_) list.push_back(describe(*instance));
  return list;
}

}  // namespace shoal::serve
