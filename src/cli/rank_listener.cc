#include "cli/rank_listener.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <list>
#include <optional>
#include <thread>

#include "base/cpu.h"
#include "cli/rank_control.h"
#include "cluster/data_port.h"
#include "engine/agreement.h"
#include "gguf/gguf.h"
#include "models/model.h"
#include "supervise/shard_order.h"
#include "supervise/worker_process.h"
#include "transport/link.h"

namespace shoal::cli {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kTurn{100};
constexpr size_t kMostAside = 16;
constexpr size_t kMostHandshakes = 8;   // of these: strangers must not take all
constexpr int64_t kMostSequences = 65;  // of --batch, and the prompt's

bool is_zero(std::byte b) {
  return b == std::byte{0};
}

// A connection that proved the token, and what came with it.
struct Caller {
  std::unique_ptr<Link> link;
  Json hello;
};

Result<Caller> meet(UniqueFd socket, const MachineToken& token, const std::string& from) {
  const Deadline deadline = Clock::now() + kControlTime;
  Caller caller;
  SHOAL_ASSIGN(caller.link, make_tcp_link(std::move(socket), LinkMode::kTls, false,
                                          control_key(token), from, deadline));
  SHOAL_ASSIGN(caller.hello, receive_frame(*caller.link, deadline));
  return caller;
}

Json error_frame(const char* type, const Error& error) {
  return {{"type", type},
          {"code", std::string(error_name(error.code))},
          {"message", printable(error.message)}};
}

}  // namespace

struct RankListener::State {
  State(RankListenerOptions given, Say told)
      : options(std::move(given)),
        say(std::move(told)),
        acceptor(loop),
        port(loop, [this](const LinkPreamble& preamble, UniqueFd socket) {
          take_connection(preamble, std::move(socket));
        }) {}
  ~State();

  // One lead's bench, from its connection to its end.
  struct Session {
    std::string from;
    int rank = 0;
    std::unique_ptr<RankControl> control;
    std::unique_ptr<WorkerProcess> worker;
    std::optional<ShardOrder> order;
    std::vector<bool> linked;  // per rank
  };

  Status open_model();
  Status listen();
  void accept();
  void take_connection(const LinkPreamble& preamble, UniqueFd socket);
  void take_link(const LinkPreamble& preamble, UniqueFd socket);
  void take_caller(Result<Caller> caller, const std::string& from, int rank);
  Json hello() const;
  void take_frame(const Json& frame);
  Status start_worker(const Json& frame);
  Result<ShardOrder> checked_order(const Json& frame) const;
  Status connect(const Json& frame);
  void give_link(int rank, UniqueFd socket);
  void relay(const Json& frame);
  void end_session(const std::string& why);
  // Work that waits, on a thread of its own; what it returns runs on the loop.
  using Then = std::move_only_function<void()>;
  bool aside(std::move_only_function<Then()> work);

  RankListenerOptions options;
  Say say;
  MachineCode code;
  int threads = 1;
  Isa isa = Isa::kReference;
  std::string file_name;
  std::string file_fingerprint;
  ModelCard model;

  bool closing = false;
  std::list<std::thread> working;
  asio::io_context loop;
  tcp::acceptor acceptor;
  cluster::DataPort port;
  std::optional<Session> session;
  uint64_t session_number = 0;
};

RankListener::State::~State() {
  closing = true;
  session.reset();
  error_code ignored;
  acceptor.close(ignored);
  for (std::thread& thread : working) thread.join();
  loop.poll();  // what was killed is reaped
}

Status RankListener::State::open_model() {
  SHOAL_ASSIGN(isa, choose_isa(options.isa));
  threads = options.threads > 0 ? options.threads : usable_core_count();
  SHOAL_ASSIGN(const gguf::File file, gguf::File::open(options.model_path));
  SHOAL_ASSIGN(const ModelDescription description, describe(file));
  model = model_card(file, description);
  file_name = options.model_path.substr(options.model_path.find_last_of('/') + 1);
  SHOAL_ASSIGN(file_fingerprint, fingerprint(file));
  return {};
}

Status RankListener::State::listen() {
  SHOAL_ASSIGN(tcp::endpoint endpoint, parse_endpoint(options.address));
  if (endpoint.address().is_unspecified()) {
    return fail(ErrorCode::kInvalidArgument,
                "--listen {}: name the one address by which the other machines reach this one, as "
                "it becomes part of the code",
                options.address);
  }
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) endpoint = acceptor.local_endpoint(error);
  if (error) {
    const bool taken = error == asio::error::address_in_use;
    return fail(taken ? ErrorCode::kConflict : ErrorCode::kIo, "cannot listen on {}: {}",
                options.address, error.message());
  }
  code = {format_endpoint(endpoint), new_token()};
  accept();
  return {};
}

void RankListener::State::accept() {
  acceptor.async_accept([this](error_code error, tcp::socket socket) {
    if (!acceptor.is_open()) return;
    error_code ignored;
    if (!error) port.accept(UniqueFd(socket.release(ignored)));
    accept();
  });
}

