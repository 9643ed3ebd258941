// Pure: (queue, budget) -> next Step. Continuous batching: prompt chunks and generated rows share a
// step; admission counts pages for prompt + max_tokens before a request starts; first come, first
// served; a long prompt never starves generated rows (they go first in every step), and generated
// rows never starve a prompt (no more sequences run than a step has rows, so one is always left for
// it). Used by the lead's thread alone; no clock, no network.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "kv/pages.h"

namespace shoal {

struct SchedulerLimits {
  int64_t context;           // positions of one sequence
  int64_t rows_per_step;     // the budget
  int64_t sequences;         // generating at once; never more than rows_per_step or wanted_rows
  int64_t waiting;           // queued beyond that; one more is kBusy
  int64_t wanted_rows = 64;  // rows of a step that return something
  // Steps that may be unfinished when the next is asked for: generated rows are spread over so
  // many, so that all stages of a pipeline have some to compute.
  int64_t steps_at_once = 1;
};

// What the scheduler must know of a request.
struct SequenceRequest {
  SequenceId id;
  std::vector<int32_t> prompt;    // at least one token
  int64_t max_tokens;             // generated; clamped to the context by add()
  Want want = Want::kCandidates;  // of rows that are sampled
  uint32_t candidate_count = 64;
  bool prompt_logits =
      false;  // every prompt row returns its logits (echo with logprobs, perplexity)
};

// Which request each wanted row of a step belongs to.
struct ScheduledRow {
  SequenceId sequence;
  int32_t position;
  bool sampled;  // the row's result chooses the next token; otherwise it is a prompt row that asked
                 // for logits
};

struct ScheduledStep {
  Step step;
  std::vector<ScheduledRow> wanted;  // in the order of StepResult::rows
};

class Scheduler {
 public:
  Scheduler(SchedulerLimits limits, KvPages pages);

  // kContextLength with both numbers, kDoesNotFit with pages, kBusy when the queue is full,
  // kInvalidArgument for a request that cannot be meant. Returns the clamped max_tokens. max_tokens
  // 0 is for prompt_logits alone: nothing is sampled.
  Result<int64_t> add(SequenceRequest request);
  void remove(SequenceId id);  // finished or cancelled; frees its pages. One that it does not know
                               // is no error
  // The next step, into `step` (whose memory is reused); false: nothing to do now. A sequence whose
  // token is still missing sits the step out.
  bool next(ScheduledStep& step);
  std::optional<ScheduledStep> next();
  // The token sampled for a sequence: its next generated row. A sequence that was removed meanwhile
  // is ignored, and so is a token after the last of max_tokens, which needs no row.
  void accept(SequenceId id, int32_t token);

  size_t running() const { return running_.size(); }
  size_t waiting() const { return queue_.size(); }
  const KvPages& pages() const { return pages_; }
  const SchedulerLimits& limits() const { return limits_; }

 private:
  struct Running {
    SequenceRequest request;
    int64_t computed = 0;   // positions whose rows have been scheduled
    int64_t generated = 0;  // tokens accepted
    std::optional<int32_t> next_token;

    int64_t prompt_size() const { return static_cast<int64_t>(request.prompt.size()); }
  };
  int64_t positions_of(const SequenceRequest& request) const;
  bool known(SequenceId id) const;
  void admit();
  int64_t generating() const;  // sequences whose prompt has been scheduled
  void schedule_generated(ScheduledStep& step);
  void schedule_prompt(Running& running, ScheduledStep& step);
  uint32_t begin_sequence(const Running& running, int64_t positions, ScheduledStep& step);
  void add_wanted(const Running& running, const StepRow& row, bool sampled, ScheduledStep& step);

  SchedulerLimits limits_;
  KvPages pages_;
  std::deque<SequenceRequest> queue_;  // in order of arrival
  std::vector<Running> running_;       // in order of admission
  uint64_t step_number_ = 0;
};

}  // namespace shoal
