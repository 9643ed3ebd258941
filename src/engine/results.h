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

// Whether any row's result needs the vocabulary, and so a message from every rank that holds some.
bool needs_vocabulary(const Step& step);
bool needs_hidden(const Step& step);

class ResultPacker {
 public:
  // `logits`: for each wanted row of the step, this rank's rows of the vocabulary; `hidden`: its
  // hidden state, empty where another rank tells the lead.
  void pack(const Step& step, std::span<const float> logits, Range vocabulary, Bytes& message,
            std::span<const float> hidden = {});

 private:
  std::vector<Candidate> best_;
};

class ResultMerger {
 public:
  // Of the ranks that hold the head. `sent_width`: of a hidden state, which the first of them
  // sends; 0 where the lead has it.
  explicit ResultMerger(std::vector<Range> vocabularies, int first_rank = 0, int64_t sent_width = 0)
      : vocabularies_(std::move(vocabularies)),
        first_rank_(first_rank),
        sent_width_(static_cast<size_t>(sent_width)) {}
  // parts[r] is the message of rank r of these (unused when nothing needs the vocabulary); `hidden`
  // has the lead's hidden state for each wanted row. kCorrupt names the rank whose message is not
  // what the step asks for.
  Status merge(const Step& step, std::span<const Bytes> parts, std::span<const float> hidden,
               StepResult& result);

 private:
  Status merge_candidates(const Step& step, std::span<const Bytes> parts, RowResult& row);
  Status merge_logits(std::span<const Bytes> parts, RowResult& row);
  Status take_hidden(std::span<const Bytes> parts, RowResult& row);
  std::unexpected<Error> wrong_size(size_t index, size_t size) const;

  std::vector<Range> vocabularies_;  // of each rank
  int first_rank_;                   // of them
  size_t sent_width_;
  std::vector<size_t> offsets_;  // read so far of each part
  std::vector<PartialSumExp> sums_;
};

}  // namespace shoal
