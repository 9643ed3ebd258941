// Reads an architecture's numbers from a file's metadata: "llama.block_count" and the like. Each is
// checked for its range, so that nothing that follows divides by zero or overflows; errors name
// file and key. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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
  // 0 when absent; negative ones are refused.
  Result<int64_t> count_or_zero(std::string_view name) const;
  // A finite number above zero, as a float.
  Result<float> positive(std::string_view name) const;
  Result<float> positive_or(std::string_view name, float otherwise) const;
  Result<std::string> text_or(std::string_view name, std::string_view otherwise) const;

  // Rotary embedding by rope.* keys for heads of this dimension; scaling none or linear.
  Result<RopeSpec> rope(int64_t head_dimension, bool interleaved) const;

  template <typename... Args>
  std::unexpected<Error> wrong(ErrorCode code, std::string_view name,
                               fmt::format_string<Args...> sentence, Args&&... args) const {
    return fail(code, "{}: the metadata key \"{}\": {}", file_.path(), key(name),
                fmt::format(sentence, std::forward<Args>(args)...));
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }
  std::unexpected<Error> missing(std::string_view name) const;

  const gguf::File& file_;
  std::string prefix_;
};

}  // namespace shoal
