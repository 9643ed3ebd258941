#include "engine/shard_engine.h"

#include <algorithm>

namespace shoal {

namespace {

// Followers expect to hear from the lead more often than their patience lasts.
constexpr std::chrono::milliseconds kTickEvery{500};
// From such a link on, sums of many rows take less time than computing them in two parts loses.
constexpr double kLikeMemory_bytes_per_s = 5e9;
// Of fewer rows a segment is over before a link needs looking after.
constexpr size_t kRowsToLookUpFrom = 32;

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
                         const EngineOptions& options, StepLimits limits, std::vector<Stage> stages,
                         ResultMerger merger, StepTime tried)
    : program_(std::move(program)),
      backend_(backend),
      group_(std::move(group)),
      options_(options),
      limits_(std::move(limits)),
      stages_(std::move(stages)),
      stage_(stage_of(stages_, group_.rank())),
      merger_(std::move(merger)),
      patience_(options.collective_timeout, stages_.size(), tried) {
  batch_.page_tables.resize(limits_.groups.size());
}

Status ShardEngine::spend(Status status) {
  if (!status && !spent_) spent_ = status.error();
  return status;
}

// --- on the lead ---

Status ShardEngine::submit(const Step& step) {
  SHOAL_CHECK(group_.rank() == 0);
  if (spent_) return std::unexpected(*spent_);
  SHOAL_TRY(check_step(step, limits_, seen_));
  if (step.number != next_number_) {
    return fail(ErrorCode::kInvalidArgument, "step {} was submitted, {} comes next", step.number,
                next_number_);
  }
  if (steps_in_flight() == steps_at_once()) {
    return fail(ErrorCode::kInvalidArgument,
                "{} steps are in flight, as many as this instance runs at once", steps_in_flight());
  }
  return spend(submit_checked(step));
}

Status ShardEngine::submit_checked(const Step& step) {
  last_told_ = Clock::now();
  encode_step(step, frame_);
  for (int rank = 1; rank < group_.size(); ++rank) {
    Bytes header = group_.spare_frame();
    header.assign(frame_.begin(), frame_.end());
    SHOAL_TRY(group_.post(rank, std::move(header)));
  }
  InFlight& mine = in_flight_.emplace_back();
  mine.step = step;
  SHOAL_TRY(run(step, mine.result));
  mine.parts.resize(static_cast<size_t>(stages_.back().rank_count));
  if (!has_message(step)) mine.arrived = mine.parts.size();
  if (!has_head()) return {};
  if (mine.arrived == 0) {
    const Stopwatch stopwatch(mine.result.compute_s);
    pack(step, mine.parts[0]);
    mine.arrived = 1;
  }
  return finish(mine, in_time());
}

// Waits for what is missing of a step, and makes its result of it.
Status ShardEngine::finish(InFlight& oldest, Deadline deadline) {
  if (oldest.finished) return {};
  {
    const Stopwatch stopwatch(oldest.result.wait_s);
    for (; oldest.arrived < oldest.parts.size(); ++oldest.arrived) {
      const int rank = stages_.back().first_rank + static_cast<int>(oldest.arrived);
      SHOAL_TRY(group_.receive(rank, oldest.parts[oldest.arrived], deadline));
    }
  }
  const Stopwatch stopwatch(oldest.result.compute_s);
  std::span<const float> hidden;
  if (has_head() && needs_hidden(oldest.step))
    hidden = backend_.rows(program_.hidden, 0, static_cast<int64_t>(wanted_.size()));
  SHOAL_TRY(merger_.merge(oldest.step, oldest.parts, hidden, oldest.result));
  oldest.finished = true;
  return {};
}

Result<bool> ShardEngine::take_parts(InFlight& oldest) {
  for (; oldest.arrived < oldest.parts.size(); ++oldest.arrived) {
    const int rank = stages_.back().first_rank + static_cast<int>(oldest.arrived);
    SHOAL_ASSIGN(const bool whole, group_.try_receive(rank, oldest.parts[oldest.arrived]));
    if (!whole) return false;
  }
  return true;
}

StepResult ShardEngine::take_oldest() {
  StepResult result = std::move(in_flight_.front().result);
  in_flight_.pop_front();
  return result;
}

Result<std::optional<StepResult>> ShardEngine::poll() {
  if (!in_flight_.empty() && in_flight_.front().finished) return take_oldest();
  if (spent_) return std::unexpected(*spent_);
  if (in_flight_.empty()) return std::nullopt;
  const Result<bool> whole = take_parts(in_flight_.front());
  if (!whole) return std::unexpected(*(spent_ = whole.error()));
  if (!*whole) return std::nullopt;
  SHOAL_TRY(spend(finish(in_flight_.front(), kNoDeadline)));  // all of it is there
  return take_oldest();
}

// Followers that wait for their next header are told meanwhile that the lead lives. Those that wait
// for one another know better than the lead who is late: they are given a moment to say so first.
Result<StepResult> ShardEngine::wait() {
  SHOAL_CHECK(!in_flight_.empty());
  const Deadline deadline = in_time(stages_.size()) + options_.collective_timeout / 4;
  while (true) {
    SHOAL_ASSIGN(std::optional<StepResult> result, poll());
    if (result) return std::move(*result);
    if (Clock::now() >= deadline) {
      SHOAL_TRY(spend(finish(in_flight_.front(), deadline)));
      return take_oldest();
    }
    SHOAL_TRY(spend(group_.wait_for_any(std::min<Deadline>(deadline, Clock::now() + kTickEvery))));
    if (Clock::now() - last_told_ >= kTickEvery) SHOAL_TRY(tick());
  }
}

Status ShardEngine::signal(HeaderKind kind) {
  if (spent_) return std::unexpected(*spent_);
  last_told_ = Clock::now();
  encode_signal(kind, frame_);
  for (int rank = 1; rank < group_.size(); ++rank)
    SHOAL_TRY(spend(group_.send(rank, frame_, in_time())));
  return {};
}

Status ShardEngine::tick() {
  return signal(HeaderKind::kTick);
}
Status ShardEngine::stop() {
  return signal(HeaderKind::kStop);
}

// --- on the others ---

Result<Engine::Followed> ShardEngine::follow(Deadline deadline) {
  SHOAL_CHECK(group_.rank() != 0);
  if (spent_) return std::unexpected(*spent_);
  auto followed = follow_header(deadline);
  if (!followed) spent_ = followed.error();
  return followed;
}

Result<Engine::Followed> ShardEngine::follow_header(Deadline deadline) {
  SHOAL_TRY(group_.receive(0, frame_, deadline));
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
  StepResult unused;
  SHOAL_TRY(run(followed_, unused));
  if (has_head() && has_message(followed_)) {
    Bytes message = group_.spare_frame();
    pack(followed_, message);
    SHOAL_TRY(group_.post(0, std::move(message)));
  }
  return Followed::kStep;
}

// --- on all ---

void ShardEngine::fill_batch(const Step& step) {
  tokens_.clear();
  positions_.clear();
  sequences_.clear();
  roles_.clear();
  wanted_.clear();
  cut_into_parts(step.rows.size());
  for (Part& part : parts_) {
    part.first_wanted = wanted_.size();
    for (size_t r = 0; r < part.rows; ++r) {
      const StepRow& row = step.rows[part.first_row + r];
      tokens_.push_back(row.token);
      positions_.push_back(row.position);
      sequences_.push_back(static_cast<int32_t>(row.sequence));
      roles_.push_back(row.role);
      if (row.want != Want::kNothing) wanted_.push_back(static_cast<int32_t>(r));
    }
    part.wanted = wanted_.size() - part.first_wanted;
  }
  for (size_t group = 0; group < limits_.groups.size(); ++group) {
    auto& tables = batch_.page_tables[group];
    tables.clear();
    for (const auto& sequence : step.sequences) tables.emplace_back(sequence[group]);
  }
}

// A prompt's later rows read the keys and values of its earlier ones, which every segment computes
// first.
void ShardEngine::cut_into_parts(size_t row_count) {
  parts_.clear();
  const auto least = static_cast<size_t>(options_.least_part_rows);
  const bool sums = stages_[stage_].rank_count > 1;
  const bool slow = group_.link_cost().bytes_per_s < kLikeMemory_bytes_per_s;
  const size_t count = sums && slow && row_count >= 2 * least ? 2 : 1;
  for (size_t part = 0; part < count; ++part) {
    const size_t begin = row_count * part / count, end = row_count * (part + 1) / count;
    parts_.push_back({.first_row = begin, .rows = end - begin, .first_wanted = 0, .wanted = 0});
  }
}

void ShardEngine::turn_to(const Part& part) {
  const auto rows_of = [&](const auto& all) {
    return std::span(all).subspan(part.first_row, part.rows);
  };
  batch_.tokens = rows_of(tokens_);
  batch_.positions = rows_of(positions_);
  batch_.sequences = rows_of(sequences_);
  batch_.roles = rows_of(roles_);
  batch_.wanted = std::span(wanted_).subspan(part.first_wanted, part.wanted);
  batch_.first_row = static_cast<int64_t>(part.first_row);
  batch_.first_wanted = static_cast<int64_t>(part.first_wanted);
}

Status ShardEngine::receive_rows(size_t row_count) {
  if (!program_.received) return {};
  const Stopwatch stopwatch(wait_s_);
  const int member = group_.rank() - stages_[stage_].first_rank;
  // All the stages before compute this step first.
  const Deadline deadline = in_time(stage_);
  return group_.receive_values(
      sender_to(stages_[stage_ - 1], member),
      backend_.rows(*program_.received, 0, static_cast<int64_t>(row_count)), deadline);
}

Status ShardEngine::send_rows(size_t row_count) {
  if (!program_.sent) return {};
  const Stopwatch stopwatch(wait_s_);
  const Stage& next = stages_[stage_ + 1];
  const auto rows = backend_.rows(*program_.sent, 0, static_cast<int64_t>(row_count));
  // What does not leave at once does so while the next step is computed, but no longer: a stage is
  // never more than that ahead of the next one.
  SHOAL_TRY(group_.flush(in_time()));
  for (int member = 0; member < next.rank_count; ++member) {
    if (sender_to(stages_[stage_], member) != group_.rank()) continue;
    SHOAL_TRY(group_.post_values(next.first_rank + member, rows));
  }
  return {};
}

// Of several parts one sum travels at a time: that of the part computed last, while the next is
// computed.
Status ShardEngine::run_segments() {
  for (size_t s = 0; s < program_.segments.size(); ++s) {
    for (const Part& part : parts_) {
      turn_to(part);
      {
        const Stopwatch stopwatch(compute_s_);
        const bool long_enough = part.rows >= kRowsToLookUpFrom;
        const bool travels = sum_travels_ || (long_enough && !group_.all_sent());
        SHOAL_TRY(backend_.run(s, batch_, travels ? progress_ : nothing_));
      }
      SHOAL_TRY(finish_sum());
      if (const auto& reduced = program_.segments[s].all_reduce) SHOAL_TRY(sum(*reduced, part));
    }
  }
  return finish_sum();
}

Status ShardEngine::sum(BufferId buffer, const Part& part) {
  const bool all = program_.buffers[static_cast<size_t>(buffer)].rows == Rows::kAll;
  const auto first = static_cast<int64_t>(all ? part.first_row : part.first_wanted);
  const auto count = static_cast<int64_t>(all ? part.rows : part.wanted);
  if (count == 0) return {};
  const Stopwatch stopwatch(wait_s_);
  const auto rows = backend_.rows(buffer, first, count);
  if (parts_.size() == 1) return group_.all_reduce(rows, in_time());
  sum_travels_ = true;
  return group_.begin_all_reduce(rows);
}

Status ShardEngine::finish_sum() {
  if (!sum_travels_) return {};
  const Stopwatch stopwatch(wait_s_);
  sum_travels_ = false;
  return group_.finish_all_reduce(in_time());
}

bool ShardEngine::has_message(const Step& step) const {
  return needs_vocabulary(step) || (stages_.size() > 1 && needs_hidden(step));
}

void ShardEngine::pack(const Step& step, Bytes& message) {
  const auto wanted = static_cast<int64_t>(wanted_.size());
  std::span<const float> hidden;
  if (stages_.size() > 1 && group_.rank() == stages_.back().first_rank)
    hidden = backend_.rows(program_.hidden, 0, wanted);
  packer_.pack(step, backend_.rows(program_.logits, 0, wanted), program_.vocabulary, message,
               hidden);
}

Status ShardEngine::run(const Step& step, StepResult& result) {
  compute_s_ = 0;
  wait_s_ = 0;
  bytes_sent_before_ = group_.counters().bytes_sent;
  fill_batch(step);
  const bool generated_only =
      std::ranges::all_of(roles_, [](Role role) { return role == Role::kGenerated; });
  patience_.begin(step.rows.size());
  SHOAL_TRY(receive_rows(step.rows.size()));
  SHOAL_TRY(run_segments());
  SHOAL_TRY(send_rows(step.rows.size()));
  patience_.finished(compute_s_);
  result.number = step.number;
  result.compute_s = compute_s_;
  result.wait_s = wait_s_;
  ++next_number_;
  count(step, generated_only);
  return {};
}

void ShardEngine::count(const Step& step, bool generated_only) {
  ++totals_.steps;
  totals_.rows += step.rows.size();
  totals_.compute_s += compute_s_;
  totals_.wait_s += wait_s_;
  if (!generated_only) return;
  ++totals_.decode_steps;
  totals_.decode_compute_s += compute_s_;
  totals_.decode_wait_s += wait_s_;
  totals_.decode_bytes_sent += group_.counters().bytes_sent - bytes_sent_before_;
}

Engine::Totals ShardEngine::totals() const {
  Totals totals = totals_;
  totals.links = group_.counters();
  return totals;
}

}  // namespace shoal
