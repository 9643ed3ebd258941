// Attention alone, through the backend: a program of nothing but layers of attention, whose caches
// together no cache of the processor holds. decode: one row at the end of its context; "of_probe"
// is what it reads of keys and values, as a share of the read bandwidth that the same threads reach
// by reading alone, measured just before. prefill: the last 512 rows of a context.
//
//   bench_kernels_attention [--benchmark_filter=decode/f16]     SHOAL_ISA chooses the instruction
//   set.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "kernels/cpu_backend.h"
#include "kernels/probe.h"

namespace {

using namespace shoal;

constexpr int kKvHeads = 8;
constexpr int64_t kRows = 512;

struct Shape {
  KvType type;
  int head_dimension;
  int heads_per_kv;
  int64_t context;
  int layers;
};

Program attention_program(const Shape& shape) {
  Program p;
  const int64_t kv_width = int64_t{kKvHeads} * shape.head_dimension;
  const int64_t q_width = kv_width * shape.heads_per_kv;
  p.buffers = {{"q", q_width},
               {"k", kv_width},
               {"v", kv_width},
               {"out", q_width},
               {"hidden", q_width, Rows::kWanted},
               {"logits", 16, Rows::kWanted}};
  p.weights = {{"head", {}, WeightUse::kMatrix}};
  p.cache_groups = {{shape.layers, kKvHeads, shape.head_dimension}};
  std::vector<int> query_to_kv;
  for (int h = 0; h < kKvHeads * shape.heads_per_kv; ++h)
    query_to_kv.push_back(h / shape.heads_per_kv);
  Segment layers;
  for (int layer = 0; layer < shape.layers; ++layer)
    layers.operations.emplace_back(Attend{0, layer, 0, 1, 2, 3, query_to_kv, 0.1f});
  // What makes it a program; never run.
  p.segments = {layers, {{Gather{3, 4}, Project{4, {{0, {}, 5}}}}, {}}};
  p.hidden = 4;
  p.logits = 5;
  p.vocabulary = {0, 16};
  p.vocabulary_size = 16;
  return p;
}

struct Setup {
  Setup(const Shape& s, Isa isa, int threads) : shape(s), backend(make_cpu_backend(isa, threads)) {
    const Program program = attention_program(s);
    const int64_t pages = s.context / backend->page_tokens();
    SHOAL_CHECK(backend->prepare(program, {kRows, 1, s.context}));
    const int64_t columns = program.buffers[4].width;
    const std::vector<std::byte> zeros(static_cast<size_t>(16 * columns * 4));
    SHOAL_CHECK(backend->load(0, {"head", ElementType::kF32, 16, columns, zeros}));
    SHOAL_CHECK(backend->allocate_kv(s.type, std::vector<int64_t>{pages}));
    for (const BufferId id : {0, 1, 2}) {
      uint64_t n = 0;
      for (float& x : backend->rows(id, 0, kRows))
        x = static_cast<float>(uniform(static_cast<uint64_t>(id), ++n)) - 0.5f;
    }
    for (int64_t i = 0; i < pages; ++i) page_table.push_back(static_cast<PageId>(i));
    fill();
  }
  // Every page as the first of a sequence of its own, so that filling costs little attention.
  void fill() {
    const int page_tokens = backend->page_tokens();
    const int64_t at_once = kRows / page_tokens;
    for (size_t first = 0; first < page_table.size(); first += static_cast<size_t>(at_once)) {
      StepBatch batch;
      std::vector<int32_t> positions, sequences;
      batch.page_tables.emplace_back();
      const size_t end = std::min(page_table.size(), first + static_cast<size_t>(at_once));
      for (size_t page = first; page < end; ++page) {
        batch.page_tables[0].emplace_back(&page_table[page], 1);
        for (int i = 0; i < page_tokens; ++i) {
          positions.push_back(i);
          sequences.push_back(static_cast<int32_t>(page - first));
        }
      }
      run(batch, positions, sequences);
    }
  }
  // The last rows of one sequence.
  void attend(int64_t rows) {
    std::vector<int32_t> positions, sequences(static_cast<size_t>(rows), 0);
    for (int64_t r = shape.context - rows; r < shape.context; ++r)
      positions.push_back(static_cast<int32_t>(r));
    StepBatch batch;
    batch.page_tables = {{page_table}};
    run(batch, positions, sequences);
  }
  void run(StepBatch& batch, const std::vector<int32_t>& positions,
           const std::vector<int32_t>& sequences) {
    const std::vector<int32_t> tokens(positions.size(), 0);
    const std::vector<Role> roles(positions.size(), Role::kPrompt);
    batch.tokens = tokens;
    batch.positions = positions;
    batch.roles = roles;
    batch.sequences = sequences;
    SHOAL_CHECK(backend->run(0, batch));
  }
  Shape shape;
  std::unique_ptr<Backend> backend;
  std::vector<PageId> page_table;
};

// The best pass: others on the machine only slow it down.
void decode(benchmark::State& state, const Shape& shape, Isa isa, int threads) {
  Setup setup(shape, isa, threads);
  const ProbeResult probe = probe_machine(isa, threads, 0.4);
  double best = 0;
  for (auto _ : state) {
    const auto begin = Clock::now();
    setup.attend(1);
    const double bytes = static_cast<double>(setup.backend->memory().kv_bytes);
    best = std::max(best, bytes / seconds_since(begin));
  }
  state.counters["GB/s"] = best * 1e-9;
  state.counters["probe_GB/s"] = probe.read_bytes_per_s * 1e-9;
  state.counters["of_probe"] = best / probe.read_bytes_per_s;
}

void prefill(benchmark::State& state, const Shape& shape, Isa isa, int threads) {
  Setup setup(shape, isa, threads);
  const auto rows = static_cast<double>(kRows);
  const double positions = rows * (static_cast<double>(shape.context) - (rows - 1) / 2);
  const double work =
      2 * positions * kKvHeads * shape.heads_per_kv * shape.head_dimension * shape.layers;
  double best = 0;
  for (auto _ : state) {
    const auto begin = Clock::now();
    setup.attend(kRows);
    best = std::max(best, work / seconds_since(begin));
  }
  state.counters["GMAC/s"] = best * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  const char* wanted = std::getenv("SHOAL_ISA");
  const auto isa = choose_isa(wanted != nullptr ? wanted : "");
  SHOAL_CHECK(isa);
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    for (const int dimension : {64, 128}) {
      for (const int threads : {1, 2}) {
        if (threads > usable_core_count()) continue;
        const std::string suffix = std::string(kv_type_name(type)) + "/" +
                                   std::to_string(dimension) +
                                   "/threads:" + std::to_string(threads);
        // 128 to 256 MB of keys and values.
        const Shape deep = {type, dimension, 4, 8192, 8};
        benchmark::RegisterBenchmark(("decode/" + suffix).c_str(), decode, deep, *isa, threads)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond)
            ->MinTime(0.3);
        for (const int64_t context : {512, 8192}) {
          const Shape shape = {type, dimension, 4, context, 1};
          benchmark::RegisterBenchmark(
              ("prefill/" + suffix + "/context:" + std::to_string(context)).c_str(), prefill, shape,
              *isa, threads)
              ->UseRealTime()
              ->Unit(benchmark::kMillisecond)
              ->MinTime(0.2);
        }
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
