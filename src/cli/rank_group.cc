#include "cli/rank_group.h"

#include <fcntl.h>
#include <sched.h>

#include <algorithm>

#include "base/counted.h"
#include "supervise/culprit.h"
#include "supervise/pair_keys.h"
#include "supervise/worker_process.h"

namespace shoal::cli {
namespace {

constexpr std::chrono::milliseconds kTurn{100};
constexpr std::chrono::minutes kLoadTimeout{30};
constexpr std::chrono::seconds kStartTimeout{10};  // of workers on other machines
constexpr std::chrono::minutes kRunTimeout{60};
constexpr std::chrono::seconds kReportTimeout{10};
// A rank that loads says so ten times a second, but for a tensor that a slow disk takes long for.
constexpr std::chrono::seconds kLoadSilence{60};
// A machine that is silent was waited for already, and is the cause.
constexpr std::chrono::milliseconds kLastWordsAfterSilence{200};

// The calling thread's network namespace until the end of the scope.
class InNamespace {
 public:
  explicit InNamespace(int space) {
    if (space < 0) return;
    home_ = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    SHOAL_CHECK(home_ && ::setns(space, CLONE_NEWNET) == 0);
  }
  ~InNamespace() {
    if (home_) SHOAL_CHECK(::setns(home_.get(), CLONE_NEWNET) == 0);
  }
  InNamespace(const InNamespace&) = delete;
  InNamespace& operator=(const InNamespace&) = delete;

 private:
  UniqueFd home_;
};

}  // namespace

struct RankGroup::State {
  State(RankLoop& shared, RankGroupOptions given, RankGroup::Progress show)
      : options(std::move(given)),
        progress(std::move(show)),
        shared(shared),
        loop(shared.io),
        ranks(options.plan.ranks.size()) {
    shared.groups[this] = [this] { return check(); };
  }
  ~State() {
    shared.groups.erase(this);
    ranks.clear();
    options.machines.clear();
    loop.poll();
  }

  struct Rank {
    bool started = false;
    bool ready = false;
    uint64_t done_bytes = 0;
    uint64_t total_bytes = 0;
    uint64_t reports = 0;
    std::optional<Error> complaint;  // its own sentence, when it failed
    std::optional<WorkerExit> end;
    std::unique_ptr<WorkerProcess> process;  // or, on another machine,
    RankMachine* machine = nullptr;

    Clock::time_point last_frame_at() const {
      return machine != nullptr ? machine->last_frame_at() : process->last_frame_at();
    }
    bool in_trouble() const { return complaint || end; }
    bool loads() const { return !ready && (total_bytes == 0 || done_bytes < total_bytes); }
  };

  Status start();
  Status start_here(size_t rank, const std::vector<std::vector<Bytes>>& keys);
  Status start_there(size_t rank, const std::vector<std::vector<Bytes>>& keys);
  Status give_links(size_t rank, std::vector<LinkEnd>& ends);
  Status link_machines(const ShardOrder& order);
  bool is_elsewhere() const { return !options.machines.empty(); }
  std::string name_of(size_t rank) const;
  // Of this group: the failure of a rank, once the others have been heard.
  Status check();
  ShardOrder order_of(size_t rank, const std::vector<std::vector<Bytes>>& keys) const;
  void take_frame(size_t rank, const Json& frame);
  void take_end(size_t rank, const WorkerExit& end);
  void hear_the_others_out();
  Error sentence_of(size_t rank) const;
  Error failure() const;
  Status check_loading() const;
  // Turns the loop until `done`, a failure, or the deadline.
  Status turn_until(const std::function<bool()>& done, const std::string& phase, Deadline deadline);

