// The timed runs of `shoal bench` and `shoal bench ranks` on an engine that is loaded. On the lead,
// by the thread that computes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace shoal {

// One measurement: the median of the runs.
struct BenchSpeed {
  double seconds = 0;
  std::vector<double> run_seconds;  // in the order of the runs
  double tokens_per_s = 0;
  double read_bytes_per_s = 0;      // weights and KV cache that the steps read
  double multiply_adds_per_s = 0;   // of the products and of attention
  std::vector<ProfiledPart> parts;  // of one more run that was timed part by part; else empty
};

// As the scheduler of a worker gives them out.
inline constexpr int64_t kBenchRowsPerStep = 256;

class BenchRuns {
 public:
  // `carry_on` is asked between steps; false ends with kCancelled.
  BenchRuns(Engine& engine, Backend& backend, int64_t vocabulary_size, int64_t repeat, bool profile,
            std::function<bool()> carry_on);

  // One run, in seconds: of one prompt into an empty cache; of `tokens` for each sequence, from
  // `context` on, where the cache is to be filled before.
  Result<double> time_prefill(int64_t tokens);
  Result<double> time_decode(int64_t batch, int64_t context, int64_t tokens);

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
  Result<std::vector<Step>> decoding_steps(int64_t batch, int64_t positions);
  Status run_step(Step& step);
  Status take_result();
  Status finish_steps();
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

}  // namespace shoal