bool RankListener::State::aside(std::move_only_function<Then()> work) {
  if (working.size() >= kMostAside) return false;
  const auto seat = working.emplace(working.end());
  *seat = std::thread([this, seat, work = std::move(work)]() mutable {
    Then then = work();
    asio::post(loop, [this, seat, then = std::move(then)]() mutable {
      if (closing) return;
      seat->join();
      working.erase(seat);
      then();
    });
  });
  return true;
}

// --- connections ---

void RankListener::State::take_connection(const LinkPreamble& preamble, UniqueFd socket) {
  if (!std::ranges::all_of(preamble.instance, is_zero)) {
    take_link(preamble, std::move(socket));
    return;
  }
  if (working.size() >= kMostHandshakes) return;
  tcp::endpoint endpoint;
  auto size = static_cast<socklen_t>(endpoint.capacity());
  if (::getpeername(socket.get(), endpoint.data(), &size) != 0) return;
  endpoint.resize(size);
  const std::string from = format_endpoint(endpoint);
  const int rank = preamble.to_rank;
  aside([this, from, rank, token = code.token, socket = std::move(socket)]() mutable -> Then {
    auto caller = meet(std::move(socket), token, from);
    return [this, from, rank, caller = std::move(caller)]() mutable {
      take_caller(std::move(caller), from, rank);
    };
  });
}

Json RankListener::State::hello() const {
  return {{"type", "hello"},
          {"protocol", kRankControlVersion},
          {"shoal", SHOAL_VERSION},
          {"machine", this_machine()},
          {"threads", threads},
          {"isa", isa_name(isa)},
          {"memory_available_bytes", memory_available_bytes()},
          {"file", file_name},
          {"fingerprint", file_fingerprint}};
}

void RankListener::State::take_caller(Result<Caller> caller, const std::string& from, int rank) {
  if (!caller) {
    say(fmt::format("turned {} away: {}", from, printable(caller.error().message)));
    return;
  }
  const auto name = json_field_or<std::string>(caller->hello, "machine", "");
  const auto version = json_field_or<std::string>(caller->hello, "shoal", "");
  const std::string who = fmt::format("{} ({})", printable(name.value_or(""), 64), from);
  Json answer = hello();  // a lead of another version learns ours from it
  const bool matches = version.value_or("") == SHOAL_VERSION;
  if (session) {
    const Error busy{ErrorCode::kBusy,
                     fmt::format("it benches for {}; try again later", session->from)};
    answer.update(error_frame("refused", busy));
  }
  const Deadline deadline = Clock::now() + std::chrono::milliseconds(100);
  if (!send_frame(*caller->link, answer, deadline) || session || !matches) {
    say(fmt::format("turned {} away: {}", who,
                    matches ? "another bench goes on" : "it is of another version of Shoal"));
    return;
  }
  ++session_number;
  session.emplace();
  session->from = who;
  session->rank = rank;
  session->control = std::make_unique<RankControl>(
      loop, std::move(caller->link),
      RankControl::Callbacks{[this](const Json& frame) { take_frame(frame); },
                             [this](const Error& why) { end_session(why.message); }});
  say(fmt::format("{} begins a bench", who));
}

void RankListener::State::end_session(const std::string& why) {
  if (!session) return;
  const bool closed = why.contains("closed its link");
  say(closed ? fmt::format("the bench of {} is over", session->from)
             : fmt::format("the bench of {} ended: {}", session->from, printable(why)));
  session.reset();
}

// --- orders ---

void RankListener::State::take_frame(const Json& frame) {
  const auto type = json_field_or<std::string>(frame, "type", "").value_or("");
  Status done;
  if (type == "start") {
    done = start_worker(frame);
    if (done) session->control->send({{"type", "started"}});
  } else if (type == "connect") {
    done = connect(frame);
  } else {
    done = fail(ErrorCode::kUnsupported, "a message of the unknown type '{}' came",
                printable(type, 40));
  }
  if (!done) session->control->send(error_frame("failed", done.error()));
}

// What the lead may choose, and for the rest what this machine's command line says.
Result<ShardOrder> RankListener::State::checked_order(const Json& frame) const {
  SHOAL_ASSIGN(const Json given, json_field<Json>(frame, "order"));
  SHOAL_ASSIGN(const ShardOrder wanted, shard_order_from_json(given));
  const Plan& plan = wanted.plan;
  if (wanted.rank < 1 || wanted.rank != session->rank ||
      std::ranges::all_of(wanted.instance, is_zero) || plan.context < 1 ||
      plan.context > model.context_length || plan.sequences < 1 ||
      plan.sequences > kMostSequences) {
    return fail(ErrorCode::kInvalidArgument,
                "an order for rank {} of {}, {} sequences of {} tokens, cannot be meant",
                wanted.rank, plan.ranks.size(), plan.sequences, plan.context);
  }
  ShardOrder order;
  order.instance = wanted.instance;
  order.generation = wanted.generation;
  order.rank = wanted.rank;
  order.plan = plan;
  order.link_mode = wanted.link_mode;
  order.verbs = wanted.verbs;
  order.keys = wanted.keys;
  order.model_path = options.model_path;
  order.links_given = true;
  order.bench = true;
  order.addresses.resize(plan.ranks.size());
  order.threads = threads;
  order.isa = options.isa;
  return order;
}

