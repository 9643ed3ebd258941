// What is recommended for a model: values of single parameters, for requests that do not name
// them. They come from the catalogue and from the model's file. Pure; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "gguf/gguf.h"
#include "sampling/parameters.h"

namespace shoal {

struct SamplingDefault {
  std::string name;  // of sampling_numbers() or sampling_counts()
  double value = 0;
  std::string from;  // "catalogue" or "file"
  bool operator==(const SamplingDefault&) const = default;
};
Json to_json(std::span<const SamplingDefault> defaults);
// kInvalidArgument for a name that is none and a value out of its range.
Result<std::vector<SamplingDefault>> sampling_defaults_from_json(const Json& json);
// "temperature 0.2, top_p 0.9 (catalogue), top_k 40 (file)"; "" of none.
std::string sampling_defaults_text(std::span<const SamplingDefault> defaults);

// The metadata general.sampling.*, which llama.cpp's converter writes of the authors'
// generation_config.json.
struct FileSampling {
  std::vector<SamplingDefault> defaults;
  std::vector<std::string> ignored;  // a sentence each: keys that Shoal has no parameter for (such
                                     // as mirostat), values that are out of range
};
FileSampling sampling_of_file(const gguf::File& file);

// `first`, and of `second` what `first` does not name.
std::vector<SamplingDefault> merged(std::vector<SamplingDefault> first,
                                    std::span<const SamplingDefault> second);

// Sets what the request does not name, and returns what that was. A request that names a
// temperature of 0 gets nothing: greedy stays greedy, whatever else is recommended.
std::vector<SamplingDefault> apply(std::span<const SamplingDefault> defaults,
                                   std::span<const std::string> named,
                                   SamplingParameters& parameters);

}  // namespace shoal
