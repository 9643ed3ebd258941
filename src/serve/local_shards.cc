#include "serve/local_shards.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"
#include "kernels/probe.h"

namespace shoal::serve {
namespace {

// Above what the plan says a rank needs: stacks, code, the allocator's slack.
constexpr uint64_t kMemoryHeadroomBytes = 512ull << 20;
constexpr std::chrono::seconds kLeastPatience{15};  // with a worker that says nothing,
constexpr std::chrono::seconds kLoadPatience{
    60};  // while it loads, which is told tensor by tensor,
constexpr std::chrono::minutes kFormPatience{10};  // and once it has, and others load still
constexpr std::chrono::seconds kLinkWait{10};      // for a link that comes before its worker
constexpr std::chrono::seconds kStopGrace{2};

enum class State { kFetching, kReserved, kLoading, kReady, kFailed };

const char* name_of(State state) {
  switch (state) {
    case State::kFetching:
      return "fetching";
    case State::kReserved:
      return "reserved";
    case State::kLoading:
      return "loading";
    case State::kReady:
      return "ready";
    case State::kFailed:
      return "failed";
  }
  return "";
}

struct WaitingLink {
  int from_rank;
  UniqueFd socket;
  Clock::time_point arrived;
};

}  // namespace

struct LocalShards::Shard {
  ShardReservation reservation;
  std::string instance;
  State state = State::kFetching;
  Error error;
  std::optional<std::string> complaint;  // of the worker itself
  std::atomic<uint64_t> done_bytes{0};
  std::atomic<uint64_t> total_bytes{0};
  std::atomic<bool> cancelled{false};
  std::unique_ptr<WorkerProcess> worker;
  std::optional<Json> stats;
  Clock::time_point last_progress = Clock::now();
  std::vector<WaitingLink> waiting_links;
  std::map<uint64_t, std::weak_ptr<EventStream>> streams;

  const PlannedRank& planned() const {
    return reservation.order.plan.ranks[static_cast<size_t>(reservation.order.rank)];
  }
  uint64_t generation() const { return reservation.order.generation; }
  uint64_t memory_bytes() const { return state == State::kFailed ? 0 : planned().memory_bytes; }

  std::chrono::duration<double> patience() const {
    if (state == State::kLoading) {
      const bool loaded = total_bytes > 0 && done_bytes >= total_bytes;
      return loaded ? std::chrono::duration<double>(kFormPatience) : kLoadPatience;
    }
    const double speed = std::max(reservation.order.plan.prefill_tokens_per_s, 1.0);
    return std::max<std::chrono::duration<double>>(
        kLeastPatience, std::chrono::duration<double>(20 * kStepRows / speed));
  }
};

Json to_json(const ShardReservation& reservation) {
  return {{"order", to_json(reservation.order)},
          {"model_name", reservation.model_name},
          {"coordinator", reservation.coordinator},
          {"holders", reservation.holders}};
}

Result<ShardReservation> shard_reservation_from_json(const Json& json) {
  ShardReservation reservation;
  SHOAL_ASSIGN(const Json order, json_field<Json>(json, "order"));
  SHOAL_ASSIGN(reservation.order, shard_order_from_json(order));
  SHOAL_ASSIGN(reservation.model_name, json_field<std::string>(json, "model_name"));
  SHOAL_ASSIGN(reservation.coordinator, json_field<std::string>(json, "coordinator"));
  SHOAL_ASSIGN(const Json holders, json_field<Json>(json, "holders"));
  for (const Json& holder : holders) {
    if (!holder.is_string())
      return fail(ErrorCode::kInvalidArgument, "the field 'holders' is not a list of node ids");
    reservation.holders.push_back(holder.get<std::string>());
  }
  return reservation;
}

LocalShards::LocalShards(Context& context) : context_(context), changed_(context.loop) {}
LocalShards::~LocalShards() {
  for (auto& [id, shard] : shards_) shard->cancelled = true;
}

uint64_t LocalShards::reserved_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [id, shard] : shards_) bytes += shard->memory_bytes();
  return bytes;
}

void LocalShards::refresh_facts() {
  NodeFacts facts = context_.node.facts();
  facts.memory_reserved_bytes = reserved_bytes();
  context_.node.set_facts(facts);
  context_.node.announce();
  changed_.notify();
}