  RankGroupOptions options;
  RankGroup::Progress progress;
  RankLoop& shared;
  boost::asio::io_context& loop;
  std::array<std::byte, 16> instance{};
  std::vector<ShardStats> stats;
  std::vector<size_t> fallen;  // ranks in trouble, the first that was heard of first
  std::optional<double> benched_s;
  std::vector<Rank> ranks;
};

ShardOrder RankGroup::State::order_of(size_t rank,
                                      const std::vector<std::vector<Bytes>>& keys) const {
  ShardOrder order;
  order.instance = instance;
  order.generation = 1;
  order.rank = static_cast<int>(rank);
  order.plan = options.plan;
  order.model_path = options.model_path;
  order.link_mode = options.link.mode;
  order.emulated = options.link.emulated;
  order.links_given = true;
  order.verbs = options.link.kind == LinkChoice::Kind::kVerbs;
  order.bench = true;
  order.addresses.resize(ranks.size());
  order.keys = keys[rank];
  order.threads = options.threads;
  order.isa = options.isa;
  return order;
}

Status RankGroup::State::start_here(size_t rank, const std::vector<std::vector<Bytes>>& keys) {
  WorkerOptions worker;
  worker.name = name_of(rank);
  if (!options.cores.empty()) worker.cores = options.cores[rank];
  WorkerCallbacks callbacks;
  callbacks.on_frame = [this, rank](const Json& frame) { take_frame(rank, frame); };
  callbacks.on_exit = [this, rank](const WorkerExit& end) { take_end(rank, end); };
  {
    const InNamespace there(
        options.spaces == nullptr ? -1 : options.spaces->descriptor(static_cast<int>(rank)));
    SHOAL_ASSIGN(ranks[rank].process,
                 WorkerProcess::spawn(loop, std::move(worker), std::move(callbacks)));
  }
  Json start = to_json(order_of(rank, keys));
  start["type"] = "start";
  ranks[rank].started = true;
  return ranks[rank].process->send(start);
}

Status RankGroup::State::start_there(size_t rank, const std::vector<std::vector<Bytes>>& keys) {
  RankMachine& machine = *options.machines[rank - 1];
  if (machine.lost()) {
    return fail(machine.lost()->code, "{}: {}", name_of(rank), machine.lost()->message);
  }
  ranks[rank].machine = &machine;
  RankControl::Callbacks callbacks;
  callbacks.on_frame = [this, rank](const Json& frame) { take_frame(rank, frame); };
  callbacks.on_end = [this, rank](const Error& why) {
    take_end(rank, {.code = why.code,
                    .reason = fmt::format("{}: {}", name_of(rank), printable(why.message))});
  };
  machine.start(order_of(rank, keys), !options.cores.empty(), std::move(callbacks));
  return {};
}

Status RankGroup::State::give_links(size_t rank, std::vector<LinkEnd>& ends) {
  for (size_t other = 0; other < ranks.size(); ++other) {
    if (other == rank) continue;
    LinkEnd& end = ends[other];
    const Json link = {{"type", "link"}, {"from_rank", other}};
    if (end.memory) {
      Json memory = link;
      memory["memory"] = true;
      SHOAL_TRY(ranks[rank].process->send(memory, std::move(end.memory)));
    }
    SHOAL_TRY(ranks[rank].process->send(link, std::move(end.socket)));
  }
  return {};
}

// Lower ranks dial higher ones, so that nobody need reach this machine, which listens nowhere.
Status RankGroup::State::link_machines(const ShardOrder& order) {
  std::vector<LinkEnd> ends(ranks.size());
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    auto socket = ranks[rank].machine->dial(order);
    if (!socket) return std::unexpected(socket.error().within(name_of(rank)));
    ends[rank].socket = std::move(*socket);
    for (size_t higher = rank + 1; higher < ranks.size(); ++higher)
      ranks[rank].machine->connect(static_cast<int>(higher), ranks[higher].machine->facts());
  }
  return give_links(0, ends);
}

