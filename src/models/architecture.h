// The registry of architectures: a row of the table in architectures.cc and a file of its own for
// each. Any thread.
#pragma once

#include <span>
#include <string_view>

#include "models/model.h"
#include "models/tensor_rules.h"

namespace shoal {

struct Architecture {
  std::string_view name;  // general.architecture
  std::span<const TensorRule> tensors;
  Result<ModelDescription> (*describe)(
      const gguf::File& file);  // hyperparameters; tensors are checked by the caller
  Program (*build)(const ModelDescription& model, const RankCut& cut);  // the cut has been checked
};

const Architecture* find_architecture(std::string_view name);  // nullptr for an unknown one

extern const Architecture kLlama;

}  // namespace shoal
