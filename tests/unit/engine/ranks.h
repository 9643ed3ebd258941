// Several ranks of one model in one process: the lead on the caller's thread, every other rank on a
// thread of its own, by default with plain links over loopback TCP between them.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cpu.h"
#include "engine/engine.h"
#include "sampling/sampler.h"
#include "scheduler/scheduler.h"
#include "small_model.h"

namespace shoal {

std::vector<Group> connected_groups(int size);

struct RanksOptions {
  Isa isa = Isa::kReference;
  int threads = 1;
  std::vector<double> shares = {1};  // one per rank
  // Instead: of each stage's ranks; the stages have about as many layers each.
  std::vector<std::vector<double>> stages = {};
  EngineOptions engine{.max_rows = 64,
                       .max_wanted_rows = 64,
                       .kv_type = KvType::kF32,
                       .kv_pages = 64,
                       .least_part_rows = 4,
                       .collective_timeout = std::chrono::seconds(20),
                       .forming_timeout = std::chrono::seconds(60)};
  // What joins them; by default plain TCP.
  std::function<std::vector<Group>(int size)> connect = connected_groups;
  // Changes what one rank is given before it starts.
  std::function<void(int rank, EngineOptions&, RankCut&)> change;
  // The file that a rank opens; by default the model's own.
  std::function<const SmallModel*(int rank)> model_of;
  // Instead of following: what a rank's thread does with its engine.
  std::function<void(int rank, std::unique_ptr<Engine>&)> instead;
  // Puts something between the engine and its backend.
  std::function<std::unique_ptr<Backend>(int rank, std::unique_ptr<Backend>)> wrap;
};

class Ranks {
 public:
  // Of several ranks that fail, the lowest one's error.
  static Result<std::unique_ptr<Ranks>> start(const SmallModel& model, const RanksOptions& options);
  ~Ranks();

  Engine& lead() { return *engines_[0]; }
  // The outcome of every rank but the lead, after stop() or a failure.
  std::vector<Status> join();
  // The bits of the hidden state of the last step's `wanted` rows on each rank. Only between steps,
  // when all have finished.
  std::vector<std::vector<float>> hidden(int64_t wanted);

  // A step, which gets the next number.
  Status submit(Step& step);
  // And its result.
  Result<StepResult> run(Step& step);
  const EngineOptions& options() const { return options_; }

 private:
  Ranks() = default;
  void follow(int rank, const RanksOptions& options);

  EngineOptions options_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<Program> programs_;
  std::vector<Status> outcomes_;
  std::vector<std::thread> threads_;
  uint64_t next_number_ = 1;
};

// What came of one sequence: greedy tokens, and the logits from which each was taken.
struct Generated {
  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;
};
struct Wanted {
  std::vector<int32_t> prompt;
  int64_t count;  // of tokens
};
// Serves all requests at once through a scheduler whose steps have at most rows_per_step rows.
Result<std::vector<Generated>> serve(Ranks& ranks, const std::vector<Wanted>& requests,
                                     int64_t rows_per_step);

// The logits after each of these positions of a prompt, which are computed in steps of `chunk` rows
// as one sequence in the first pages.
Result<std::vector<std::vector<float>>> logits_at(Ranks& ranks, const std::vector<int32_t>& prompt,
                                                  const std::vector<int64_t>& positions,
                                                  int64_t chunk);

std::vector<int32_t> some_tokens(int64_t count, int64_t vocabulary, uint32_t seed);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace shoal