Status RankGroup::State::start() {
  stats.resize(ranks.size());
  std::ranges::copy(random_bytes(instance.size()), instance.begin());
  const auto keys = draw_pair_keys(static_cast<int>(ranks.size()));
  SHOAL_TRY(start_here(0, keys));
  if (is_elsewhere()) {
    for (size_t rank = 1; rank < ranks.size(); ++rank) SHOAL_TRY(start_there(rank, keys));
    const auto all_started = [this] { return std::ranges::all_of(ranks, &Rank::started); };
    SHOAL_TRY(turn_until(all_started, "starting " + options.name, Clock::now() + kStartTimeout));
    SHOAL_TRY(link_machines(order_of(0, keys)));
  } else {
    for (size_t rank = 1; rank < ranks.size(); ++rank) SHOAL_TRY(start_here(rank, keys));
    SHOAL_ASSIGN(auto ends,
                 make_link_ends(static_cast<int>(ranks.size()), options.link, options.spaces));
    for (size_t rank = 0; rank < ranks.size(); ++rank) SHOAL_TRY(give_links(rank, ends[rank]));
  }
  const auto all_ready = [this] { return std::ranges::all_of(ranks, &Rank::ready); };
  return turn_until(all_ready, "loading " + options.name, Clock::now() + kLoadTimeout);
}

std::string RankGroup::State::name_of(size_t rank) const {
  const std::string name = fmt::format("rank {} of {}", rank, options.name);
  if (rank == 0 || !is_elsewhere()) return name;
  return fmt::format("{} on {}", name, options.machines[rank - 1]->facts().name);
}

// Frames come from workers, which parse files of strangers, and of other machines: no field is
// taken for granted.
void RankGroup::State::take_frame(size_t rank, const Json& frame) {
  const auto text = [&](const char* name, const char* otherwise) {
    return json_field_or<std::string>(frame, name, otherwise).value_or(otherwise);
  };
  const auto count = [&](const char* name) {
    return json_field_or<uint64_t>(frame, name, 0).value_or(0);
  };
  const std::string type = text("type", "");
  Rank& from = ranks[rank];
  if (type == "progress") {
    from.total_bytes = count("total_bytes");
    from.done_bytes = std::min(count("done_bytes"), from.total_bytes);
  } else if (type == "ready" || type == "stats") {
    const auto read = shard_stats_from_json(frame.value("stats", Json()));
    if (!read) return;
    stats[rank] = *read;
    ++from.reports;
    from.ready |= type == "ready";
  } else if (type == "benched" && rank == 0) {
    benched_s = json_field_or<double>(frame, "seconds", 0).value_or(0);
  } else if (type == "started") {
    from.started = true;
  } else if (type == "failed") {
    if (!from.in_trouble()) fallen.push_back(rank);
    from.complaint = Error{error_code_named(text("code", "")),
                           printable(text("message", "failed without saying why"))};
  } else if (type == "exit" && from.machine != nullptr) {
    take_end(rank, {.code = error_code_named(text("code", "")),
                    .reason = printable(text("message", "ended without saying why"))});
  }
}

void RankGroup::State::take_end(size_t rank, const WorkerExit& end) {
  if (!ranks[rank].in_trouble()) fallen.push_back(rank);
  ranks[rank].end = end;
}

// --- what went wrong ---

void RankGroup::State::hear_the_others_out() {
  size_t heard = fallen.size();
  const bool lost = std::ranges::any_of(
      ranks, [](const Rank& rank) { return rank.machine != nullptr && rank.machine->lost(); });
  const std::chrono::milliseconds patience = lost ? kLastWordsAfterSilence : kLastWords;
  for (Deadline until = Clock::now() + patience; Clock::now() < until;) {
    if (std::ranges::all_of(ranks, [](const Rank& rank) { return rank.end.has_value(); })) return;
    loop.run_one_until(until);
    loop.restart();
    if (std::exchange(heard, fallen.size()) < fallen.size()) until = Clock::now() + patience;
  }
}

Error RankGroup::State::sentence_of(size_t rank) const {
  const Rank& one = ranks[rank];
  if (one.complaint) return one.complaint->within(name_of(rank));
  if (one.end) return {one.end->code, one.end->reason};  // which begins with its name
  return {ErrorCode::kDeadline, name_of(rank) + " says nothing"};
}

// The sentence that counts, and what each of the others says, a line each.
Error RankGroup::State::failure() const {
  std::vector<FallenRank> heard;
  for (const size_t rank : fallen) {
    const auto& complaint = ranks[rank].complaint;
    heard.push_back({rank, complaint ? std::optional(complaint->message) : std::nullopt});
  }
  const size_t first = nearest_to_the_cause(heard);
  Error error = sentence_of(first);
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (rank != first) error.message += "\n  " + sentence_of(rank).message;
  }
  return error;
}