Status LocalShards::reserve(ShardReservation reservation) {
  const std::string instance = to_hex(reservation.order.instance);
  const auto found = shards_.find(instance);
  if (found != shards_.end() && found->second->generation() >= reservation.order.generation) {
    return fail(ErrorCode::kConflict,
                "generation {} of this instance is not newer than {}, which runs here",
                reservation.order.generation, found->second->generation());
  }
  if (found != shards_.end()) release(instance, reservation.order.generation);

  auto shard = std::make_shared<Shard>();
  shard->reservation = std::move(reservation);
  shard->instance = instance;
  const PlannedRank& planned = shard->planned();
  if (planned.node != context_.node.id()) {
    return fail(ErrorCode::kInvalidArgument, "rank {} belongs to another node",
                shard->reservation.order.rank);
  }
  const NodeFacts facts = context_.node.facts();
  const uint64_t reserved = reserved_bytes();
  if (planned.memory_bytes + reserved > facts.memory_bytes) {
    return fail(ErrorCode::kDoesNotFit, "rank {} needs {} on {}, which has {} free of {}",
                shard->reservation.order.rank, format_bytes(planned.memory_bytes), facts.name,
                format_bytes(facts.memory_bytes - std::min(facts.memory_bytes, reserved)),
                format_bytes(facts.memory_bytes));
  }
  shards_[instance] = shard;
  refresh_facts();
  asio::co_spawn(context_.loop, fetch(shard), asio::detached);
  return {};
}

Task<void> LocalShards::fetch(std::shared_ptr<Shard> shard) {
  const Plan& plan = shard->reservation.order.plan;
  std::optional<ModelFile> file = context_.store.find_by_sha256(plan.sha256);
  Error last{ErrorCode::kNotFound,
             fmt::format("no node of the cluster has the file of {}", plan.model)};
  shard->total_bytes = plan.file_bytes;
  for (const std::string& holder : shard->reservation.holders) {
    if (file || shard->cancelled) break;
    if (holder == context_.node.id()) continue;
    const Result<PeerSource> source = peer_source(context_, holder, plan.sha256);
    if (!source) {
      last = source.error();
      continue;
    }
    log::info("fetching {} ({}) from {}", plan.model, format_bytes(plan.file_bytes),
              holder.substr(0, 8));
    Store& store = context_.store;
    const std::string name = shard->reservation.model_name;
    const auto pull = [&store, &source, &name, shard] {
      const Plan& wanted = shard->reservation.order.plan;
      return store.pull_from_peer(
          wanted.sha256, name, *source, wanted.file_bytes,
          [shard](const PullEvent& event) { shard->done_bytes = event.done_bytes; },
          &shard->cancelled);
    };
    const Result<ModelFile> pulled = co_await offload(context_.pool, pull);
    if (pulled) {
      file = *pulled;
    } else {
      last = pulled.error();
      log::warn("fetching {} from {} failed: {}", plan.model, holder.substr(0, 8), last.message);
    }
  }
  if (shard->cancelled) co_return;
  if (!file) {
    fail_shard(*shard, last);
    co_return;
  }
  shard->reservation.order.model_path = file->path;
  shard->state = State::kReserved;
  changed_.notify();
}

Status LocalShards::commit(const std::string& instance, uint64_t generation) {
  const auto found = shards_.find(instance);
  if (found == shards_.end() || found->second->generation() != generation) {
    return fail(ErrorCode::kNotFound, "generation {} of instance {} is not reserved here",
                generation, instance);
  }
  const std::shared_ptr<Shard>& shard = found->second;
  if (shard->state != State::kReserved) {
    return fail(ErrorCode::kConflict, "instance {} is {} here, not reserved", instance,
                name_of(shard->state));
  }
  WorkerOptions options;
  options.argv = {"/proc/self/exe", "worker"};
  options.name = fmt::format("worker of rank {}", shard->reservation.order.rank);
  const PlannedRank& planned = shard->planned();
  options.memory_limit_bytes =
      planned.memory_bytes + planned.memory_bytes / 4 + kMemoryHeadroomBytes;
  WorkerCallbacks callbacks;
  std::weak_ptr<Shard> weak = shard;
  callbacks.on_frame = [this, weak](Json frame) {
    if (const auto alive = weak.lock()) on_frame(*alive, frame);
  };
  callbacks.on_exit = [this, weak](WorkerExit exit) {
    if (const auto alive = weak.lock()) on_exit(*alive, exit);
  };
  SHOAL_ASSIGN(shard->worker,
               WorkerProcess::spawn(context_.loop, std::move(options), std::move(callbacks)));
  shard->state = State::kLoading;
  shard->done_bytes = shard->total_bytes = 0;  // of fetching the file
  shard->last_progress = Clock::now();
  shard->reservation.order.threads = context_.node.facts().threads;
  shard->reservation.order.isa = context_.options.isa;
  Json start = to_json(shard->reservation.order);
  start["type"] = "start";
  SHOAL_TRY(shard->worker->send(start));
  for (WaitingLink& link : std::exchange(shard->waiting_links, {})) {
    SHOAL_TRY(shard->worker->send(Json{{"type", "link"}, {"from_rank", link.from_rank}},
                                  std::move(link.socket)));
  }
  changed_.notify();
  return {};
}

