#include "worker/worker.h"

#include <csignal>
#include <thread>

#include "base/log.h"
#include "worker/bench_lead.h"
#include "worker/intake.h"
#include "worker/lead.h"
#include "worker/shard.h"

namespace shoal {
namespace {

constexpr std::chrono::seconds kOrderTimeout{30};
// A follower hears from its lead at least every 500 ms from when all have loaded, or is waited for
// by it: a lead that computes has told everybody before what.
constexpr std::chrono::seconds kLeadSilence{2};
constexpr size_t kMostIntake = 256;

// A request as it came, or the wish to end one: in one queue, so that a cancel never overtakes its
// request.
struct RawRequest {
  uint64_t id;
  OrderedJson json;
  bool cancel = false;
};

// What arrives from the daemon, sorted for the threads that want it.
struct Inboxes {
  Mailbox<ArrivedLink> links{64};
  Mailbox<RawRequest> requests{kMostIntake};
  Mailbox<LeadMessage> lead{2 * kMostIntake};
  Mailbox<BenchOrder> bench{kMostIntake};
  void close() {
    bench.close();
    links.close();
    requests.close();
    lead.close();
  }
};

void send_error(Channel& daemon, uint64_t id, const Error& error) {
  Event event;
  event.kind = Event::Kind::kError;
  event.error = error;
  (void)daemon.send(event_frame(id, event));
}

// Why a box took no more.
Error refusal_of(const Inboxes& inboxes) {
  if (inboxes.lead.closed())
    return {ErrorCode::kUnreachable, "the model is about to end or to be restarted; ask again"};
  return {ErrorCode::kBusy, "too many requests wait for this model; try again later"};
}

void sort_frame(ChannelFrame frame, Inboxes& inboxes, Channel& daemon) {
  const std::string type = frame.json.value("type", "");
  if (type == "link") {
    inboxes.links.put({frame.json.value("from_rank", -1), std::move(frame.descriptor),
                       frame.json.value("memory", false)});
  } else if (type == "generate") {
    const uint64_t id = frame.json.value("id", uint64_t{0});
    if (!inboxes.requests.put({id, std::move(frame.json["request"])})) {
      send_error(daemon, id, refusal_of(inboxes));
    }
  } else if (type == "cancel") {
    inboxes.requests.put({frame.json.value("id", uint64_t{0}), {}, true});
  } else if (type == "bench") {
    if (auto order = bench_order_from_json(frame.json)) {
      inboxes.bench.put(*order);
    } else {
      log::warn("a bench order was ignored: {}", order.error().message);
    }
  } else if (type == "stop") {
    inboxes.close();
  } else {
    log::warn("a frame of the unknown type '{}' was ignored", type);
  }
}

void read_frames(Channel& daemon, Inboxes& inboxes) {
  while (true) {
    Result<ChannelFrame> frame = daemon.receive(kNoDeadline);
    if (!frame)
      std::_Exit(
          exit_code(ErrorCode::kUnreachable));  // the daemon has gone; nobody is left to serve
    sort_frame(std::move(*frame), inboxes, daemon);
  }
}

void prepare_requests(const Intake& intake, Inboxes& inboxes, Channel& daemon) {
  while (std::optional<RawRequest> raw = inboxes.requests.take(kNoDeadline)) {
    if (raw->cancel) {
      inboxes.lead.put(CancelRequest{raw->id});
      continue;
    }
    const auto prepare = [&]() -> Result<PreparedRequest> {
      SHOAL_ASSIGN(GenerateRequest request, generate_request_from_json(raw->json));
      return intake.prepare(raw->id, std::move(request));
    };
    Result<PreparedRequest> prepared = prepare();
    if (!prepared) {
      send_error(daemon, raw->id, prepared.error());
    } else if (!inboxes.lead.put(std::move(*prepared))) {
      send_error(daemon, raw->id, refusal_of(inboxes));
    }
  }
}

Status lead(Shard& shard, const ShardOrder& order, const Intake& intake, Inboxes& inboxes,
            Channel& daemon) {
  std::thread preparing([&] { prepare_requests(intake, inboxes, daemon); });
  const Status status = Lead(shard, order, intake.tokenizer(), inboxes.lead, daemon).run();
  inboxes.close();
  preparing.join();
  return status;
}

Status follow(Shard& shard, Channel& daemon) {
  Clock::time_point last_report = Clock::now();
  Deadline deadline = Clock::now() + kLeadSilence;
  while (true) {
    SHOAL_ASSIGN(const Engine::Followed followed, shard.engine->follow(deadline));
    if (followed == Engine::Followed::kStop) return {};
    deadline = Clock::now() + kLeadSilence;
    if (Clock::now() - last_report >= std::chrono::milliseconds(500)) {
      last_report = Clock::now();
      (void)daemon.send({{"type", "stats"}, {"stats", to_json(shard_stats(shard))}});
    }
  }
}

Status serve_shard(Channel& daemon, Inboxes& inboxes) {
  SHOAL_ASSIGN(const ChannelFrame first, daemon.receive(Clock::now() + kOrderTimeout));
  SHOAL_ASSIGN(const ShardOrder order, shard_order_from_json(Json(first.json)));
  start_logging(fmt::format("worker {}", order.rank), false);
  std::thread([&daemon, &inboxes] { read_frames(daemon, inboxes); }).detach();

  SHOAL_ASSIGN(Shard shard, open_shard(order));
  // Before the others come to wait for this rank's word.
  std::optional<Intake> intake;
  if (order.rank == 0 && !order.bench) {
    SHOAL_ASSIGN(intake, Intake::create(shard.file, order.plan.context, order.sampling));
  }
  SHOAL_TRY(form_shard(shard, order, inboxes.links, daemon));
  (void)daemon.send({{"type", "ready"}, {"stats", to_json(shard_stats(shard))}});
  if (order.rank != 0) return follow(shard, daemon);
  return order.bench ? lead_bench(shard, inboxes.bench, daemon)
                     : lead(shard, order, *intake, inboxes, daemon);
}

}  // namespace

int worker_main() {
  std::signal(SIGPIPE, SIG_IGN);
  start_logging("worker", false);
  static Channel daemon{UniqueFd(kChannelDescriptor)};  // outlives the thread that reads it
  static Inboxes inboxes;
  const Status status = serve_shard(daemon, inboxes);
  int code = 0;
  if (!status) {
    const Error& error = status.error();
    (void)daemon.send({{"type", "failed"},
                       {"code", std::string(error_name(error.code))},
                       {"message", error.message}});
    code = exit_code(error.code);
  }
  std::_Exit(code);  // the reading thread is still in a system call
}

}  // namespace shoal