// Others wait for a rank that loads as long as it takes, and so would we for one that is stopped.
Status RankGroup::State::check_loading() const {
  for (const Rank& rank : ranks) {
    if (!rank.loads() || Clock::now() - rank.last_frame_at() < kLoadSilence) continue;
    return fail(
        ErrorCode::kDeadline,
        "{} loaded {} of {} bytes and then nothing for {} s: it may be stopped, or its disk "
        "hangs",
        name_of(static_cast<size_t>(&rank - ranks.data())), rank.done_bytes, rank.total_bytes,
        kLoadSilence.count());
  }
  return {};
}

Status RankGroup::State::check() {
  if (fallen.empty()) return {};
  hear_the_others_out();
  return std::unexpected(failure());
}

Status RankGroup::State::turn_until(const std::function<bool()>& done, const std::string& phase,
                                    Deadline deadline) {
  while (!done()) {
    for (const auto& [group, well] : shared.groups) SHOAL_TRY(well());
    if (Clock::now() >= deadline)
      return fail(ErrorCode::kDeadline, "{} did not finish in time", phase);
    uint64_t done_bytes = 0, total_bytes = 0;
    for (const Rank& rank : ranks) {
      done_bytes += rank.done_bytes;
      total_bytes += rank.total_bytes;
    }
    const bool loading = !std::ranges::all_of(ranks, &Rank::ready);
    if (!progress(phase, loading ? done_bytes : 0, loading ? total_bytes : 0))
      return fail(ErrorCode::kCancelled, "stopped");
    loop.run_for(kTurn);
    loop.restart();
    SHOAL_TRY(check_loading());
  }
  return {};
}

Result<std::unique_ptr<RankGroup>> RankGroup::start(RankLoop& loop, RankGroupOptions options,
                                                    Progress progress) {
  auto state = std::make_unique<State>(loop, std::move(options), std::move(progress));
  SHOAL_TRY(state->start());
  return std::unique_ptr<RankGroup>(new RankGroup(std::move(state)));
}

RankGroup::RankGroup(std::unique_ptr<State> state) : state_(std::move(state)) {}
RankGroup::~RankGroup() = default;

Result<double> RankGroup::run(const BenchOrder& order) {
  State& state = *state_;
  state.benched_s.reset();
  SHOAL_TRY(state.ranks[0].process->send(Json{{"type", "bench"},
                                              {"prompt_tokens", order.prompt_tokens},
                                              {"batch", order.batch},
                                              {"context", order.context},
                                              {"output_tokens", order.output_tokens}}));
  const std::string what =
      order.prompt_tokens > 0
          ? fmt::format("prefill of {}, {}", counted(order.prompt_tokens, "token"),
                        state.options.name)
          : fmt::format("decode of {}, {}", counted(order.output_tokens, "token"),
                        state.options.name);
  SHOAL_TRY(state.turn_until([&] { return state.benched_s.has_value(); }, what,
                             Clock::now() + kRunTimeout));
  return *state.benched_s;
}

const std::vector<ShardStats>& RankGroup::stats() const {
  return state_->stats;
}

// Every rank reports twice a second, so the second report from now is of a moment after now.
Result<std::vector<ShardStats>> RankGroup::fresh_stats() {
  State& state = *state_;
  std::vector<uint64_t> wanted;
  for (const State::Rank& rank : state.ranks) wanted.push_back(rank.reports + 2);
  wanted[0] = 0;  // the lead has reported at the end of its run
  const auto all_there = [&] {
    for (size_t rank = 0; rank < wanted.size(); ++rank) {
      if (state.ranks[rank].reports < wanted[rank]) return false;
    }
    return true;
  };
  SHOAL_TRY(
      state.turn_until(all_there, "asking " + state.options.name, Clock::now() + kReportTimeout));
  return state.stats;
}

const std::string& RankGroup::name() const {
  return state_->options.name;
}

}  // namespace shoal::cli
