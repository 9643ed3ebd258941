#include "engine/shard_engine.h"

#include <algorithm>

namespace shoal {

namespace {

// Adds the time from its making to its end to a total.
class Stopwatch {
 public:
  explicit Stopwatch(double& total_s) : total_s_(total_s), start_(Clock::now()) {}
  ~Stopwatch() { total_s_ += seconds_since(start_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_s_;
  Clock::time_point start_;
};

}  // namespace

ShardEngine::ShardEngine(Program program, Backend& backend, Group group,
                         const EngineOptions& options, StepLimits limits,
                         std::vector<Range> vocabularies)
    : program_(std::move(program)),
      backend_(backend),
      group_(std::move(group)),
      options_(options),
      limits_(std::move(limits)),
      merger_(std::move(vocabularies)) {
  batch_.page_tables.resize(limits_.groups.size());
}

Status ShardEngine::spend(Status status) {
  if (!status && !spent_) spent_ = status.error();
  return status;
}

Status ShardEngine::submit(const Step& step) {
  SHOAL_CHECK(group_.rank() == 0);
  if (spent_) return std::unexpected(*spent_);
  SHOAL_TRY(check_step(step, limits_, seen_));
  if (step.number != next_number_) {
    return fail(ErrorCode::kInvalidArgument, "step {} was submitted, {} comes next", step.number,
                next_number_);
  }
  return spend(broadcast_and_run(step));
}

Status ShardEngine::broadcast_and_run(const Step& step) {
  encode_step(step, frame_);
  SHOAL_TRY(group_.broadcast(0, frame_, in_time()));
  StepResult result;
  SHOAL_TRY(run(step, result));
  finished_.push_back(std::move(result));
  return {};
}

Result<std::optional<StepResult>> ShardEngine::poll() {
  if (!finished_.empty()) {
    std::optional<StepResult> oldest = std::move(finished_.front());
    finished_.pop_front();
    return oldest;
  }
  if (spent_) return std::unexpected(*spent_);
  return std::nullopt;
}

Status ShardEngine::signal(HeaderKind kind) {
  if (spent_) return std::unexpected(*spent_);
  encode_signal(kind, frame_);
  return spend(group_.broadcast(0, frame_, in_time()));
}

Status ShardEngine::tick() {
  return signal(HeaderKind::kTick);
}
Status ShardEngine::stop() {
  return signal(HeaderKind::kStop);
}

Result<Engine::Followed> ShardEngine::follow(Deadline deadline) {
  SHOAL_CHECK(group_.rank() != 0);
  if (spent_) return std::unexpected(*spent_);
  auto followed = follow_header(deadline);
  if (!followed) spent_ = followed.error();
  return followed;
}

Result<Engine::Followed> ShardEngine::follow_header(Deadline deadline) {
  SHOAL_TRY(group_.broadcast(0, frame_, deadline));
  SHOAL_ASSIGN(const HeaderKind kind, decode_header(frame_, limits_, followed_));
  if (kind == HeaderKind::kTick) return Followed::kTick;
  if (kind == HeaderKind::kStop) return Followed::kStop;
  if (Status valid = check_step(followed_, limits_, seen_); !valid) {
    return fail(ErrorCode::kCorrupt, "rank 0 sent a step that cannot be: {}",
                valid.error().message);
  }
  if (followed_.number != next_number_) {
    return fail(ErrorCode::kCorrupt, "rank 0 sent step {}, {} comes next", followed_.number,
                next_number_);
  }
  StepResult result;
  SHOAL_TRY(run(followed_, result));
  return Followed::kStep;
}

void ShardEngine::fill_batch(const Step& step) {
  tokens_.clear();
  positions_.clear();
  sequences_.clear();
  roles_.clear();
  wanted_.clear();
  for (size_t r = 0; r < step.rows.size(); ++r) {
    const StepRow& row = step.rows[r];
    tokens_.push_back(row.token);
    positions_.push_back(row.position);
    sequences_.push_back(static_cast<int32_t>(row.sequence));
    roles_.push_back(row.role);
    if (row.want != Want::kNothing) wanted_.push_back(static_cast<int32_t>(r));
  }
  batch_.tokens = tokens_;
  batch_.positions = positions_;
  batch_.sequences = sequences_;
  batch_.roles = roles_;
  batch_.wanted = wanted_;
  for (size_t group = 0; group < limits_.groups.size(); ++group) {
    auto& tables = batch_.page_tables[group];
    tables.clear();
    for (const auto& sequence : step.sequences) tables.emplace_back(sequence[group]);
  }
}

Status ShardEngine::run_segments(const Step& step) {
  for (size_t s = 0; s < program_.segments.size(); ++s) {
    {
      const Stopwatch stopwatch(compute_s_);
      SHOAL_TRY(backend_.run(s, batch_));
    }
    const auto& reduced = program_.segments[s].all_reduce;
    if (!reduced) continue;
    const Rows kind = program_.buffers[static_cast<size_t>(*reduced)].rows;
    const size_t rows = kind == Rows::kAll ? step.rows.size() : wanted_.size();
    if (rows == 0) continue;
    const Stopwatch stopwatch(wait_s_);
    SHOAL_TRY(group_.all_reduce(backend_.rows(*reduced, static_cast<int64_t>(rows)), in_time()));
  }
  return {};
}

Status ShardEngine::exchange_results(const Step& step, StepResult& result) {
  const auto wanted = static_cast<int64_t>(wanted_.size());
  if (needs_vocabulary(step)) {
    {
      const Stopwatch stopwatch(compute_s_);
      packer_.pack(step, backend_.rows(program_.logits, wanted), program_.vocabulary, message_);
    }
    const Stopwatch stopwatch(wait_s_);
    SHOAL_TRY(group_.gather(0, message_, parts_, in_time()));
  }
  if (group_.rank() != 0) return {};
  const Stopwatch stopwatch(compute_s_);
  std::span<const float> hidden;
  if (wanted > 0) hidden = backend_.rows(program_.hidden, wanted);
  return merger_.merge(step, parts_, hidden, result);
}

Status ShardEngine::run(const Step& step, StepResult& result) {
  compute_s_ = 0;
  wait_s_ = 0;
  fill_batch(step);
  SHOAL_TRY(run_segments(step));
  SHOAL_TRY(exchange_results(step, result));
  result.compute_s = compute_s_;
  result.wait_s = wait_s_;
  ++next_number_;
  count(step);
  return {};
}

void ShardEngine::count(const Step& step) {
  ++totals_.steps;
  totals_.rows += step.rows.size();
  totals_.compute_s += compute_s_;
  totals_.wait_s += wait_s_;
  if (!std::ranges::all_of(roles_, [](Role role) { return role == Role::kGenerated; })) return;
  ++totals_.decode_steps;
  totals_.decode_compute_s += compute_s_;
  totals_.decode_wait_s += wait_s_;
}

Engine::Totals ShardEngine::totals() const {
  Totals totals = totals_;
  totals.links = group_.counters();
  return totals;
}

}  // namespace shoal
