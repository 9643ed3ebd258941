#include "scheduler/scheduler.h"

#include <algorithm>

namespace shoal {

Scheduler::Scheduler(SchedulerLimits limits, KvPages pages)
    : limits_(limits), pages_(std::move(pages)) {
  SHOAL_CHECK(limits_.context > 0 && limits_.rows_per_step > 0 && limits_.sequences > 0 &&
              limits_.waiting >= 0 && limits_.wanted_rows > 0 && limits_.steps_at_once > 0);
  limits_.sequences = std::min({limits_.sequences, limits_.rows_per_step, limits_.wanted_rows});
}

int64_t Scheduler::positions_of(const SequenceRequest& request) const {
  return static_cast<int64_t>(request.prompt.size()) + request.max_tokens;
}

bool Scheduler::known(SequenceId id) const {
  const auto is = [id](const SequenceRequest& request) { return request.id == id; };
  return std::ranges::any_of(queue_, is) ||
         std::ranges::any_of(running_, [&](const Running& running) { return is(running.request); });
}

Result<int64_t> Scheduler::add(SequenceRequest request) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) {
    return fail(ErrorCode::kInvalidArgument, "the prompt is empty; it needs at least one token");
  }
  if (request.max_tokens < 0 || (request.max_tokens == 0 && !request.prompt_logits)) {
    return fail(ErrorCode::kInvalidArgument, "max_tokens is {}; it must be at least 1",
                request.max_tokens);
  }
  const int64_t room = limits_.context - prompt;
  if (room < std::min<int64_t>(request.max_tokens, 1)) {
    return fail(ErrorCode::kContextLength,
                "the prompt has {} tokens, which leaves no room to answer in a context of {} "
                "tokens; shorten it or place the model with a larger context",
                prompt, limits_.context);
  }
  request.max_tokens = std::min(request.max_tokens, room);
  const int64_t positions = positions_of(request);
  if (!pages_.fits(positions)) {
    return fail(ErrorCode::kDoesNotFit,
                "{} prompt tokens and {} to generate need {} KV pages, and this instance has {} "
                "({} tokens); ask for fewer tokens or place the model with a larger context",
                prompt, request.max_tokens, pages_.pages_for(positions), pages_.page_count(),
                pages_.page_count() * pages_.page_tokens());
  }
  if (known(request.id)) {
    return fail(ErrorCode::kInvalidArgument, "sequence {} is already being served", request.id);
  }
  admit();
  const bool starts_now = queue_.empty() &&
                          static_cast<int64_t>(running_.size()) < limits_.sequences &&
                          pages_.fits_now(positions);
  if (!starts_now && static_cast<int64_t>(queue_.size()) >= limits_.waiting) {
    return fail(ErrorCode::kBusy,
                "{} requests are running and {} are waiting, which is the limit; try again later",
                running_.size(), queue_.size());
  }
  const int64_t max_tokens = request.max_tokens;
  queue_.push_back(std::move(request));
  admit();
  return max_tokens;
}

// Strictly in order of arrival: a small request behind a big one waits too, or the big one might
// wait for ever.
void Scheduler::admit() {
  while (!queue_.empty() && static_cast<int64_t>(running_.size()) < limits_.sequences) {
    if (!pages_.reserve(queue_.front().id, positions_of(queue_.front()))) return;
    running_.push_back({.request = std::move(queue_.front())});
    queue_.pop_front();
  }
}

void Scheduler::remove(SequenceId id) {
  std::erase_if(queue_, [id](const SequenceRequest& request) { return request.id == id; });
  std::erase_if(running_, [id](const Running& running) { return running.request.id == id; });
  pages_.release(id);
  admit();
}

void Scheduler::accept(SequenceId id, int32_t token) {
  for (Running& running : running_) {
    if (running.request.id != id) continue;
    ++running.generated;
    if (running.generated < running.request.max_tokens) running.next_token = token;
    return;
  }
}

