// y = W x over a matrix that no cache holds (decode), and over one that the caches do (cached, with
// 1, 8 and 256 rows of input, a step of prefill), for every element type. "of_probe" is the share
// of the read bandwidth that the same threads reach by reading alone, measured just before.
//
//   bench_kernels_products [--benchmark_filter=decode/Q4_0]     SHOAL_ISA chooses the instruction
//   set.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/clock.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "kernels/probe.h"
#include "kernels/weight_store.h"

namespace {

using namespace shoal;
using namespace shoal::kernels;

constexpr int64_t kColumns = 4096;
constexpr ElementType kTypes[] = {
    ElementType::kQ4_0,   ElementType::kQ4_1,  ElementType::kQ5_0, ElementType::kQ5_1,
    ElementType::kQ8_0,   ElementType::kQ2_K,  ElementType::kQ3_K, ElementType::kQ4_K,
    ElementType::kQ5_K,   ElementType::kQ6_K,  ElementType::kF16,  ElementType::kBF16,
    ElementType::kIQ4_NL, ElementType::kMXFP4, ElementType::kF32,  ElementType::kIQ4_XS};

// Random bytes whose scales are small and finite. 256 rows.
std::vector<std::byte> file_bytes(ElementType type) {
  const ElementTraits& traits = element_traits(type);
  std::vector<std::byte> bytes(256 * row_bytes(type, kColumns));
  for (size_t i = 0; i < bytes.size(); i += 4) {
    const uint32_t word = philox(7, i)[0];
    std::memcpy(&bytes[i], &word, std::min<size_t>(4, bytes.size() - i));
  }
  const auto set_high = [&](size_t offset, uint8_t high) {
    for (size_t b = 0; b < bytes.size(); b += traits.block_bytes)
      bytes[b + offset + 1] = std::byte{high};
  };
  switch (type) {
    case ElementType::kF32:
      for (size_t i = 3; i < bytes.size(); i += 4) bytes[i] = std::byte{0x3c};
      break;
    case ElementType::kMXFP4:
      for (size_t i = 0; i < bytes.size(); i += traits.block_bytes) bytes[i] = std::byte{120};
      break;
    case ElementType::kQ2_K:
      set_high(80, 0x1c);
      set_high(82, 0x1c);
      break;
    case ElementType::kQ3_K:
      set_high(108, 0x1c);
      break;
    case ElementType::kQ6_K:
      set_high(208, 0x1c);
      break;
    case ElementType::kQ4_1:
    case ElementType::kQ5_1:
    case ElementType::kQ4_K:
    case ElementType::kQ5_K:
      set_high(2, 0x1c);
      set_high(0, 0x1c);
      break;
    default:
      set_high(0, type == ElementType::kBF16 ? 0x3c : 0x1c);
  }
  return bytes;
}

struct Setup {
  Setup(ElementType type, int threads, uint64_t bytes, int64_t input_rows)
      : table(*kernels_for(*choose_isa(std::getenv("SHOAL_ISA") ? std::getenv("SHOAL_ISA") : ""))),
        pool(threads),
        count(input_rows) {
    const auto file = file_bytes(type);
    packed = *pack_matrix(table, pool, {"bench", type, 256, kColumns, file}, {}, {256, kColumns});
    // The same 256 rows again and again: speed does not depend on the values.
    const uint64_t copies = std::max<uint64_t>(1, bytes / packed.region.size());
    region = *MemoryRegion::create(copies * packed.region.size(), "the bench");
    for (uint64_t i = 0; i < copies; ++i) {
      std::memcpy(region.data() + i * packed.region.size(), packed.region.data(),
                  packed.region.size());
    }
    view = packed.view;
    view.bytes = region.data();
    view.rows = static_cast<int64_t>(copies) * 256;
    x.resize(static_cast<size_t>(count * kColumns));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(uniform(3, i)) - 0.5f;
    blocks.resize(x.size() / kSubBlock);
    codes.resize(blocks.size() * kCodeBytes);
    if (table.takes_codes(type)) {
      quantise_rows(table, takes_apart(table, count), x.data(), count * kColumns, codes.data(),
                    blocks.data());
    }
    out.resize(static_cast<size_t>(count * view.rows));
    scratch =
        *MemoryRegion::create(static_cast<uint64_t>(kProductScratchBytes * threads), "the bench");
  }
  void multiply() {
    const InputRows input = {x.data(),
                             kColumns,
                             codes.data(),
                             blocks.data(),
                             kColumns / kSubBlock,
                             takes_apart(table, count)};
    const int64_t units = view.rows / table.row_unit, threads = pool.thread_count();
    const auto job = [&](int index) {
      table.product(view.type)(
          view, input, count, units * index / threads, units * (index + 1) / threads,
          scratch.data() + index * kProductScratchBytes, out.data(), view.rows);
    };
    pool.run(std::ref(job));
    benchmark::DoNotOptimize(out.data());
  }
  const KernelTable& table;
  ThreadPool pool;
  int64_t count;
  PackedMatrix packed;
  MemoryRegion region, scratch;
  MatrixView view;
  std::vector<float> x, out;
  std::vector<int8_t> codes;
  std::vector<BlockSums> blocks;
};

void decode(benchmark::State& state, ElementType type, int threads) {
  Setup setup(type, threads, 300 << 20, state.range(0));
  setup.multiply();
  const ProbeResult probe = probe_machine(setup.table.isa, threads, 0.4);
  double best = 0;
  for (auto _ : state) {
    const auto begin = Clock::now();
    setup.multiply();
    best = std::max(best, static_cast<double>(setup.region.size()) / seconds_since(begin));
  }
  state.counters["GB/s"] = best * 1e-9;
  state.counters["probe_GB/s"] = probe.read_bytes_per_s * 1e-9;
  state.counters["of_probe"] = best / probe.read_bytes_per_s;
}

// The best pass, here as above: others on the machine only slow it down.
void cached(benchmark::State& state, ElementType type, int threads) {
  Setup setup(type, threads, 1 << 19, state.range(0));
  double best = 0;
  const auto work = static_cast<double>(setup.view.rows * kColumns * state.range(0));
  for (auto _ : state) {
    const auto begin = Clock::now();
    setup.multiply();
    best = std::max(best, work / seconds_since(begin));
  }
  state.counters["GMAC/s"] = best * 1e-9;
  state.counters["GB/s"] = best * 1e-9 * static_cast<double>(setup.region.size()) / work;
}

}  // namespace

int main(int argc, char** argv) {
  for (const ElementType type : kTypes) {
    const std::string name(element_traits(type).name);
    for (const int threads : {1, 2}) {
      if (threads > usable_core_count()) continue;
      const std::string suffix = name + "/threads:" + std::to_string(threads);
      benchmark::RegisterBenchmark(("decode/" + suffix).c_str(), decode, type, threads)
          ->Arg(1)
          ->Arg(8)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond)
          ->MinTime(0.3);
      benchmark::RegisterBenchmark(("cached/" + suffix).c_str(), cached, type, threads)
          ->Arg(1)
          ->Arg(8)
          ->Arg(256)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond)
          ->MinTime(0.2);
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
