// `shoal bench MODEL`: how fast this machine alone computes a model, and how near to what it can
// do. Random token ids, in this process, without a daemon. One thread, which computes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/json.h"
#include "base/result.h"
#include "models/model.h"
#include "tensor/backend.h"
#include "worker/bench_runs.h"

namespace shoal::cli {

// Lists are measured in every combination.
struct BenchOptions {
  std::string model_path;
  std::vector<int64_t> prompt_tokens = {512};
  std::vector<int64_t> output_tokens = {64};
  std::vector<int64_t> batches = {1};   // sequences that decode at once
  std::vector<int64_t> contexts = {0};  // tokens in the cache of each before it decodes
  int64_t repeat = 3;
  int threads = 0;  // 0: all usable cores
  std::string isa;  // "": the best
  KvType kv_type = KvType::kF16;
  bool profile = false;
  double probe_s = 0.3;  // for each look at what the machine can do
};

struct BenchResult {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  int64_t batch = 0;
  int64_t context = 0;
  BenchSpeed prefill;  // of one prompt into an empty cache, in chunks as a worker takes them
  BenchSpeed decode;   // of output_tokens for every sequence of the batch
  double probe_read_bytes_per_s = 0;    // reading alone, just before or after decode
  double peak_multiply_adds_per_s = 0;  // products alone, just before or after prefill
};

struct BenchReport {
  std::string file;  // its name, without the folder
  ModelCard model;
  int threads = 0;
  Isa isa = Isa::kReference;
  KvType kv_type = KvType::kF16;
  int64_t repeat = 0;
  double load_s = 0;
  double load_bytes_per_s = 0;  // of the file
  BackendMemory memory;
  std::string peak_numbers;  // what the peak probe multiplies: "int8"
  std::vector<BenchResult> results;
};

// What goes on: of `total` bytes `done`, or 0 of 0. Returning false stops (kCancelled).
using BenchProgress =
    std::function<bool(const std::string& phase, uint64_t done_bytes, uint64_t total_bytes)>;

// kInvalidArgument for counts that cannot be or do not fit the trained context, kDoesNotFit with
// the numbers where memory is short.
Result<BenchReport> bench(const BenchOptions& options, const BenchProgress& progress);

// "128,512": whole numbers from `lowest` to `highest`, in the order given. kInvalidArgument names
// the flag and what is wrong.
Result<std::vector<int64_t>> parse_counts(std::string_view flag, std::string_view text,
                                          int64_t lowest, int64_t highest);

}  // namespace shoal::cli
