#include "worker/lead.h"

#include "base/log.h"

namespace shoal {
namespace {

constexpr int64_t kMostWantedRows = 64;
constexpr int64_t kMostWaiting = 64;
constexpr std::chrono::milliseconds kTickEvery{500};
constexpr std::chrono::milliseconds kReportEvery{500};

SchedulerLimits scheduler_limits(const Plan& plan, const Engine& engine) {
  SchedulerLimits limits{};
  limits.steps_at_once = engine.steps_at_once();
  limits.context = plan.context;
  limits.rows_per_step = kStepRows;
  limits.sequences = plan.sequences;
  limits.waiting = kMostWaiting;
  limits.wanted_rows = kMostWantedRows;
  return limits;
}

}  // namespace

Json event_frame(uint64_t id, const Event& event) {
  return {{"type", "event"}, {"id", id}, {"event", to_json(event)}};
}

Lead::Lead(Shard& shard, const ShardOrder& order, const Tokenizer& tokenizer,
           Mailbox<LeadMessage>& mailbox, Channel& daemon)
    : shard_(shard),
      mailbox_(mailbox),
      daemon_(daemon),
      tokenizer_(tokenizer),
      context_(order.plan.context),
      scheduler_(scheduler_limits(order.plan, *shard.engine),
                 KvPages(shard.engine->kv_groups(), shard.engine->page_tokens())),
      last_report_(Clock::now()),
      last_contact_(Clock::now()) {}

Status Lead::run() {
  while (!mailbox_.closed()) {
    while (std::optional<LeadMessage> message = mailbox_.take(Clock::now()))
      handle(std::move(*message));
    if (const Status status = work(); !status) {
      fail_everything(cut_off(status.error()));
      return status;
    }
    report_stats_when_due();
  }
  fail_everything({ErrorCode::kCancelled, "the model was stopped while it answered; ask again"});
  return shard_.engine->stop();
}

// Keeps as many steps in flight as the engine takes; a result that has come is used before the next
// step is made, because it may add rows to it.
Status Lead::work() {
  Engine& engine = *shard_.engine;
  SHOAL_ASSIGN(const std::optional<StepResult> finished, engine.poll());
  if (finished) {
    take(*finished);
    return {};
  }
  if (engine.steps_in_flight() < engine.steps_at_once()) {
    if (std::optional<ScheduledStep> scheduled = scheduler_.next()) {
      SHOAL_TRY(engine.submit(scheduled->step));
      in_flight_.push_back(std::move(scheduled->wanted));
      last_contact_ = Clock::now();
      return {};
    }
  }
  if (engine.steps_in_flight() == 0) return wait_for_work();
  SHOAL_ASSIGN(const StepResult result, engine.wait());
  take(result);
  return {};
}

Status Lead::wait_for_work() {
  if (Clock::now() - last_contact_ >= kTickEvery) {
    last_contact_ = Clock::now();
    SHOAL_TRY(shard_.engine->tick());
  }
  if (std::optional<LeadMessage> message = mailbox_.take(last_contact_ + kTickEvery))
    handle(std::move(*message));
  return {};
}

void Lead::handle(LeadMessage message) {
  if (auto* prepared = std::get_if<PreparedRequest>(&message)) {
    start(std::move(*prepared));
    return;
  }
  const SequenceId id = std::get<CancelRequest>(message).id;
  scheduler_.remove(id);
  answers_.erase(id);
}

void Lead::start(PreparedRequest prepared) {
  const uint64_t id = prepared.id;
  SequenceRequest request;
  request.id = id;
  request.prompt = prepared.prompt;
  request.max_tokens =
      prepared.request.max_tokens < 0 ? context_ : prepared.request.max_tokens;  // as much as fits
  request.prompt_logits = prepared.request.echo && prepared.request.sampling.logprobs >= 0;
  Answer answer(std::move(prepared), tokenizer_,
                [this, id](const Event& event) { (void)daemon_.send(event_frame(id, event)); });
  request.want = answer.want();
  request.candidate_count = answer.candidate_count();
  const Result<int64_t> admitted = scheduler_.add(std::move(request));
  if (!admitted) {
    answer.failed(admitted.error());
    return;
  }
  answer.admitted(*admitted);
  answers_.emplace(id, std::move(answer));
}

void Lead::take(const StepResult& result) {
  last_contact_ = Clock::now();
  const std::vector<ScheduledRow> wanted_rows = std::move(in_flight_.front());
  in_flight_.pop_front();
  SHOAL_CHECK(result.rows.size() == wanted_rows.size());
  for (size_t i = 0; i < wanted_rows.size(); ++i) {
    const ScheduledRow& wanted = wanted_rows[i];
    const auto found = answers_.find(wanted.sequence);
    if (found == answers_.end()) continue;  // cancelled
    if (!wanted.sampled) {
      if (!found->second.scored_prompt(wanted.position, result.rows[i])) continue;
    } else if (const std::optional<int32_t> token =
                   found->second.sampled(wanted.position, result.rows[i])) {
      scheduler_.accept(wanted.sequence, *token);
      continue;
    }
    scheduler_.remove(wanted.sequence);
    answers_.erase(found);
  }
}

void Lead::report_stats_when_due() {
  if (Clock::now() - last_report_ < kReportEvery) return;
  last_report_ = Clock::now();
  ShardStats stats = shard_stats(shard_);
  stats.running = static_cast<int64_t>(scheduler_.running());
  stats.waiting = static_cast<int64_t>(scheduler_.waiting());
  (void)daemon_.send({{"type", "stats"}, {"stats", to_json(stats)}});
}

void Lead::fail_everything(const Error& error) {
  for (auto& [id, answer] : answers_) answer.failed(error);
  answers_.clear();
}

}  // namespace shoal