void LocalShards::release(const std::string& instance, uint64_t up_to_generation) {
  const auto found = shards_.find(instance);
  if (found == shards_.end() || found->second->generation() > up_to_generation) return;
  const std::shared_ptr<Shard> shard = found->second;
  shards_.erase(found);
  shard->cancelled = true;
  for (auto& [id, stream] : std::exchange(shard->streams, {})) {
    if (const auto alive = stream.lock())
      alive->fail({ErrorCode::kCancelled, "the model was stopped while it answered; ask again"});
  }
  if (shard->worker) {  // it lives on its own until it has left or the grace is over
    WorkerProcess* worker = shard->worker.get();
    worker->stop(kStopGrace);
    asio::co_spawn(
        context_.loop,
        [](asio::io_context& loop, std::shared_ptr<Shard> leaving) -> Task<void> {
          co_await sleep_for(loop, kStopGrace + std::chrono::seconds(1));
          leaving->worker.reset();
        }(context_.loop, shard),
        asio::detached);
  }
  refresh_facts();
}

void LocalShards::pass_link(const LinkPreamble& preamble, UniqueFd socket) {
  const auto found = shards_.find(to_hex(preamble.instance));
  if (found == shards_.end() || found->second->generation() != preamble.generation ||
      preamble.to_rank != found->second->reservation.order.rank) {
    return;  // closes: the rank that dialled tries again
  }
  Shard& shard = *found->second;
  if (shard.worker && (shard.state == State::kLoading)) {
    (void)shard.worker->send(Json{{"type", "link"}, {"from_rank", preamble.from_rank}},
                             std::move(socket));
  } else if (shard.state == State::kReserved && shard.waiting_links.size() < 64) {
    shard.waiting_links.push_back({preamble.from_rank, std::move(socket), Clock::now()});
  }
}

void LocalShards::on_frame(Shard& shard, const Json& frame) {
  shard.last_progress = Clock::now();
  const std::string type = frame.is_object() && frame.contains("type") && frame["type"].is_string()
                               ? frame["type"].get<std::string>()
                               : "";
  if (type == "event") {
    const Result<uint64_t> id = json_field<uint64_t>(frame, "id");
    const auto stream = id ? shard.streams.find(*id) : shard.streams.end();
    if (stream == shard.streams.end() || !frame.contains("event")) return;
    const auto alive = stream->second.lock();
    Result<Event> event = event_from_json(frame["event"]);
    if (!alive) {
      shard.streams.erase(stream);
      return;
    }
    if (event)
      alive->push(std::move(*event));
    else
      alive->fail(event.error());
    if (alive->ended()) shard.streams.erase(stream);
  } else if (type == "stats" || type == "ready") {
    if (frame.contains("stats") && shard_stats_from_json(frame["stats"]))
      shard.stats = frame["stats"];
    if (type == "ready" && shard.state == State::kLoading) {
      shard.state = State::kReady;
      changed_.notify();
    }
  } else if (type == "progress") {
    if (const auto done = json_field<uint64_t>(frame, "done_bytes")) shard.done_bytes = *done;
    if (const auto total = json_field<uint64_t>(frame, "total_bytes")) shard.total_bytes = *total;
  } else if (type == "failed") {
    const Result<std::string> code = json_field<std::string>(frame, "code");
    const Result<std::string> message = json_field<std::string>(frame, "message");
    if (code && message) fail_shard(shard, {error_code_named(*code), *message}, *message);
  }
}

