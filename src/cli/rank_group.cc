#include "cli/rank_group.h"

#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>

#include "base/counted.h"
#include "supervise/culprit.h"
#include "supervise/pair_keys.h"
#include "supervise/worker_process.h"

namespace shoal::cli {
namespace {

constexpr std::chrono::milliseconds kTurn{100};
constexpr std::chrono::minutes kLoadTimeout{30};
constexpr std::chrono::minutes kRunTimeout{60};
constexpr std::chrono::seconds kReportTimeout{10};
// A rank that loads says so ten times a second, but for a tensor that a slow disk takes long for.
constexpr std::chrono::seconds kLoadSilence{60};

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
  State(RankGroupOptions given, RankGroup::Progress show)
      : options(std::move(given)), progress(std::move(show)), ranks(options.plan.ranks.size()) {}
  ~State() {
    ranks.clear();
    loop.poll();
  }

  struct Rank {
    bool ready = false;
    uint64_t done_bytes = 0;
    uint64_t total_bytes = 0;
    uint64_t reports = 0;
    std::optional<Error> complaint;  // its own sentence, when it failed
    std::optional<WorkerExit> end;
    std::unique_ptr<WorkerProcess> process;

    bool in_trouble() const { return complaint || end; }
    bool loads() const { return !ready && (total_bytes == 0 || done_bytes < total_bytes); }
  };

  Status start();
  Status start_rank(size_t rank, const std::vector<std::vector<Bytes>>& keys,
                    std::vector<std::vector<LinkEnd>>& ends);
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
  boost::asio::io_context loop;
  std::vector<ShardStats> stats;
  std::vector<size_t> fallen;  // ranks in trouble, the first that was heard of first
  std::optional<double> benched_s;
  std::vector<Rank> ranks;
};

ShardOrder RankGroup::State::order_of(size_t rank,
                                      const std::vector<std::vector<Bytes>>& keys) const {
  ShardOrder order;
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

Status RankGroup::State::start_rank(size_t rank, const std::vector<std::vector<Bytes>>& keys,
                                    std::vector<std::vector<LinkEnd>>& ends) {
  WorkerOptions worker;
  worker.name = fmt::format("rank {} of {}", rank, options.name);
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
  SHOAL_TRY(ranks[rank].process->send(start));
  for (size_t other = 0; other < ranks.size(); ++other) {
    if (other == rank) continue;
    LinkEnd& end = ends[rank][other];
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

Status RankGroup::State::start() {
  stats.resize(ranks.size());
  SHOAL_ASSIGN(auto ends,
               make_link_ends(static_cast<int>(ranks.size()), options.link, options.spaces));
  const auto keys = draw_pair_keys(static_cast<int>(ranks.size()));
  for (size_t rank = 0; rank < ranks.size(); ++rank) SHOAL_TRY(start_rank(rank, keys, ends));
  const auto all_ready = [this] { return std::ranges::all_of(ranks, &Rank::ready); };
  return turn_until(all_ready, "loading " + options.name, Clock::now() + kLoadTimeout);
}

void RankGroup::State::take_frame(size_t rank, const Json& frame) {
  const std::string type = frame.value("type", "");
  Rank& from = ranks[rank];
  if (type == "progress") {
    from.done_bytes = frame.value("done_bytes", uint64_t{0});
    from.total_bytes = frame.value("total_bytes", uint64_t{0});
  } else if (type == "ready" || type == "stats") {
    if (auto read = shard_stats_from_json(frame.value("stats", Json()))) {
      stats[rank] = *read;
      ++from.reports;
    }
    from.ready |= type == "ready";
  } else if (type == "benched") {
    benched_s = frame.value("seconds", 0.0);
  } else if (type == "failed") {
    if (!from.in_trouble()) fallen.push_back(rank);
    from.complaint = Error{error_code_named(frame.value("code", "")),
                           frame.value("message", "failed without saying why")};
  }
}

void RankGroup::State::take_end(size_t rank, const WorkerExit& end) {
  if (!ranks[rank].in_trouble()) fallen.push_back(rank);
  ranks[rank].end = end;
}

// --- what went wrong ---

void RankGroup::State::hear_the_others_out() {
  size_t heard = fallen.size();
  for (Deadline until = Clock::now() + kLastWords; Clock::now() < until;) {
    if (std::ranges::all_of(ranks, [](const Rank& rank) { return rank.end.has_value(); })) return;
    loop.run_one_until(until);
    loop.restart();
    if (std::exchange(heard, fallen.size()) < fallen.size()) until = Clock::now() + kLastWords;
  }
}

Error RankGroup::State::sentence_of(size_t rank) const {
  const Rank& one = ranks[rank];
  if (one.complaint) return one.complaint->within(fmt::format("rank {} of {}", rank, options.name));
  if (one.end) return {one.end->code, one.end->reason};  // which begins with its name
  return {ErrorCode::kDeadline, fmt::format("rank {} of {} says nothing", rank, options.name)};
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
    if (!rank.loads() || Clock::now() - rank.process->last_frame_at() < kLoadSilence) continue;
    return fail(ErrorCode::kDeadline,
                "rank {} of {} loaded {} of {} bytes and then nothing for {} s: it may be stopped, "
                "or its disk hangs",
                &rank - ranks.data(), options.name, rank.done_bytes, rank.total_bytes,
                kLoadSilence.count());
  }
  return {};
}

Status RankGroup::State::turn_until(const std::function<bool()>& done, const std::string& phase,
                                    Deadline deadline) {
  while (!done()) {
    if (!fallen.empty()) {
      hear_the_others_out();
      return std::unexpected(failure());
    }
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

Result<std::unique_ptr<RankGroup>> RankGroup::start(RankGroupOptions options, Progress progress) {
  auto state = std::make_unique<State>(std::move(options), std::move(progress));
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