// The sequence's place in the step, with its pages up to `positions`.
uint32_t Scheduler::begin_sequence(const Running& running, int64_t positions, ScheduledStep& step) {
  uint32_t index = 0;
  if (!step.step.rows.empty()) index = step.step.rows.back().sequence + 1;
  if (step.step.sequences.size() <= index) step.step.sequences.resize(index + 1);
  const auto& tables = pages_.tables(running.request.id);
  auto& out = step.step.sequences[index];
  out.resize(tables.size());
  for (size_t group = 0; group < tables.size(); ++group) {
    const auto& table = tables[group];
    out[group].assign(table.begin(), table.begin() + pages_.pages_for(positions));
  }
  return index;
}

void Scheduler::add_wanted(const Running& running, const StepRow& row, bool sampled,
                           ScheduledStep& step) {
  step.wanted.push_back({running.request.id, row.position, sampled});
  if (row.want == Want::kCandidates) {
    step.step.candidate_count =
        std::max(step.step.candidate_count, running.request.candidate_count);
  }
}

int64_t Scheduler::generating() const {
  return std::ranges::count_if(
      running_, [](const Running& running) { return running.computed >= running.prompt_size(); });
}

void Scheduler::schedule_generated(ScheduledStep& step) {
  const int64_t most = (generating() + limits_.steps_at_once - 1) / limits_.steps_at_once;
  for (Running& running : running_) {
    if (std::ssize(step.step.rows) >= most) return;
    if (!running.next_token) continue;
    const int64_t position = running.computed;
    StepRow row{.sequence = begin_sequence(running, position + 1, step),
                .token = *running.next_token,
                .position = static_cast<int32_t>(position),
                .role = Role::kGenerated,
                .want = running.request.want};
    step.step.rows.push_back(row);
    add_wanted(running, row, true, step);
    running.next_token.reset();
    ++running.computed;
  }
}

void Scheduler::schedule_prompt(Running& running, ScheduledStep& step) {
  const SequenceRequest& request = running.request;
  const auto used_rows = static_cast<int64_t>(step.step.rows.size());
  const auto used_wanted = static_cast<int64_t>(step.wanted.size());
  const int64_t wanted_left = limits_.wanted_rows - used_wanted;
  int64_t count =
      std::min(limits_.rows_per_step - used_rows, running.prompt_size() - running.computed);
  if (request.prompt_logits) {
    count = std::min(count, wanted_left);
  } else if (wanted_left == 0 && count == running.prompt_size() - running.computed) {
    --count;  // its last row wants something, which must wait
  }
  if (count <= 0) return;
  const uint32_t sequence = begin_sequence(running, running.computed + count, step);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = running.computed++;
    const bool sampled = running.computed == running.prompt_size() && request.max_tokens > 0;
    StepRow row{.sequence = sequence,
                .token = request.prompt[static_cast<size_t>(position)],
                .position = static_cast<int32_t>(position),
                .role = Role::kPrompt,
                .want = request.prompt_logits ? Want::kLogits
                        : sampled             ? request.want
                                              : Want::kNothing};
    step.step.rows.push_back(row);
    if (row.want != Want::kNothing) add_wanted(running, row, sampled, step);
  }
}

bool Scheduler::next(ScheduledStep& step) {
  admit();
  step.step.rows.clear();
  step.step.candidate_count = 1;
  step.wanted.clear();
  schedule_generated(step);
  for (Running& running : running_) {
    if (running.computed < running.prompt_size()) schedule_prompt(running, step);
    if (static_cast<int64_t>(step.step.rows.size()) >= limits_.rows_per_step) break;
  }
  if (step.step.rows.empty()) return false;
  step.step.sequences.resize(step.step.rows.back().sequence + 1);
  step.step.number = ++step_number_;
  return true;
}

std::optional<ScheduledStep> Scheduler::next() {
  ScheduledStep step;
  if (!next(step)) return std::nullopt;
  return step;
}

}  // namespace shoal
