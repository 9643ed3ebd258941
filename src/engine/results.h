// What a step's rows asked for, in two halves: each rank packs the part for its rows of the
// vocabulary, the lead merges the parts. Pure; any thread. The message:
// docs/formats/step-header.md. What comes in is outside input.
#pragma once

#include <span>
#include <vector>

#include "base/bytes.h"
#include "engine/engine.h"
#include "sampling/log_sum_exp.h"
#include "tensor/cut.h"

namespace shoal {

// Whether any row's result needs the vocabulary, and so a message from every rank.
bool needs_vocabulary(const Step& step);

class ResultPacker {
 public:
  // `logits`: for each wanted row of the step, this rank's rows of the vocabulary.
  void pack(const Step& step, std::span<const float> logits, Range vocabulary, Bytes& message);

 private:
  std::vector<Candidate> best_;
};

class ResultMerger {
 public:
  explicit ResultMerger(std::vector<Range> vocabularies) : vocabularies_(std::move(vocabularies)) {}
  // parts[r] is the message of rank r (unused when nothing needs the vocabulary); `hidden` has
  // hidden_width floats for each wanted row. kCorrupt names the rank whose message is not what the
  // step asks for.
  Status merge(const Step& step, std::span<const Bytes> parts, std::span<const float> hidden,
               StepResult& result);

 private:
  Status merge_candidates(const Step& step, std::span<const Bytes> parts, RowResult& row);
  Status merge_logits(std::span<const Bytes> parts, RowResult& row);

  std::vector<Range> vocabularies_;  // of each rank
  std::vector<size_t> offsets_;      // read so far of each part
  std::vector<PartialSumExp> sums_;
};

}  // namespace shoal
