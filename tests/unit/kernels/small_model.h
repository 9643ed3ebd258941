// A small model of one layer with everything that programs can do, for tests of the backend, and a
// plain evaluation of it in double that knows nothing of batches, pages or packing.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "random_weights.h"
#include "tensor/backend.h"

namespace shoal::kernels_test {

struct SmallModel {
  ElementType matrix_type = ElementType::kF32;
  int64_t window = 0;
  bool interleaved = true;
  bool chunked = false;                 // the window
  std::function<void(Program&)> after;  // changes the program

  static constexpr int kHidden = 64, kHeads = 6, kKvHeads = 3, kHeadDimension = 32,
                       kFeedForward = 96;
  static constexpr int kVocabulary = 50, kFirstToken = 10,
                       kTableRows = 30;  // a rank's part of the vocabulary
  static constexpr int64_t kRows = 40, kWanted = 4, kPositions = 200;

  // Weights by number: 0 the tied table, 1 and 2 norms, 3 to 5 q, k, v, 6 their bias (q only), 7
  // output, 8 gate, 9 up, 10 down, 11 frequency factors.
  Program program() const;
  struct Tensor {
    ElementType type;
    int64_t rows, columns;
    std::vector<std::byte> bytes;
  };
  std::vector<Tensor> tensors() const;
  // Prepared, loaded and with `pages` pages.
  Result<std::unique_ptr<Backend>> start(Isa isa, int threads, KvType kv, int64_t pages = 32) const;

  // The hidden state and logits of every position of a sequence.
  struct Outcome {
    std::vector<std::vector<double>> hidden, logits;
  };
  Outcome evaluate(const std::vector<int32_t>& tokens) const;
};

// Buffers of SmallModel::program().
enum SmallBuffer : BufferId {
  kResidual,
  kNormed,
  kQ,
  kK,
  kV,
  kMixed,
  kDelta,
  kGateOut,
  kUp,
  kGathered,
  kHiddenOut,
  kLogits
};

// One sequence of a step.
struct Chunk {
  std::vector<int32_t> tokens;
  int32_t first_position = 0;
  std::vector<PageId> pages;
  Role role = Role::kPrompt;
};
// Runs every segment on these chunks; the last row of each chunk is wanted. Logits and hidden
// state, one row per chunk.
struct StepOutcome {
  std::vector<std::vector<float>> hidden, logits;
};
Result<StepOutcome> run_step(Backend& backend, size_t segments, const std::vector<Chunk>& chunks);

}  // namespace shoal::kernels_test