void LocalShards::on_exit(Shard& shard, const WorkerExit& exit) {
  if (shard.state == State::kFailed || shard.cancelled) return;
  fail_shard(shard, {exit.code, exit.reason});
}

void LocalShards::fail_shard(Shard& shard, Error error, std::optional<std::string> complaint) {
  if (shard.state == State::kFailed) return;
  shard.complaint = std::move(complaint);
  error = error.within(
      fmt::format("rank {} on {}", shard.reservation.order.rank, shard.planned().node_name));
  log::warn("{}: {}", shard.reservation.model_name, error.message);
  shard.state = State::kFailed;
  shard.error = error;
  for (auto& [id, stream] : std::exchange(shard.streams, {})) {
    if (const auto alive = stream.lock()) alive->fail(cut_off(error));
  }
  if (shard.worker && shard.worker->running()) shard.worker->kill(error);
  refresh_facts();
}

std::optional<Json> LocalShards::published(const std::string& instance, uint64_t generation) const {
  const auto found = shards_.find(instance);
  if (found == shards_.end() || found->second->generation() != generation) return std::nullopt;
  const Shard& shard = *found->second;
  Json json = {{"instance", shard.instance},
               {"generation", shard.generation()},
               {"rank", shard.reservation.order.rank},
               {"state", name_of(shard.state)},
               {"done_bytes", shard.done_bytes.load()},
               {"total_bytes", shard.total_bytes.load()}};
  if (shard.state == State::kFailed) {
    json.update(error_json(shard.error));
    if (shard.complaint) json["complaint"] = *shard.complaint;
  }
  if (shard.stats) json["stats"] = *shard.stats;
  if (shard.worker) json["pid"] = shard.worker->pid();
  return json;
}

Json LocalShards::published() const {
  Json list = Json::array();
  for (const auto& [instance, shard] : shards_)
    list.push_back(*published(instance, shard->generation()));
  return list;
}

Result<std::shared_ptr<EventStream>> LocalShards::generate(const std::string& instance,
                                                           const GenerateRequest& request) {
  const auto found = shards_.find(instance);
  if (found == shards_.end() || found->second->state != State::kReady ||
      found->second->reservation.order.rank != 0) {
    return fail(ErrorCode::kUnreachable, "the model's lead does not run here now; ask again");
  }
  const std::shared_ptr<Shard>& shard = found->second;
  const uint64_t id = next_request_++;
  std::weak_ptr<Shard> weak = shard;
  auto stream = std::make_shared<EventStream>(context_.loop, [weak, id] {
    const auto alive = weak.lock();
    if (!alive) return;
    alive->streams.erase(id);
    if (alive->worker && alive->state == State::kReady)
      (void)alive->worker->send(Json{{"type", "cancel"}, {"id", id}});
  });
  shard->streams[id] = stream;
  // In order: a message's keys reach the template.
  SHOAL_TRY(shard->worker->send(
      OrderedJson{{"type", "generate"}, {"id", id}, {"request", to_json(request)}}));
  return stream;
}

bool LocalShards::abandoned(const Shard& shard) const {
  const std::string& coordinator = shard.reservation.coordinator;
  if (coordinator == context_.node.id()) return false;
  for (const auto& peer : context_.node.peers()) {
    if (peer.id != coordinator) continue;
    return peer.status == cluster::PeerStatus::kDead;
  }
  return true;  // no longer a member
}

void LocalShards::sweep() {
  std::vector<std::pair<std::string, uint64_t>> gone;
  for (auto& [instance, shard] : shards_) {
    std::erase_if(shard->waiting_links,
                  [](const WaitingLink& link) { return Clock::now() - link.arrived > kLinkWait; });
    if (abandoned(*shard)) gone.emplace_back(instance, shard->generation());
    const bool computing = shard->state == State::kLoading || shard->state == State::kReady;
    if (computing && Clock::now() - shard->last_progress > shard->patience()) {
      fail_shard(*shard, {ErrorCode::kDeadline,
                          fmt::format("the worker made no progress for {:.0f} s and was ended",
                                      shard->patience().count())});
    }
  }
  for (const auto& [instance, generation] : gone) release(instance, generation);
}

}  // namespace shoal::serve
