// Reads an architecture's numbers from a file's metadata: "llama.block_count" and the like. Each is
// checked for its range, so that nothing that follows divides by zero or overflows; errors name
// file and key. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tensor/program.h"

namespace shoal {

class Hyperparameters {
 public:
  Hyperparameters(const gguf::File& file, std::string_view architecture)
      : file_(file), prefix_(architecture) {}

  bool has(std::string_view name) const;
  // A count of at least one and below 2^31. An array, one element per layer, counts when all are
  // equal.
  Result<int64_t> count(std::string_view name) const;
  Result<int64_t> count_or(std::string_view name, int64_t otherwise) const;
  // Such a count for each of `layers`: an array of so many, or one number for all.
  Result<std::vector<int64_t>> counts(std::string_view name, int64_t layers) const;
  // 0 when absent; negative ones are refused.
  Result<int64_t> count_or_zero(std::string_view name) const;
  // A finite number above zero, as a float.
  Result<float> positive(std::string_view name) const;
  Result<float> positive_or(std::string_view name, float otherwise) const;
  Result<float> number_or(std::string_view name, float otherwise) const;  // finite
  Result<std::string> text_or(std::string_view name, std::string_view otherwise) const;

  Result<bool> flag_or(std::string_view name, bool otherwise) const;
  // One element per layer, or none when the key is absent; an integer n means that every n-th layer
  // (the last of n) is false and the others true.
  Result<std::vector<bool>> pattern_or(std::string_view name, int64_t layers, int64_t period) const;

  // Rotary embedding by rope.* keys for heads of this dimension. Scaling none, linear or YaRN
  // (Peng et al., YaRN, 2023).
  struct Yarn {
    bool rounded = true;    // the ramp's ends lie on whole pairs
    bool amplifies = true;  // cosines and sines grow by 0.1 ln(factor) + 1
    bool or_long = false;   // "longrope" may stand there: the caller reads its tensors
  };
  Result<RopeSpec> rope(int64_t head_dimension, bool interleaved) const {
    return rope(head_dimension, interleaved, Yarn{});
  }
  Result<RopeSpec> rope(int64_t head_dimension, bool interleaved, Yarn yarn) const;

  const gguf::File& file() const { return file_; }
  bool has_tensor(std::string_view name) const { return file_.find_tensor(name) != nullptr; }

  template <typename... Args>
  std::unexpected<Error> wrong(ErrorCode code, std::string_view name,
                               fmt::format_string<Args...> sentence, Args&&... args) const {
    return fail(code, "{}: the metadata key \"{}\": {}", file_.path(), key(name),
                fmt::format(sentence, std::forward<Args>(args)...));
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }
  std::unexpected<Error> missing(std::string_view name) const;
  Status scale_by_yarn(RopeSpec& rope, float factor, Yarn yarn) const;

  const gguf::File& file_;
  std::string prefix_;
};

}  // namespace shoal
