#include "serve/router.h"

#include "base/log.h"
#include "serve/answers.h"
#include "serve/reported.h"

namespace shoal::serve {
namespace {

constexpr std::chrono::minutes kPlacePatience{30};  // hashing, fetching and loading a big model
constexpr std::chrono::minutes kFirstEventPatience{30};
constexpr std::chrono::milliseconds kLook{200};
constexpr std::chrono::seconds kCancelTimeout{5};
constexpr std::chrono::seconds kStopTimeout{20};

// A client's request as its entry passes it on.
struct RemoteRequest {
  std::string id;
  std::string instance;
  GenerateRequest request;
};

Result<RemoteRequest> remote_request_from(std::string_view body) {
  SHOAL_ASSIGN(const OrderedJson json, parse_ordered_json(body));
  if (!json.is_object() || !json.contains("request"))
    return fail(ErrorCode::kInvalidArgument, "the field 'request' is missing");
  RemoteRequest remote;
  for (const auto& [name, target] :
       {std::pair{"id", &remote.id}, std::pair{"instance", &remote.instance}}) {
    if (!json.contains(name) || !json[name].is_string())
      return fail(ErrorCode::kInvalidArgument, "the field '{}' is missing", name);
    *target = json[name].get<std::string>();
  }
  SHOAL_ASSIGN(remote.request, generate_request_from_json(json["request"]));
  return remote;
}

// True while somebody waits, or nobody asked to be told.
Task<bool> told(const Router::PlaceProgress& progress, Json what) {
  if (!progress) co_return true;
  co_return co_await progress(std::move(what));
}

// What runs already, if it is what the wish asks for.
Result<Json> suitable(Json running, const Wish& wish) {
  const auto json = running.find("plan");
  if (json == running.end()) return running;
  SHOAL_ASSIGN(const Plan plan, plan_from_json(*json));
  const auto ranks = static_cast<int>(plan.ranks.size());
  const bool suits = (wish.node_count == 0 || wish.node_count == ranks) &&
                     (!wish.mode || *wish.mode == plan_mode(plan)) &&
                     (!wish.payload || *wish.payload == plan.payload || ranks == 1);
  if (suits) return running;
  const std::string name = running.value("model", "");
  return fail(ErrorCode::kConflict,
              "{} runs already, {} ({} node{}, {} between them); stop it first to place it "
              "otherwise: shoal stop {}",
              name, plan_mode_words(plan_mode(plan)), ranks, ranks == 1 ? "" : "s",
              payload_name(plan.payload), name);
}

}  // namespace

Router::Router(Context& context, LocalShards& shards, Instances& instances)
    : context_(context), shards_(shards), instances_(instances) {}

std::optional<Json> Router::elsewhere(const std::string& model, const std::string& sha256) const {
  for (const auto& peer : context_.node.peers()) {
    if (peer.status != cluster::PeerStatus::kAlive) continue;
    for (const Json& instance : reported_instances(peer.state)) {
      const bool same = instance.value("model", "") == model ||
                        (!sha256.empty() && instance.value("sha256", "") == sha256);
      if (same && instance.value("state", "") != "failed" &&
          instance.value("state", "") != "stopped")
        return instance;
    }
  }
  return std::nullopt;
}

Task<Result<Json>> Router::place(std::string model, Wish wish, PlaceProgress progress) {
  const Deadline deadline = Clock::now() + kPlacePatience;
  std::string sha256;  // other names of the same file lead to the same instance
  while (!instances_.find(model, sha256)) {
    if (sha256.empty() && !elsewhere(model, "")) {
      Store& store = context_.store;
      const auto resolve = [&store, &model] { return store.resolve(model); };
      const Result<ModelFile> file = co_await offload(context_.pool, resolve);
      if (file) sha256 = file->sha256;
      if (instances_.find(model, sha256)) break;
    }
    const std::optional<Json> remote = elsewhere(model, sha256);
    if (!remote) break;
    if (remote->value("state", "") == "ready") co_return suitable(*remote, wish);
    if (Clock::now() > deadline)
      co_return fail(ErrorCode::kBusy, "{} is not ready yet; try again in a moment", model);
    Json waiting = {{"phase", "waiting for " + model}};
    if (!co_await told(progress, std::move(waiting)))
      co_return fail(ErrorCode::kCancelled, "the client left");
    co_await shards_.changed().wait(Clock::now() + kLook);
  }
  std::shared_ptr<Instance> instance = instances_.find(model, sha256);
  if (!instance) instance = instances_.place(model, wish);
  while (instance->open() && instance->state != Instance::State::kReady) {
    if (Clock::now() > deadline)
      co_return fail(ErrorCode::kBusy, "{} is not ready yet; try again in a moment", model);
    if (instance->state == Instance::State::kRestarting &&
        instance->error.code == ErrorCode::kDoesNotFit)
      co_return std::unexpected(instance->error);  // until a node returns, nobody need wait
    Json now = {{"phase", instance->phase},
                {"done_bytes", instance->phase_done_bytes},
                {"total_bytes", instance->phase_total_bytes}};
    if (!co_await told(progress, std::move(now)))
      co_return fail(ErrorCode::kCancelled, "the client left");
    co_await shards_.changed().wait(Clock::now() + kLook);
  }
  if (const Status ready = co_await instances_.wait(instance, Clock::now()); !ready)
    co_return std::unexpected(ready.error());
  co_return suitable(instances_.describe(*instance), wish);
}

Task<Result<std::shared_ptr<EventStream>>> Router::start(GenerateRequest request) {
  const PlaceProgress silent;
  const Wish wish;
  Result<Json> placed = co_await place(request.model, wish, silent);
  if (!placed) co_return std::unexpected(placed.error());
  const std::string lead = placed->value("lead", "");
  const std::string instance = placed->value("id", "");
  if (lead == context_.node.id()) co_return shards_.generate(instance, request);

  const std::string id = to_hex(random_bytes(16));
  OrderedJson body = {{"id", id}, {"instance", instance}, {"request", to_json(request)}};
  auto stream = std::make_shared<EventStream>(context_.loop, [this, lead, id] {
    asio::co_spawn(
        context_.loop,
        [](Context& context, std::string node, std::string request_id) -> Task<void> {
          Json body = {{"id", request_id}};
          (void)co_await context.node.call(node, "/control/cancel", std::move(body),
                                           Clock::now() + kCancelTimeout);
        }(context_, lead, id),
        asio::detached);
  });
  asio::co_spawn(context_.loop, relay(lead, std::move(body), stream), asio::detached);
  co_return stream;
}

// Reads the lead's answer, one JSON event a line. Holds the stream only weakly, so that a client
// that leaves ends it.
Task<void> Router::relay(std::string lead, OrderedJson body, std::shared_ptr<EventStream> strong) {
  const std::weak_ptr<EventStream> stream = strong;
  strong.reset();
  const auto end_with = [&](Error error) {
    if (const auto alive = stream.lock()) alive->fail(std::move(error));
  };
  const std::shared_ptr<http::Client> client = context_.node.client(lead);
  if (!client) {
    end_with({ErrorCode::kUnreachable, "the node of the model's lead is not connected; ask again"});
    co_return;
  }
  http::Request request;
  request.method = "POST";
  request.path = "/control/generate";
  request.headers["Content-Type"] = "application/json";
  request.body = dump_json(body);
  std::string partial;
  const auto on_chunk = [&partial, stream](std::string_view chunk) {
    const auto alive = stream.lock();
    if (!alive) return false;
    partial += chunk;
    size_t begin = 0;
    for (size_t end; (end = partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const Result<Json> json = parse_json(std::string_view(partial).substr(begin, end - begin));
      Result<Event> event =
          json ? event_from_json(*json) : Result<Event>(std::unexpected(json.error()));
      if (event)
        alive->push(std::move(*event));
      else
        alive->fail(event.error());
    }
    partial.erase(0, begin);
    return true;
  };
  const Result<http::Response> response =
      co_await client->stream(std::move(request), Clock::now() + kFirstEventPatience, on_chunk);
  if (!response) {
    end_with(response.error().within("the answer was cut off"));
  } else if (response->status >= 400) {
    end_with(cluster::parse_answer(*response).error());
  } else {
    end_with({ErrorCode::kUnreachable,
              "the answer was cut off on its way from the lead's node; ask again"});
  }
}

Task<void> Router::serve_remote(http::Exchange& exchange) {
  const Result<RemoteRequest> remote = remote_request_from(exchange.request().body);
  if (!remote) {
    co_await refuse(exchange, remote.error());
    co_return;
  }
  const std::string id = remote->id;
  Result<std::shared_ptr<EventStream>> stream = shards_.generate(remote->instance, remote->request);
  if (!stream) {
    co_await refuse(exchange, stream.error());
    co_return;
  }
  remote_[id] = *stream;
  exchange.on_client_gone([this, key = id] { cancel_remote(key); });
  co_await exchange.begin(200, kJsonLines);
  while (true) {
    const Event event = co_await (*stream)->next();
    if (!co_await exchange.write(dump_json(to_json(event)) + "\n")) break;
    if (event.kind == Event::Kind::kDone || event.kind == Event::Kind::kError) break;
  }
  remote_.erase(id);
  (*stream)->cancel();
  co_await exchange.end();
}

void Router::cancel_remote(const std::string& id) {
  const auto found = remote_.find(id);
  if (found == remote_.end()) return;
  if (const auto stream = found->second.lock()) stream->cancel();
}

Task<Status> Router::stop(std::string model) {
  if (instances_.find(model)) co_return co_await instances_.stop(std::move(model));
  const std::optional<Json> remote = elsewhere(model, "");
  if (!remote)
    co_return fail(ErrorCode::kNotFound, "{} does not run; `shoal ps` lists what runs", model);
  Json body = {{"model", remote->value("id", "")}};
  const Result<Json> stopped =
      co_await context_.node.call(remote->value("coordinator", ""), "/control/instance/stop",
                                  std::move(body), Clock::now() + kStopTimeout);
  if (!stopped) co_return std::unexpected(stopped.error());
  co_return Status{};
}

Json Router::all_instances() const {
  Json list = instances_.published();
  for (const auto& peer : context_.node.peers()) {
    if (peer.status == cluster::PeerStatus::kDead) continue;
    for (const Json& instance : reported_instances(peer.state)) list.push_back(instance);
  }
  return list;
}

}  // namespace shoal::serve
