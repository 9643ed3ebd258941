// The engine of one shard that runs its program segment by segment, with an all-reduce between
// where the program asks for one, and passes rows on from stage to stage. Used by one thread. No
// allocation, lock or hand-off on the way of a decode step but the result's own vectors.
#pragma once

#include <deque>

#include "engine/engine.h"
#include "engine/patience.h"
#include "engine/results.h"
#include "engine/stages.h"
#include "engine/step_header.h"

namespace shoal {

class ShardEngine final : public Engine {
 public:
  ShardEngine(Program program, Backend& backend, Group group, const EngineOptions& options,
              StepLimits limits, std::vector<Stage> stages, ResultMerger merger, StepTime tried);

  Status submit(const Step& step) override;
  int steps_at_once() const override { return static_cast<int>(stages_.size()); }
  int steps_in_flight() const override { return static_cast<int>(in_flight_.size()); }
  Result<std::optional<StepResult>> poll() override;
  Result<StepResult> wait() override;
  Status tick() override;
  Status stop() override;
  Result<Followed> follow(Deadline deadline) override;

  const std::vector<KvGroup>& kv_groups() const override { return limits_.groups; }
  int page_tokens() const override { return limits_.page_tokens; }
  BackendMemory memory() const override { return backend_.memory(); }
  Totals totals() const override;
  const Group& group() const override { return group_; }

 private:
  // A step whose result has not been taken.
  struct InFlight {
    Step step;
    StepResult result;
    std::vector<Bytes> parts;  // from each rank of the last stage
    size_t arrived = 0;        // of these, in rank order
    bool finished = false;
  };

  // Rows of a step that run together, segment by segment in turn with the others, so that their
  // sums travel while others are computed.
  struct Part {
    size_t first_row, rows;
    size_t first_wanted, wanted;
  };

  Status submit_checked(const Step& step);
  Status signal(HeaderKind kind);
  Result<Followed> follow_header(Deadline deadline);
  Status run(const Step& step, StepResult& result);
  void fill_batch(const Step& step);
  Status receive_rows(size_t row_count);
  void cut_into_parts(size_t row_count);
  void turn_to(const Part& part);
  Status run_segments();
  Status sum(BufferId buffer, const Part& part);
  Status finish_sum();
  Status send_rows(size_t row_count);
  bool has_head() const { return stage_ + 1 == stages_.size(); }
  // Whether the ranks of the last stage have something to tell the lead.
  bool has_message(const Step& step) const;
  void pack(const Step& step, Bytes& message);
  Result<bool> take_parts(InFlight& oldest);
  Status finish(InFlight& oldest, Deadline deadline);
  StepResult take_oldest();
  void count(const Step& step, bool generated_only);
  // Keeps the error: from now on the ranks no longer agree where they are.
  Status spend(Status status);
  // For what so many stages compute one after the other.
  Deadline in_time(size_t stages = 1) const {
    return Clock::now() + patience_.for_parts(stages, compute_s_);
  }

  Program program_;
  Backend& backend_;
  Group group_;
  EngineOptions options_;
  StepLimits limits_;
  std::vector<Stage> stages_;
  size_t stage_;  // of this rank
  ResultMerger merger_;
  Patience patience_;
  Clock::time_point last_told_ = Clock::now();  // the followers that this lead lives
  uint64_t next_number_ = 1;
  std::optional<Error> spent_;
  std::deque<InFlight> in_flight_;  // the oldest first
  Totals totals_;
  double compute_s_ = 0;  // of the step that runs
  double wait_s_ = 0;
  uint64_t bytes_sent_before_ = 0;

  // Reused from step to step.
  Bytes frame_;
  Step followed_;
  std::vector<bool> seen_;
  std::vector<int32_t> tokens_, positions_, sequences_;
  std::vector<int32_t> wanted_;  // counted from the first row of its part
  std::vector<Part> parts_;
  bool sum_travels_ = false;
  std::vector<Role> roles_;
  StepBatch batch_;
  ResultPacker packer_;
  const std::function<void()> nothing_;
  const std::function<void()> progress_ = [this] { group_.progress(); };
};

}  // namespace shoal
