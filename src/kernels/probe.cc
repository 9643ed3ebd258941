#include "kernels/probe.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "kernels/column_plan.h"
#include "kernels/kernel_table.h"
#include "kernels/weight_store.h"

namespace shoal {
namespace {

using namespace kernels;

// Four times the last cache, so that little of a pass is left for the next.
uint64_t buffer_bytes() {
  const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  const uint64_t wanted = cache > 0 ? 4 * static_cast<uint64_t>(cache) : 0;
  const uint64_t clamped = std::clamp<uint64_t>(wanted, 64 << 20, 256 << 20);
  return std::min(clamped, std::max<uint64_t>(memory_available_bytes() / 8, 1 << 20));
}

// The best of passes until the time is over, at least two: others on the machine only slow it down.
template <typename Pass>
double best_rate(double amount, double budget_s, const Pass& pass) {
  double best = 0;
  const auto start = Clock::now();
  for (int count = 0; count < 2 || seconds_since(start) < budget_s; ++count) {
    const auto begin = Clock::now();
    pass();
    best = std::max(best, amount / std::max(seconds_since(begin), 1e-9));
  }
  return best;
}

double read_rate(const KernelTable& table, ThreadPool& pool, double budget_s) {
  auto region = MemoryRegion::create(buffer_bytes(), "the speed probe");
  if (!region) return 0;
  const auto threads = static_cast<uint64_t>(pool.thread_count());
  const uint64_t part = region->size() / threads / 1024 * 1024;
  std::vector<uint64_t> sums(threads);  // kept, so that the reading is not removed
  const auto touch = [&](int index) {   // pages never written are all the same page
    for (uint64_t i = 0; i < part; i += 4096)
      region->data()[static_cast<uint64_t>(index) * part + i] = 1;
  };
  pool.run(std::ref(touch));
  const auto read = [&](int index) {
    const auto i = static_cast<uint64_t>(index);
    sums[i] += table.read_streams(region->data() + i * part, static_cast<int64_t>(part / 4));
  };
  return best_rate(static_cast<double>(part * threads), budget_s,
                   [&] { pool.run(std::ref(read)); });
}

// Weights of a type as a file has them, of numbers that are neither large nor denormal.
std::vector<std::byte> file_weights(ElementType type, int64_t count) {
  std::vector<std::byte> file(static_cast<size_t>(row_bytes(type, count)));
  for (size_t i = 0; i < file.size(); ++i) file[i] = static_cast<std::byte>(philox(1, i)[0]);
  const size_t block = element_traits(type).block_bytes;
  // Of each block the high byte of its half-precision scale, or of each half-precision number:
  // near 2^-8.
  for (size_t b = 0; b + 1 < file.size(); b += block) file[b + 1] = std::byte{0x1c};
  return file;
}

// Products per second of `input_rows` rows with weights of at least `bytes`, and how large the
// matrix is.
struct ProductRate {
  double per_s = 0;
  double weight_bytes = 0;
  double weights = 0;
};

ProductRate product_rate(const KernelTable& table, ThreadPool& pool, ElementType type,
                         int64_t input_rows, uint64_t bytes, double budget_s) {
  constexpr int64_t kColumns = 1024, kRowsPerThread = 64, kBlocks = kColumns / kSubBlock;
  const int64_t rows = kRowsPerThread * pool.thread_count();
  const std::vector<std::byte> file = file_weights(type, rows * kColumns);
  const TensorSource source = {"probe", type, rows, kColumns, file};
  const auto matrix = pack_matrix(table, pool, source, {}, {rows, kColumns});
  if (!matrix) return {};
  const uint64_t one = matrix->region.size();
  const uint64_t copies = std::max<uint64_t>(1, bytes / one);
  auto region = MemoryRegion::create(copies * one, "the speed probe");
  if (!region) return {};
  for (uint64_t i = 0; i < copies; ++i)
    std::memcpy(region->data() + i * one, matrix->region.data(), one);
  MatrixView view = matrix->view;
  view.bytes = region->data();
  view.rows = rows * static_cast<int64_t>(copies);

  std::vector<float> values(static_cast<size_t>(input_rows * kColumns));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(uniform(2, i)) - 0.5f;
  std::vector<BlockSums> blocks(values.size() / kSubBlock);
  std::vector<int8_t> codes(blocks.size() * kCodeBytes);
  if (table.takes_codes(type)) {
    quantise_rows(table, takes_apart(table, input_rows), values.data(), input_rows * kColumns,
                  codes.data(), blocks.data());
  }
  const InputRows input = {values.data(), kColumns, codes.data(),
                           blocks.data(), kBlocks,  takes_apart(table, input_rows)};
  std::vector<float> out(static_cast<size_t>(input_rows * view.rows));
  const int64_t units = matrix->unit_count() * static_cast<int64_t>(copies);
  const auto scratch_bytes = static_cast<uint64_t>(kProductScratchBytes * pool.thread_count());
  auto scratch = MemoryRegion::create(scratch_bytes, "the speed probe");
  if (!scratch) return {};
  const auto multiply = [&](int index) {
    const int64_t threads = pool.thread_count();
    table.product(type)(view, input, input_rows, units * index / threads,
                        units * (index + 1) / threads,
                        scratch->data() + index * kProductScratchBytes, out.data(), view.rows);
  };
  ProductRate rate;
  rate.per_s = best_rate(1, budget_s, [&] { pool.run(std::ref(multiply)); });
  rate.weight_bytes = static_cast<double>(region->size());
  rate.weights = static_cast<double>(view.rows * kColumns);
  return rate;
}

}  // namespace

double read_bandwidth(Isa isa, int threads, double budget_s) {
  const KernelTable* table = kernels_for(isa);
  SHOAL_CHECK(table != nullptr && machine_has(isa) && threads >= 1);
  ThreadPool pool(threads, threads == usable_core_count());
  return read_rate(*table, pool, budget_s);
}

PeakRate peak_rate(Isa isa, int threads, double budget_s) {
  const KernelTable* table = kernels_for(isa);
  SHOAL_CHECK(table != nullptr && machine_has(isa) && threads >= 1);
  ThreadPool pool(threads, threads == usable_core_count());
  constexpr int64_t kRounds = 1 << 14;  // a few milliseconds at most: passes enough to find a best
  std::vector<uint64_t> sums(static_cast<size_t>(pool.thread_count()));
  const auto multiply = [&](int index) {
    sums[static_cast<size_t>(index)] += table->peak(kRounds);
  };
  const auto work = static_cast<double>(kRounds * table->peak_multiply_adds * pool.thread_count());
  return {best_rate(work, budget_s, [&] { pool.run(std::ref(multiply)); }), table->peak_numbers};
}

ProbeResult probe_machine(Isa isa, int threads, double budget_s) {
  const KernelTable* table = kernels_for(isa);
  SHOAL_CHECK(table != nullptr && machine_has(isa) && threads >= 1);
  ThreadPool pool(threads, threads == usable_core_count());
  // Rows enough for what a block of weights is unpacked for once: of 256, as prompts have them, the
  // rate is the same to 3%, of 16 it is a sixth less.
  constexpr int64_t kBatch = 64;
  const auto arithmetic = [&](ElementType type) {
    const ProductRate batch = product_rate(*table, pool, type, kBatch, 0, budget_s * 0.15);
    return batch.per_s * batch.weights * kBatch;
  };
  ProbeResult result{};
  result.read_bytes_per_s = read_rate(*table, pool, budget_s * 0.4);
  const ProductRate decode =
      product_rate(*table, pool, ElementType::kQ4_0, 1, buffer_bytes(), budget_s * 0.3);
  result.decode_bytes_per_s = decode.per_s * decode.weight_bytes;
  result.multiply_adds_per_s = arithmetic(ElementType::kQ4_0);
  result.float_multiply_adds_per_s = arithmetic(ElementType::kF16);
  return result;
}

}  // namespace shoal
