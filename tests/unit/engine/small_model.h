// Small llama models with random weights, written as GGUF in memory, of any shape and element type.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "gguf/gguf.h"
#include "models/model.h"
#include "tensor/element_type.h"

namespace shoal {

struct SmallShape {
  int64_t layers = 2;
  int64_t hidden = 64;
  int64_t feed_forward = 160;
  int64_t heads = 6;
  int64_t kv_heads = 3;
  int64_t head_dimension = 32;
  int64_t vocabulary = 320;
  int64_t context = 256;
  ElementType type = ElementType::kF32;  // of the matrices
  bool tied = false;
  uint32_t seed = 1;
};

// An open model; bytes and file stay in place.
struct SmallModel {
  std::string bytes;
  gguf::File file;
  ModelDescription description;
  ModelCard card;
};

std::unique_ptr<SmallModel> make_small_model(const SmallShape& shape);
// Any model on disk, as if it were small.
Result<std::unique_ptr<SmallModel>> open_model(const std::string& path);

}  // namespace shoal
