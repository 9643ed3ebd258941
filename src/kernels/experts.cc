#include "kernels/experts.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "kernels/biased_product.h"

namespace shoal::kernels {

Result<RowScratch> RowScratch::create(int64_t rows, int64_t width) {
  RowScratch scratch;
  scratch.width_ = width;
  const auto blocks = static_cast<uint64_t>(rows * block_stride(width));
  SHOAL_ASSIGN(scratch.values_,
               MemoryRegion::create(static_cast<uint64_t>(rows * width) * 4, "rows of experts"));
  SHOAL_ASSIGN(scratch.codes_, MemoryRegion::create(blocks * kCodeBytes, "rows of experts"));
  SHOAL_ASSIGN(scratch.blocks_,
               MemoryRegion::create(blocks * sizeof(BlockSums), "rows of experts"));
  return scratch;
}

void RowScratch::quantise(const KernelTable& kernels, ThreadPool& pool, int64_t rows, bool apart) {
  apart_ = apart;
  const int64_t stride = block_stride(width_);
  const auto job = [&](int index) {
    const int64_t threads = pool.thread_count();
    for (int64_t r = rows * index / threads; r < rows * (index + 1) / threads; ++r) {
      quantise_rows(kernels, apart, row(r), width_,
                    reinterpret_cast<int8_t*>(codes_.data()) + r * stride * kCodeBytes,
                    reinterpret_cast<BlockSums*>(blocks_.data()) + r * stride);
    }
  };
  pool.run(std::ref(job));
}

InputRows RowScratch::input(int64_t first) const {
  const int64_t stride = block_stride(width_);
  return {row(first),
          width_,
          reinterpret_cast<const int8_t*>(codes_.data()) + first * stride * kCodeBytes,
          reinterpret_cast<const BlockSums*>(blocks_.data()) + first * stride,
          stride,
          apart_};
}

Result<ExpertRunner> ExpertRunner::create(int64_t rows, int used, int64_t hidden, int64_t width) {
  ExpertRunner runner;
  const int64_t pairs = rows * used;
  SHOAL_ASSIGN(runner.in_, RowScratch::create(pairs, hidden));
  SHOAL_ASSIGN(runner.gate_, RowScratch::create(pairs, width));
  SHOAL_ASSIGN(runner.up_,
               MemoryRegion::create(static_cast<uint64_t>(pairs * width) * 4, "rows of experts"));
  SHOAL_ASSIGN(runner.out_,
               MemoryRegion::create(static_cast<uint64_t>(pairs * hidden) * 4, "rows of experts"));
  return runner;
}

uint64_t ExpertRunner::bytes() const {
  return in_.bytes() + gate_.bytes() + up_.size() + out_.size();
}

void ExpertRunner::choose(const ExpertTask& task) {
  unsorted_.clear();
  for (int64_t row = 0; row < task.rows; ++row) {
    choose_experts(task.op.routing, task.router + row * task.expert_count, task.expert_count,
                   task.selection_bias, routing_, chosen_);
    for (const ChosenExpert& one : chosen_) {
      const float* scales = task.expert_scales;
      unsorted_.push_back(
          {one.expert, row, scales == nullptr ? one.weight : one.weight * scales[one.expert]});
    }
  }
  order_.resize(unsorted_.size());
  std::iota(order_.begin(), order_.end(), int64_t{0});
  std::ranges::sort(order_, {}, [&](int64_t i) {
    return std::pair(unsorted_[static_cast<size_t>(i)].expert, i);
  });
  pair_of_.resize(unsorted_.size());
  pairs_.clear();
  runs_.clear();
  for (const int64_t from : order_) {
    const Pair& pair = unsorted_[static_cast<size_t>(from)];
    const auto at = static_cast<int64_t>(pairs_.size());
    pair_of_[static_cast<size_t>(from)] = at;
    if (runs_.empty() || runs_.back().expert != pair.expert) runs_.push_back({pair.expert, at, 0});
    runs_.back().end = at + 1;
    pairs_.push_back(pair);
  }
}

void ExpertRunner::gather(const ExpertTask& task) {
  for (size_t at = 0; at < pairs_.size(); ++at) {
    std::copy_n(task.in + pairs_[at].row * task.hidden, task.hidden,
                in_.row(static_cast<int64_t>(at)));
    if (!task.op.routing.weighs_input) continue;
    float* in = in_.row(static_cast<int64_t>(at));
    for (int64_t c = 0; c < task.hidden; ++c) in[c] *= pairs_[at].weight;
  }
}

// All products of a kind in one go: the units of all experts that have rows are split among the
// threads.
void ExpertRunner::multiply(const KernelTable& kernels, ThreadPool& pool, const ExpertTask& task,
                            Source& input, std::span<const Product> products) {
  const auto job = [&](int index) {
    for (const Product& product : products) {
      const int64_t units = product.weights.unit_count();
      const int64_t all = units * static_cast<int64_t>(runs_.size());
      const int64_t threads = pool.thread_count();
      int64_t begin = all * index / threads;
      const int64_t end = all * (index + 1) / threads;
      while (begin < end) {
        const Run& run = runs_[static_cast<size_t>(begin / units)];
        const int64_t first = begin % units;
        const int64_t last = std::min(units, first + end - begin);
        begin += last - first;
        const float* bias =
            product.bias == nullptr ? nullptr : product.bias + run.expert * product.width;
        biased_product(kernels, product.weights.views[static_cast<size_t>(run.expert)], bias,
                       input.input(run.begin), run.end - run.begin, first, last,
                       task.scratch + index * kProductScratchBytes,
                       product.out + run.begin * product.width, product.width);
        if (index == 0 && task.meanwhile) task.meanwhile();
      }
    }
  };
  pool.run(std::ref(job));
}

// In the order of a row's choice, whatever the others chose.
void ExpertRunner::combine(const ExpertTask& task) {
  const int used = task.op.routing.used;
  for (int64_t row = 0; row < task.rows; ++row) {
    float* out = task.out + row * task.hidden;
    std::fill_n(out, task.hidden, 0.0f);
    for (int i = 0; i < used; ++i) {
      const int64_t pair = pair_of_[static_cast<size_t>(row * used + i)];
      const float weight =
          task.op.routing.weighs_input ? 1 : pairs_[static_cast<size_t>(pair)].weight;
      const float* from = out_.floats() + pair * task.hidden;
      for (int64_t c = 0; c < task.hidden; ++c) out[c] += weight * from[c];
    }
  }
}

void ExpertRunner::run(const KernelTable& kernels, ThreadPool& pool, const ExpertTask& task) {
  if (task.rows == 0) return;
  choose(task);
  gather(task);
  const auto pairs = static_cast<int64_t>(pairs_.size());
  const auto takes_codes = [&](const PackedMatrices& weights) {
    return kernels.takes_codes(weights.views.front().type);
  };
  // An expert has at most a pair of each row.
  const bool apart = takes_apart(kernels, task.rows);
  if (takes_codes(task.gate) || takes_codes(task.up)) in_.quantise(kernels, pool, pairs, apart);
  const int64_t width = task.op.width;
  const Product inner[] = {{task.gate, task.gate_bias, gate_.row(0), width},
                           {task.up, task.up_bias, up_.floats(), width}};
  multiply(kernels, pool, task, in_, inner);
  const auto activate = [&](int index) {
    const int64_t threads = pool.thread_count();
    const int64_t begin = pairs * index / threads * width;
    const int64_t end = pairs * (index + 1) / threads * width;
    kernels.gate(gate_kind(task.op.activation), gate_.row(0) + begin, up_.floats() + begin,
                 end - begin, gate_.row(0) + begin);
  };
  pool.run(std::ref(activate));
  if (takes_codes(task.down)) gate_.quantise(kernels, pool, pairs, apart);
  const Product outer[] = {{task.down, task.down_bias, out_.floats(), task.hidden}};
  multiply(kernels, pool, task, gate_, outer);
  combine(task);
}

}  // namespace shoal::kernels