Status RankListener::State::start_worker(const Json& frame) {
  if (session->order) return fail(ErrorCode::kConflict, "a second order came");
  SHOAL_ASSIGN(ShardOrder order, checked_order(frame));
  SHOAL_ASSIGN(const bool pin, json_field<bool>(frame, "pin"));
  WorkerOptions worker;
  worker.name =
      fmt::format("rank {} of {} ranks on {}", order.rank, order.plan.ranks.size(), this_machine());
  worker.memory_limit_bytes = memory_available_bytes();
  if (pin) {
    worker.cores = usable_cores();
    worker.cores.resize(std::min(worker.cores.size(), static_cast<size_t>(threads)));
  }
  WorkerCallbacks callbacks;
  callbacks.on_frame = [this](const Json& said) { relay(said); };
  callbacks.on_exit = [this](const WorkerExit& end) {
    session->control->send(error_frame("exit", {end.code, end.reason}));
  };
  SHOAL_ASSIGN(session->worker,
               WorkerProcess::spawn(loop, std::move(worker), std::move(callbacks)));
  Json start = to_json(order);
  start["type"] = "start";
  session->linked.assign(order.plan.ranks.size(), false);
  session->order = std::move(order);
  return session->worker->send(start);
}

void RankListener::State::relay(const Json& frame) {
  const auto type = json_field_or<std::string>(frame, "type", "").value_or("");
  constexpr std::array kRelayed = {"progress", "ready", "stats", "failed"};
  if (std::ranges::find(kRelayed, type) != kRelayed.end()) session->control->send(frame);
}

// --- links to other ranks ---

// A rank that dials: it comes with the instance, which only the lead's orders name.
void RankListener::State::take_link(const LinkPreamble& preamble, UniqueFd socket) {
  if (!session || !session->order) return;
  const ShardOrder& order = *session->order;
  if (preamble.instance != order.instance || preamble.generation != order.generation ||
      preamble.to_rank != order.rank || preamble.from_rank >= order.rank) {
    return;
  }
  give_link(preamble.from_rank, std::move(socket));
}

void RankListener::State::give_link(int rank, UniqueFd socket) {
  if (session->linked[static_cast<size_t>(rank)]) return;
  session->linked[static_cast<size_t>(rank)] = true;
  (void)session->worker->send(Json{{"type", "link"}, {"from_rank", rank}}, std::move(socket));
}

Status RankListener::State::connect(const Json& frame) {
  SHOAL_ASSIGN(const int rank, json_field<int>(frame, "rank"));
  SHOAL_ASSIGN(const std::string text, json_field<std::string>(frame, "address"));
  SHOAL_ASSIGN(const tcp::endpoint endpoint, parse_endpoint(text));
  if (!session->order || rank <= session->order->rank || rank >= std::ssize(session->linked))
    return fail(ErrorCode::kInvalidArgument, "a wish for a link to rank {} came", rank);
  const ShardOrder& order = *session->order;
  const LinkPreamble preamble{order.instance, order.generation, static_cast<uint16_t>(order.rank),
                              static_cast<uint16_t>(rank)};
  const std::string address = format_endpoint(endpoint);
  const uint64_t number = session_number;
  const bool begun = aside([this, preamble, rank, address, number]() -> Then {
    const Deadline deadline = Clock::now() + kControlTime;
    Result<UniqueFd> socket = dial_tcp(address, deadline);
    if (socket) {
      const Status sent = send_all(socket->get(), encode(preamble), deadline);
      if (!sent) socket = std::unexpected(sent.error());
    }
    return [this, rank, number, socket = std::move(socket)]() mutable {
      if (!session || session_number != number) return;
      if (socket) return give_link(rank, std::move(*socket));
      const Error why = socket.error().within(fmt::format("no way to rank {}", rank));
      session->control->send(error_frame("failed", {ErrorCode::kUnreachable, why.message}));
    };
  });
  return begun ? Status() : fail(ErrorCode::kBusy, "too many connections are being made");
}

// --- the handle ---

Result<std::unique_ptr<RankListener>> RankListener::start(RankListenerOptions options, Say say) {
  auto state = std::make_unique<State>(std::move(options), std::move(say));
  SHOAL_TRY(state->open_model());
  SHOAL_TRY(state->listen());
  return std::unique_ptr<RankListener>(new RankListener(std::move(state)));
}

RankListener::RankListener(std::unique_ptr<State> state) : state_(std::move(state)) {}
RankListener::~RankListener() = default;

const MachineCode& RankListener::code() const {
  return state_->code;
}

void RankListener::run(const std::function<bool()>& carry_on) {
  while (carry_on()) {
    state_->loop.run_for(kTurn);
    state_->loop.restart();
  }
}

}  // namespace shoal::cli
