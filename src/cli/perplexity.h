// `shoal perplexity MODEL FILE`: how well a model predicts a text, counted as llama.cpp's tool
// counts, so that figures compare: the text's tokens are cut into windows of `context` tokens (a
// rest is left out), each window is computed by itself, its first token replaced by BOS where the
// model adds one, and the tokens of its second half but the first are scored. One thread; computes
// on this machine alone, without a daemon.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "tensor/backend.h"

namespace shoal::cli {

struct PerplexityOptions {
  std::string model_path;
  std::string text;
  int64_t context = 512;
  int threads = 0;  // 0: all usable cores
  std::string isa;  // "": the best
  KvType kv_type = KvType::kF16;
};

struct PerplexityResult {
  double perplexity = 0;
  double uncertainty = 0;  // one standard error of the perplexity
  int64_t tokens = 0;      // of the text
  int64_t scored_tokens = 0;
  int64_t windows = 0;
  int64_t context = 0;
  double tokens_per_s = 0;  // computed, scored or not
};
Json to_json(const PerplexityResult& result);  // perplexity, tokens, and the rest

// What is known after each window. Returning false stops (kCancelled).
using PerplexityProgress =
    std::function<bool(int64_t windows_done, int64_t windows, double perplexity_so_far)>;

// kInvalidArgument when the text has not one whole window.
Result<PerplexityResult> perplexity(const PerplexityOptions& options,
                                    const PerplexityProgress& progress = {});

}  // namespace shoal::cli
