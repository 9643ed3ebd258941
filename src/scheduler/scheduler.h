// Pure: (queue, budget) -> next Step. Continuous batching: prompt chunks and generated rows share a step; admission counts
// pages for prompt + max_tokens before a request starts; first come, first served; a long prompt never starves generated
// rows (they go first in every step). Used by the lead's thread alone; no clock, no network.
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
  int64_t context;        // positions of one sequence
  int64_t rows_per_step;  // the budget
  int64_t sequences;      // generating at once
  int64_t waiting;        // queued beyond that; one more is kBusy
};

// What the scheduler must know of a request.
struct SequenceRequest {
  SequenceId id;
  std::vector<int32_t> prompt;     // at least one token
  int64_t max_tokens;              // generated; clamped to the context by add()
  Want want = Want::kCandidates;   // of rows that are sampled
  uint32_t candidate_count = 64;
  bool prompt_logits = false;      // every prompt row returns its logits (echo with logprobs, perplexity)
};

// Which request each wanted row of a step belongs to.
struct ScheduledRow {
  SequenceId sequence;
  int32_t position;
  bool sampled;  // the row's result chooses the next token; otherwise it is a prompt row that asked for logits
};

struct ScheduledStep {
  Step step;
  std::vector<ScheduledRow> wanted;  // in the order of StepResult::rows
};

class Scheduler {
 public:
  Scheduler(SchedulerLimits limits, KvPages pages);

  // kContextLength with both numbers, kDoesNotFit with pages, kBusy when the queue is full. Returns the clamped max_tokens.
  Result<int64_t> add(SequenceRequest request);
  void remove(SequenceId id);  // finished or cancelled; frees its pages
  std::optional<ScheduledStep> next();           // nothing to do: nullopt
  // The token sampled for a sequence: its next generated row. A sequence that was removed meanwhile is ignored.
  void accept(SequenceId id, int32_t token);

  size_t running() const;
  size_t waiting() const;
  const KvPages& pages() const { return pages_; }

 private:
  struct Running {
    SequenceRequest request;
    int64_t computed = 0;             // positions whose rows have been scheduled
    std::optional<int32_t> next_token;
  };
  SchedulerLimits limits_;
  KvPages pages_;
  std::deque<SequenceRequest> queue_;
  std::vector<Running> running_;
  uint64_t step_number_ = 0;
};

}  // namespace shoal
