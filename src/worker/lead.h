// The lead: schedules, samples, and answers requests; one loop on the thread that computes.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <variant>

#include "scheduler/scheduler.h"
#include "worker/answer.h"
#include "worker/shard.h"

namespace shoal {

struct CancelRequest {
  uint64_t id;
};
using LeadMessage = std::variant<PreparedRequest, CancelRequest>;

class Lead {
 public:
  Lead(Shard& shard, const ShardOrder& order, const Tokenizer& tokenizer,
       Mailbox<LeadMessage>& mailbox, Channel& daemon);

  // Until the mailbox is closed (then followers are told to leave) or a rank is lost (every open
  // request is told why).
  Status run();

 private:
  void handle(LeadMessage message);
  void start(PreparedRequest prepared);
  Status work();
  void take(const StepResult& result);
  Status wait_for_work();
  void report_stats_when_due();
  void fail_everything(const Error& error);

  Shard& shard_;
  Mailbox<LeadMessage>& mailbox_;
  Channel& daemon_;
  const Tokenizer& tokenizer_;
  const int64_t context_;
  Scheduler scheduler_;
  std::deque<std::vector<ScheduledRow>> in_flight_;  // what each step's results are for
  std::unordered_map<SequenceId, Answer> answers_;
  Clock::time_point last_report_;
  Clock::time_point last_contact_;  // with followers
};

// The frame that carries one event of a request.
Json event_frame(uint64_t id, const Event& event);

}  // namespace shoal
