// The building blocks that architectures share: each appends the operations of a part of a
// transformer to a program. Buffers are made on first use and shared by all layers. One thread, one
// program.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "models/tensor_rules.h"
#include "tensor/program.h"

namespace shoal {

class ProgramBuilder {
 public:
  ProgramBuilder(const ModelDescription& model, const RankCut& cut,
                 std::span<const TensorRule> rules);

  // The rank's part of a tensor, by its rule's name; the same tensor gives the same weight.
  WeightId weight(std::string_view rule, int64_t layer = 0);
  BufferId buffer(std::string_view name, int64_t width, Rows rows = Rows::kAll);

  // Segments, in this order: embed, then attention and feed_forward for each layer, then head. What
  // a block adds to the residual stream is a partial sum until the all-reduce that ends its
  // segment; the next block begins by adding it.
  void embed();
  void attention(
      int64_t layer);  // RMS norm, biased where the model is, rotated, full causal attention
  void feed_forward(int64_t layer, Activation activation);  // RMS norm, gated
  void head();

  Program finish() && { return std::move(program_); }

 private:
  template <typename Operation>
  void add(Operation operation) {
    operations_.emplace_back(std::move(operation));
  }
  void end_segment(std::optional<BufferId> all_reduce);
  void begin_block(std::string_view norm, int64_t layer);  // adds what is pending, then normalises
  Project::Output output(std::string_view stem, int64_t layer, bool biased, BufferId out);

  const ModelDescription& model_;
  const RankCut& cut_;
  std::span<const TensorRule> rules_;
  Program program_;
  std::vector<Operation> operations_;
  std::map<std::string, WeightId, std::less<>> weights_;
  std::map<std::string, BufferId, std::less<>> buffers_;
  bool pending_ = false;  // the buffer "partial" awaits its addition to "residual"
};

}  // namespace shoal
