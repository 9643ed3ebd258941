// The engine runs Steps of one Shard: weights + KV + group -> what each row asked for. SPMD: every
// rank builds its own program from the model file and its cut; per step the lead sends one small
// header (rows, page tables, wants) and nothing else is interpreted. Used by one thread, the one
// that computes. The engine knows nothing of texts, requests or nodes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "collectives/group.h"
#include "collectives/payload.h"
#include "gguf/gguf.h"
#include "kv/pages.h"
#include "models/model.h"
#include "sampling/top.h"
#include "tensor/backend.h"

namespace shoal {

enum class Want : uint8_t { kNothing, kCandidates, kLogits, kHidden };

inline constexpr uint32_t kMostCandidates = 1024;

struct StepRow {
  uint32_t sequence;  // index into Step::sequences
  int32_t token;
  int32_t position;
  Role role;
  Want want = Want::kNothing;
};

// Rows of one sequence follow one another, each position one above the last; a sequence is in at
// most one step in flight with a row that wants something; rows of its prompt may be in several.
struct Step {
  uint64_t number = 0;            // rising by one from 1
  uint32_t candidate_count = 64;  // for rows that want candidates; 1 to kMostCandidates
  std::vector<StepRow> rows;
  // Page tables: sequences[s][group] covers every position up to the last of its rows.
  std::vector<std::vector<std::vector<PageId>>> sequences;
};

using Candidate = ScoredToken;

struct RowResult {
  uint32_t row = 0;                   // index into Step::rows
  std::vector<Candidate> candidates;  // falling logit, equal ones by rising token
  double log_sum_exp = 0;     // of all logits, with candidates; not a number if some logit is not
  std::vector<float> logits;  // whole vocabulary
  std::vector<float> hidden;  // normalised input of the head
};

struct StepResult {
  uint64_t number = 0;
  std::vector<RowResult> rows;  // those that wanted something, in order
  double compute_s = 0;         // this rank
  double wait_s = 0;            // this rank, in collectives
};

struct EngineOptions {
  int64_t max_rows = 512;  // of a step
  int64_t max_wanted_rows = 64;
  int64_t max_positions = 0;  // context; 0: the trained length
  KvType kv_type = KvType::kF16;
  // Pages of a cache group that keeps everything; the same on every rank. One with a window has as
  // many as `sequences` rings at most (kv/pages.h).
  int64_t kv_pages = 0;
  int64_t sequences = 1;            // at once
  Payload payload = Payload::kF32;  // of what ranks add up and pass on
  // Where ranks add up, a step of twice so many rows runs in two parts, so that the sums of one
  // travel while the other is computed. Products of fewer rows lose more by reading the weights
  // again.
  int64_t least_part_rows = 128;
  // How long a peer that should answer at once may be silent inside a step. Where it may have
  // something to compute first, the time that such a step takes is added, several times over.
  std::chrono::milliseconds collective_timeout{2000};
  std::chrono::milliseconds forming_timeout{600000};  // for the slowest rank to load its part
};

class Engine {
 public:
  // Builds the program, loads this rank's part of each tensor (and lets go of the file's pages
  // behind it), allocates KV. Every rank of the group must call it: they compare model, options and
  // cuts first (kConflict names the rank that differs), and return together when the slowest has
  // loaded, or when one has failed, with that rank's sentence. `progress(bytes done, bytes in
  // all)`.
  static Result<std::unique_ptr<Engine>> create(
      const gguf::File& file, const ModelDescription& description, const RankCut& cut,
      Backend& backend, Group group, const EngineOptions& options,
      const std::function<void(uint64_t, uint64_t)>& progress = {});
  virtual ~Engine() = default;

  // --- on the lead ---
  // Takes a step. Our caller's bug (a bad position, page or size, a step too many) is
  // kInvalidArgument and the step is not run; a lost peer is kUnreachable or kDeadline and the
  // engine is spent: every later call gives the same error.
  virtual Status submit(const Step& step) = 0;
  // How many steps may be in flight: submitted, and their results not yet taken. As many as the
  // model has stages of layers, which then compute different steps at once.
  virtual int steps_at_once() const = 0;
  virtual int steps_in_flight() const = 0;
  virtual Result<std::optional<StepResult>> poll() = 0;  // the oldest step's, if it has come
  virtual Result<StepResult> wait() = 0;  // for the oldest step in flight, of which there is one
  virtual Status tick() = 0;              // tells idle followers that the lead lives
  virtual Status stop() = 0;              // tells followers to leave

  // --- on every other rank ---
  enum class Followed { kStep, kTick, kStop };
  // Waits for the lead's next header up to the deadline, runs it. A header is checked like any
  // outside input.
  virtual Result<Followed> follow(Deadline deadline) = 0;

  virtual int page_tokens() const = 0;
  virtual const std::vector<KvGroup>& kv_groups() const = 0;
  virtual BackendMemory memory() const = 0;
  struct Totals {
    uint64_t steps = 0;
    uint64_t rows = 0;
    double compute_s = 0;
    double wait_s =
        0;  // in the collectives of steps; a follower's wait for the next step is not counted
    // Of these, the steps that held generated rows alone.
    uint64_t decode_steps = 0;
    double decode_compute_s = 0;
    double decode_wait_s = 0;
    uint64_t decode_bytes_sent = 0;
    LinkCounters links;
  };
  virtual Totals totals() const = 0;
  virtual const Group& group() const = 0;
};

}  // namespace shoal
