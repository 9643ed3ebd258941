// A mixture of experts: rows are sorted by expert, and each expert's matrices are read once for all
// of its rows. Owned by the backend's thread; computes on its pool.
#pragma once

#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "kernels/memory_region.h"
#include "kernels/routing.h"
#include "kernels/weight_store.h"

namespace shoal::kernels {

// Blocks from a row of codes to the next: one more than it has, since rows at a power of two would
// share the sets of a cache.
inline int64_t block_stride(int64_t width) {
  return (width + kSubBlock - 1) / kSubBlock + 1;
}

// Rows of floats, and of their codes.
class RowScratch {
 public:
  static Result<RowScratch> create(int64_t rows, int64_t width);
  RowScratch() = default;
  float* row(int64_t index) const { return values_.floats() + index * width_; }
  // Codes of the first `rows` rows where the type takes them; then what a product reads from row
  // `first` on.
  void quantise(const KernelTable& kernels, ThreadPool& pool, int64_t rows, bool apart);
  InputRows input(int64_t first) const;
  uint64_t bytes() const { return values_.size() + codes_.size() + blocks_.size(); }

 private:
  int64_t width_ = 0;
  MemoryRegion values_;
  MemoryRegion codes_;
  MemoryRegion blocks_;
  bool apart_ = false;
};

struct ExpertTask {
  const Experts& op;
  const PackedMatrices& gate;
  const PackedMatrices& up;
  const PackedMatrices& down;
  const float* gate_bias;  // [experts][width], or null
  const float* up_bias;
  const float* down_bias;       // [experts][hidden]
  const float* selection_bias;  // [experts]
  const float* expert_scales;   // [experts], or null
  int64_t expert_count;
  int64_t rows;
  int64_t hidden;
  const float* in;      // rows x hidden
  const float* router;  // rows x experts
  float* out;           // rows x hidden
  uint8_t* scratch;     // kProductScratchBytes of each thread
  // Called now and then by the calling thread, if there is one.
  const std::function<void()>& meanwhile;
};

class ExpertRunner {
 public:
  // For steps of at most `rows` rows, each of which goes to `used` experts.
  static Result<ExpertRunner> create(int64_t rows, int used, int64_t hidden, int64_t width);
  ExpertRunner() = default;
  void run(const KernelTable& kernels, ThreadPool& pool, const ExpertTask& task);
  uint64_t bytes() const;
  // Of the last run: how many experts had a row.
  int64_t experts_read() const { return static_cast<int64_t>(runs_.size()); }

 private:
  // A row and one of its experts; pairs of an expert lie together.
  struct Pair {
    int expert;
    int64_t row;
    float weight;
  };
  struct Run {  // the pairs of one expert
    int expert;
    int64_t begin;
    int64_t end;
  };

  void choose(const ExpertTask& task);
  void gather(const ExpertTask& task);
  using Source = const RowScratch;
  struct Product {
    const PackedMatrices& weights;
    const float* bias;
    float* out;
    int64_t width;
  };
  void multiply(const KernelTable& kernels, ThreadPool& pool, const ExpertTask& task, Source& input,
                std::span<const Product> products);
  void combine(const ExpertTask& task);

  std::vector<Pair> pairs_;
  std::vector<Run> runs_;
  std::vector<int64_t> pair_of_;  // [row][choice]
  std::vector<Pair> unsorted_;
  std::vector<int64_t> order_;
  RoutingScratch routing_;
  std::vector<ChosenExpert> chosen_;
  RowScratch in_;    // of each pair
  RowScratch gate_;  // and the product of both
  MemoryRegion up_;
  MemoryRegion out_;
};

}  // namespace shoal::kernels
