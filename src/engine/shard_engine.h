// The engine of one shard that runs its program segment by segment, with an all-reduce between
// where the program asks for one. Used by one thread. No allocation, lock or hand-off on the way of
// a decode step but the result's own vectors.
#pragma once

#include <deque>

#include "engine/engine.h"
#include "engine/results.h"
#include "engine/step_header.h"

namespace shoal {

class ShardEngine final : public Engine {
 public:
  ShardEngine(Program program, Backend& backend, Group group, const EngineOptions& options,
              StepLimits limits, std::vector<Range> vocabularies);

  Status submit(const Step& step) override;
  Result<std::optional<StepResult>> poll() override;
  Status tick() override;
  Status stop() override;
  Result<Followed> follow(Deadline deadline) override;

  const std::vector<KvGroup>& kv_groups() const override { return limits_.groups; }
  int page_tokens() const override { return limits_.page_tokens; }
  BackendMemory memory() const override { return backend_.memory(); }
  Totals totals() const override;
  const Group& group() const override { return group_; }

 private:
  Status signal(HeaderKind kind);
  Result<Followed> follow_header(Deadline deadline);
  Status broadcast_and_run(const Step& step);
  Status run(const Step& step, StepResult& result);
  void fill_batch(const Step& step);
  Status run_segments(const Step& step);
  Status exchange_results(const Step& step, StepResult& result);
  void count(const Step& step);
  // Keeps the error: from now on the ranks no longer agree where they are.
  Status spend(Status status);
  Deadline in_time() const { return Clock::now() + options_.collective_timeout; }

  Program program_;
  Backend& backend_;
  Group group_;
  EngineOptions options_;
  StepLimits limits_;
  uint64_t next_number_ = 1;
  std::optional<Error> spent_;
  std::deque<StepResult> finished_;
  Totals totals_;
  double compute_s_ = 0;  // of the step that runs
  double wait_s_ = 0;

  // Reused from step to step.
  Bytes frame_;
  Step followed_;
  std::vector<bool> seen_;
  std::vector<int32_t> tokens_, positions_, sequences_, wanted_;
  std::vector<Role> roles_;
  StepBatch batch_;
  ResultPacker packer_;
  ResultMerger merger_;
  Bytes message_;
  std::vector<Bytes> parts_;
};

}  // namespace shoal
