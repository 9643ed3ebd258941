#include "worker/bench_runs.h"

#include <algorithm>
#include <functional>

#include "base/clock.h"
#include "base/median.h"
#include "base/random.h"

namespace shoal {

namespace {

constexpr uint64_t kTokenSeed = 20261122;
constexpr SequenceId kPromptSequence = ~SequenceId{0};  // decoding ones count from 0

double seconds_of(const std::vector<ProfiledPart>& parts) {
  double sum = 0;
  for (const ProfiledPart& part : parts) sum += part.seconds;
  return sum;
}

}  // namespace

BenchRuns::BenchRuns(Engine& engine, Backend& backend, int64_t vocabulary_size, int64_t repeat,
                     bool profile, std::function<bool()> carry_on)
    : engine_(engine),
      backend_(backend),
      vocabulary_size_(vocabulary_size),
      repeat_(repeat),
      profile_(profile),
      carry_on_(std::move(carry_on)),
      pages_(engine.kv_groups(), engine.page_tokens()) {}

// Never the one that a step chose: greedy continuations of noise repeat themselves, and a mixture
// would read the same experts again and again.
int32_t BenchRuns::next_token() {
  const double share = uniform(kTokenSeed, drawn_count_++);
  return static_cast<int32_t>(share * static_cast<double>(vocabulary_size_));
}

Status BenchRuns::run_step(Step& step) {
  if (!carry_on_()) return fail(ErrorCode::kCancelled, "stopped");
  step.number = step_number_++;
  step.candidate_count = 1;
  if (engine_.steps_in_flight() == engine_.steps_at_once()) SHOAL_TRY(take_result());
  return engine_.submit(step);
}

Status BenchRuns::take_result() {
  SHOAL_ASSIGN(const StepResult result, engine_.wait());
  results_s_ += result.compute_s;
  collectives_s_ += result.wait_s;
  return {};
}

Status BenchRuns::finish_steps() {
  while (engine_.steps_in_flight() > 0) SHOAL_TRY(take_result());
  return {};
}

Status BenchRuns::compute_prompt(SequenceId sequence, int64_t begin, int64_t end) {
  SHOAL_TRY(pages_.reserve(sequence, end));
  Step step;
  step.sequences = {pages_.tables(sequence)};
  while (begin < end) {
    const int64_t stop = std::min(end, begin + kBenchRowsPerStep);
    step.rows.clear();
    for (; begin < stop; ++begin) {
      step.rows.push_back({.sequence = 0,
                           .token = next_token(),
                           .position = static_cast<int32_t>(begin),
                           .role = Role::kPrompt});
    }
    if (begin == end) step.rows.back().want = Want::kCandidates;
    SHOAL_TRY(run_step(step));
  }
  return finish_steps();
}

// The batch, spread over as many steps as may be in flight.
Result<std::vector<Step>> BenchRuns::decoding_steps(int64_t batch, int64_t positions) {
  const int64_t groups = std::min<int64_t>(batch, engine_.steps_at_once());
  std::vector<Step> steps(static_cast<size_t>(groups));
  for (int64_t s = 0; s < batch; ++s) {
    Step& step = steps[static_cast<size_t>(s * groups / batch)];
    const auto sequence = static_cast<SequenceId>(s);
    SHOAL_TRY(pages_.reserve(sequence, positions));
    step.rows.push_back({.sequence = static_cast<uint32_t>(step.sequences.size()),
                         .token = 0,
                         .position = 0,
                         .role = Role::kGenerated,
                         .want = Want::kCandidates});
    step.sequences.push_back(pages_.tables(sequence));
  }
  return steps;
}

// A group's next step waits for its last one, as it would for the token.
Status BenchRuns::decode_once(int64_t batch, int64_t context, int64_t tokens) {
  SHOAL_ASSIGN(std::vector<Step> steps, decoding_steps(batch, context + tokens));
  for (int64_t position = context; position < context + tokens; ++position) {
    for (Step& step : steps) {
      for (StepRow& row : step.rows) {
        row.token = next_token();
        row.position = static_cast<int32_t>(position);
      }
      if (engine_.steps_in_flight() == std::ssize(steps)) SHOAL_TRY(take_result());
      SHOAL_TRY(run_step(step));
    }
  }
  return finish_steps();
}

// A run to warm up, in which the backend counts what is read and multiplied; the timed ones, in
// which it does not; and one more whose parts are timed.
Result<BenchSpeed> BenchRuns::measure(double tokens, const std::function<Status()>& run) {
  backend_.set_profile(true);
  const Status warm = run();
  backend_.set_profile(false);
  SHOAL_TRY(warm);
  double read_bytes = 0, multiply_adds = 0;
  for (const ProfiledPart& part : backend_.profile()) {
    read_bytes += part.read_bytes;
    multiply_adds += part.multiply_adds;
  }
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeat_; ++i) {
    const auto start = Clock::now();
    SHOAL_TRY(run());
    seconds.push_back(std::max(seconds_since(start), 1e-9));
  }
  BenchSpeed speed;
  speed.seconds = median(seconds);
  speed.run_seconds = std::move(seconds);
  speed.tokens_per_s = tokens / speed.seconds;
  speed.read_bytes_per_s = read_bytes / speed.seconds;
  speed.multiply_adds_per_s = multiply_adds / speed.seconds;
  if (!profile_) return speed;

  results_s_ = collectives_s_ = 0;
  backend_.set_profile(true);
  const Status profiled = run();
  backend_.set_profile(false);
  SHOAL_TRY(profiled);
  speed.parts = backend_.profile();
  const double rest_s = std::max(0.0, results_s_ - seconds_of(speed.parts));
  speed.parts.push_back({.name = "candidates", .seconds = rest_s});
  speed.parts.push_back({.name = "collectives", .seconds = collectives_s_});
  std::ranges::stable_sort(speed.parts, std::greater{}, &ProfiledPart::seconds);
  return speed;
}

Result<double> BenchRuns::time_prefill(int64_t tokens) {
  const auto start = Clock::now();
  const Status computed = compute_prompt(kPromptSequence, 0, tokens);
  pages_.release(kPromptSequence);
  SHOAL_TRY(computed);
  return seconds_since(start);
}

Result<double> BenchRuns::time_decode(int64_t batch, int64_t context, int64_t tokens) {
  const auto start = Clock::now();
  SHOAL_TRY(decode_once(batch, context, tokens));
  return seconds_since(start);
}

Result<BenchSpeed> BenchRuns::prefill(int64_t tokens) {
  auto speed = measure(static_cast<double>(tokens),
                       [&] { return compute_prompt(kPromptSequence, 0, tokens); });
  pages_.release(kPromptSequence);
  return speed;
}

Status BenchRuns::fill(int64_t batch, int64_t positions) {
  if (std::ssize(filled_) < batch) filled_.resize(static_cast<size_t>(batch), 0);
  for (int64_t s = 0; s < batch; ++s) {
    int64_t& filled = filled_[static_cast<size_t>(s)];
    if (filled >= positions) continue;
    SHOAL_TRY(compute_prompt(static_cast<SequenceId>(s), filled, positions));
    filled = positions;
  }
  return {};
}

Result<BenchSpeed> BenchRuns::decode(int64_t batch, int64_t context, int64_t tokens) {
  return measure(static_cast<double>(batch * tokens),
                 [&] { return decode_once(batch, context, tokens); });
}

}  // namespace shoal
