// The timed runs of `shoal bench` on an engine that is loaded. One thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/bench.h"
#include "engine/engine.h"

namespace shoal::cli {

// As the scheduler of a worker gives them out.
inline constexpr int64_t kBenchRowsPerStep = 256;

class BenchRuns {
 public:
  // `carry_on` is asked between steps; false ends with kCancelled.
  BenchRuns(Engine& engine, Backend& backend, int64_t vocabulary_size, int64_t repeat, bool profile,
            std::function<bool()> carry_on);

  // One prompt into an empty cache.
  Result<BenchSpeed> prefill(int64_t tokens);
  // Computes the first `positions` of each sequence's cache, as far as they are not there.
  Status fill(int64_t batch, int64_t positions);
  // `tokens` for each sequence, from `context` on: the same positions in every run.
  Result<BenchSpeed> decode(int64_t batch, int64_t context, int64_t tokens);

 private:
  Result<BenchSpeed> measure(double tokens, const std::function<Status()>& run);
  Status compute_prompt(SequenceId sequence, int64_t begin, int64_t end);
  Status decode_once(int64_t batch, int64_t context, int64_t tokens);
  Status run_step(Step& step);
  int32_t next_token();

  Engine& engine_;
  Backend& backend_;
  int64_t vocabulary_size_;
  int64_t repeat_;
  bool profile_;
  std::function<bool()> carry_on_;
  KvPages pages_;
  std::vector<int64_t> filled_;  // positions of each decoding sequence
  uint64_t step_number_ = 1;
  uint64_t drawn_count_ = 0;
  double results_s_ = 0;      // of the steps since it was set to 0: choosing candidates
  double collectives_s_ = 0;  // likewise: in collectives
};

}  // namespace shoal::cli
