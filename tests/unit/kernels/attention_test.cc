// Attention of every instruction set against double precision, and that its bits are those of each
// row alone; and the backend's attention over long histories, by any number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "attention_case.h"
#include "kernels/attend_plan.h"
#include "kernels/cpu_backend.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

class AttentionOn : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam()))
      GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(GetParam());
  }
  const KernelTable& table() const { return *kernels_for(GetParam()); }
  bool slow() const { return GetParam() == Isa::kReference; }

  void check(const AttentionCase& c) { check_attention(table(), c); }
};

KvType nth_kv_type(int64_t n) {
  return kKvTypes[static_cast<size_t>(n) % std::size(kKvTypes)];
}

TEST_P(AttentionOn, EveryLength) {
  for (int64_t last = 0; last < 100; ++last)
    check({16, 1 + static_cast<int>(last / 3 % 3), last, nth_kv_type(last)});
}

TEST_P(AttentionOn, ManyDimensions) {
  for (const int dimension : {1, 4, 7, 8, 12, 16, 20, 48, 64, 72, 80, 96, 112, 128, 136, 256}) {
    for (const KvType type : kKvTypes) {
      check({dimension, 3, 45, type});
      check({dimension, 2, 28, type, 9});
    }
  }
}

TEST_P(AttentionOn, EveryNumberOfRows) {
  for (int rows = 1; rows <= 33; ++rows) {
    check({32, 1 + rows % 5, rows % 7 * 11, nth_kv_type(rows), rows});
    check({32, 4, 0, nth_kv_type(rows + 1), rows, 12});
  }
}

TEST_P(AttentionOn, ManyHeads) {
  for (const int heads : {4, 5, 6, 7, 8, 12, 16, 33, 64}) {
    for (const KvType type : kKvTypes) check({64, heads, 40, type, heads > 8 ? 1 : 5});
  }
}

TEST_P(AttentionOn, ManyPositions) {
  for (const KvType type : kKvTypes) {
    check({16, 4, 2047, type});
    check({16, 3, 511, type});
    check({16, 3, 512, type});
    check({32, 2, slow() ? 1030 : 2500, type, 7});
    check({16, 2, 500, type, 30});  // rows on both sides of a span's end
  }
}

TEST_P(AttentionOn, Windows) {
  for (int64_t position = 0; position < 70; position += 3) {
    for (const KvType type : kKvTypes) {
      check({8, 2, position, type, 1, 20});
      check({40, 1, position, type, 1, 1});
      check({32, 3, position, type, 17, 5});
    }
  }
  for (const KvType type : kKvTypes) {
    check({16, 3, 500, type, 21, 40});
    check({16, 2, 1000, type, 33, 512});
    check({16, 2, 1520, type, 20, 600, 0, 5.0f, true});
  }
}

TEST_P(AttentionOn, Chunks) {
  for (const KvType type : kKvTypes) {
    for (const int64_t start : {1, 31, 32, 45}) {
      check({.head_dimension = 16, .heads = 2, .position = 45, .type = type, .start = start});
      check({.head_dimension = 8,
             .heads = 3,
             .position = 60,
             .type = type,
             .rows = 17,
             .start = start});
    }
    for (const int64_t start : {480, 512, 700}) {
      check({.head_dimension = 16,
             .heads = 2,
             .position = 1300,
             .type = type,
             .rows = 20,
             .start = start});
    }
  }
}

TEST_P(AttentionOn, CapsSinksAndShorterValues) {
  for (const int64_t position : {0, 5, 31, 32, 70}) {
    for (const KvType type : kKvTypes) {
      check({24, 3, position, type, 3, 0, 0, 5.0f});
      check({24, 3, position, type, 1, 0, 0, 0, true});
      check({72, 2, position, type, 2, position / 2 + 1, 40, 0.5f, true});
      check({12, 1, position, type, 1, 0, 5});
    }
  }
}

// Latent attention: 576 elements of a key, of which 512 are the value.
TEST_P(AttentionOn, ValuesInKeys) {
  for (const KvType type : kKvTypes) {
    check({.head_dimension = 576,
           .heads = 16,
           .position = 37,
           .type = type,
           .value_dimension = 512,
           .value_in_key = true});
    check({.head_dimension = 40,
           .heads = 3,
           .position = 520,
           .type = type,
           .rows = 4,
           .value_dimension = 24,
           .value_in_key = true});
    check({.head_dimension = 20,
           .heads = 2,
           .position = 30,
           .type = type,
           .rows = 9,
           .window = 8,
           .value_dimension = 13,
           .value_in_key = true});
  }
}

// A later position of the same page may hold anything: a row is not told apart from a neighbour by
// what only the neighbour sees.
TEST_P(AttentionOn, WhatLaterRowsSeeDoesNotTouchEarlierOnes) {
  for (const KvType type : {KvType::kF32, KvType::kF16}) {
    const AttentionCase c = {16, 2, 5, type, 6};
    Cache cache(table(), c);
    const auto q = random_queries(c);
    const auto before = Attending(table(), c, cache, q).whole(6, 2);
    for (const float odd : {INFINITY, NAN, -0.0f}) {
      cache.store(table(), 9, true, std::vector<float>(16, odd));
      cache.store(table(), 9, false, std::vector<float>(16, odd));
      const auto after = Attending(table(), c, cache, q).whole(6, 2);
      EXPECT_EQ(std::memcmp(before.data(), after.data(), 4 * 2 * 16 * 4), 0) << odd;
      EXPECT_NE(std::memcmp(before.data(), after.data(), 5 * 2 * 16 * 4), 0) << odd;
    }
  }
}

// What q8_0 costs, from its steps alone: a key's element moves by half a step of its block, so a
// score by at most the sum of |q| times that; a weight's ratio to another by e to twice the largest
// such move; a value by half a step of its own.
TEST_P(AttentionOn, Q8StaysWithinItsStepsOfF32) {
  for (const int dimension : {16, 64, 80, 128}) {
    const AttentionCase exact = {dimension, 4, 90, KvType::kF32},
                        coarse = {dimension, 4, 90, KvType::kQ8_0};
    const Cache exact_cache(table(), exact), cache(table(), coarse);
    const auto q = random_queries(exact);
    const auto a = Attending(table(), exact, exact_cache, q).whole(1, 4),
               b = Attending(table(), coarse, cache, q).whole(1, 4);
    // The largest magnitudes are 3 and 1, and a scale is rounded up by at most 2^-10 of it.
    const double key_step = 3.0 / 127 * (1 + 0x1p-10), value_step = key_step / 3;
    double worst = 0;
    for (int h = 0; h < 4; ++h) {
      double query = 0;
      for (int i = 0; i < dimension; ++i)
        query += std::fabs(static_cast<double>(q[static_cast<size_t>(h * dimension + i)]));
      const double score_move = query * key_step / 2 / std::sqrt(dimension);
      const double bound = std::expm1(2 * score_move) + value_step / 2 + 1e-4;
      for (int i = 0; i < dimension; ++i) {
        const auto at = static_cast<size_t>(h * dimension + i);
        const double difference =
            std::fabs(static_cast<double>(a[at]) - static_cast<double>(b[at]));
        ASSERT_LE(difference, bound);
        worst = std::max(worst, difference);
      }
    }
    EXPECT_GT(worst, 1e-5);  // it is another cache
    EXPECT_LT(worst, 0.02);  // as it comes out, errors do not add up
  }
}

// Lanes are never added across but in one order, and exp is one polynomial: machines of one cluster
// agree here whatever their vectors.
TEST_P(AttentionOn, SameBitsAsOnEveryMachine) {
  if (GetParam() == Isa::kReference) return;  // computes in double
  std::vector<float> all;
  for (const AttentionCase& c : {AttentionCase{64, 4, 700, KvType::kF16, 5},
                                 {80, 3, 90, KvType::kQ8_0, 3, 50, 0, 20.0f, true},
                                 {40, 12, 33, KvType::kF32, 2},
                                 {.head_dimension = 72,
                                  .heads = 16,
                                  .position = 40,
                                  .type = KvType::kQ8_0,
                                  .value_dimension = 56,
                                  .value_in_key = true}}) {
    const KernelTable& table = *kernels_for(GetParam());
    const Cache cache(table, c);
    const auto out = Attending(table, c, cache, random_queries(c)).whole(c.rows, c.heads);
    all.insert(all.end(), out.begin(), out.end());
  }
  EXPECT_EQ(digest_of(all.data(), all.size() * 4), kept_digest("attention"));
}

// --- the backend ---

// A program of nothing but one layer of attention.
struct Layer {
  CacheGroupSpec group;
  int heads;

  Program program() const {
    Program p;
    const int64_t kv = int64_t{group.kv_heads} * group.head_dimension;
    const int64_t out = int64_t{heads} * group.value_dimension();
    p.buffers = {{"q", int64_t{heads} * group.head_dimension},
                 {"k", kv},
                 {"v", kv},
                 {"out", out},
                 {"hidden", out, Rows::kWanted},
                 {"logits", 1, Rows::kWanted}};
    p.weights = {{"head", {}, WeightUse::kMatrix}};
    p.cache_groups = {group};
    std::vector<int> query_to_kv;
    for (int h = 0; h < heads; ++h) query_to_kv.push_back(h * group.kv_heads / heads);
    p.segments = {{{Attend{0, 0, 0, 1, 2, 3, query_to_kv, 0.2f}}, 3},
                  {{Gather{3, 4}, Project{4, {{0, {}, 5}}}}, {}}};
    p.hidden = 4;
    p.logits = 5;
    p.vocabulary = {0, 1};
    p.vocabulary_size = 1;
    return p;
  }
  // What rows [0, positions) attend to, in steps of `chunk`; another sequence of one row is always
  // there too where `company`.
  std::vector<float> attend(Isa isa, int threads, KvType type, int64_t positions, int64_t chunk,
                            bool company) const {
    const auto backend = make_cpu_backend(isa, threads);
    const Program p = program();
    const int64_t pages = positions / kPageTokens + 1;
    EXPECT_TRUE(backend->prepare(p, {chunk + 1, 1, positions}));
    const std::vector<std::byte> zeros(static_cast<size_t>(p.buffers[4].width) * 4);
    EXPECT_TRUE(backend->load(0, {"head", ElementType::kF32, 1, p.buffers[4].width, zeros}));
    EXPECT_TRUE(backend->allocate_kv(type, std::vector<int64_t>{pages + 1}));
    std::vector<PageId> table;
    for (int64_t i = 0; i < pages; ++i) table.push_back(static_cast<PageId>(pages - i));
    const std::vector<PageId> other = {0};
    std::vector<float> result;
    for (int64_t done = 0; done < positions; done += chunk) {
      const int64_t rows = std::min(chunk, positions - done), alone = company ? 1 : 0;
      std::vector<int32_t> at(static_cast<size_t>(alone), 3), sequences(at.size(), 1);
      for (int64_t r = 0; r < rows; ++r) {
        at.push_back(static_cast<int32_t>(done + r));
        sequences.push_back(0);
      }
      for (const BufferId id : {0, 1, 2}) {
        const int64_t width = p.buffers[static_cast<size_t>(id)].width;
        const auto values = backend->rows(id, 0, rows + alone);
        for (int64_t i = 0; i < rows * width; ++i)
          values[static_cast<size_t>(alone * width + i)] = static_cast<float>(
              2 * uniform(static_cast<uint64_t>(id), static_cast<uint64_t>(done * width + i)) - 1);
      }
      const std::vector<int32_t> tokens(at.size(), 0);
      const std::vector<Role> roles(at.size(), Role::kPrompt);
      EXPECT_TRUE(backend->run(0, {tokens, at, roles, sequences, {}, {{table, other}}}));
      const auto out =
          backend->rows(3, 0, rows + alone).subspan(static_cast<size_t>(alone * p.buffers[3].width));
      result.insert(result.end(), out.begin(), out.end());
    }
    return result;
  }
};

TEST_P(AttentionOn, TheBackendsBitsDoNotDependOnThreadsOrChunks) {
  const Layer layers[] = {
      {{.layer_count = 1, .kv_heads = 1, .head_dimension = 16}, 3},
      {{.layer_count = 1, .kv_heads = 2, .head_dimension = 16, .window = 700}, 10},
      {{.layer_count = 1, .kv_heads = 1, .head_dimension = 16, .window = 330, .chunked = true}, 6},
      {{.layer_count = 1, .kv_heads = 1, .head_dimension = 24, .value_in_key = 16}, 20}};
  const int64_t positions = slow() ? 560 : 1500;
  for (const Layer& layer : layers) {
    const KvType type = layer.heads == 3    ? KvType::kF16
                        : layer.heads == 10 ? KvType::kQ8_0
                                            : KvType::kF32;
    const auto expected = layer.attend(GetParam(), 1, type, positions, 1, false);
    const auto expect_same = [&](int threads, int64_t chunk, bool company) {
      const auto got = layer.attend(GetParam(), threads, type, positions, chunk, company);
      ASSERT_EQ(got.size(), expected.size());
      EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * 4), 0)
          << layer.heads << " heads, " << threads << " threads, chunks of " << chunk;
    };
    expect_same(1, 100, true);
    expect_same(2, 7, false);
    expect_same(3, 1, true);
    expect_same(3, 64, false);
    expect_same(7, 2, true);
    expect_same(2, positions, false);
  }
}

// Every row, head and span belongs to one unit, and no parts overlap or go beyond what was asked.
TEST(AttendPlan, CoversEverythingOnce) {
  const CacheGroupSpec group = {.layer_count = 1, .kv_heads = 2, .head_dimension = 16};
  const std::vector<int> query_to_kv = {0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const std::vector<std::vector<int32_t>> steps = {
      {5000}, {4, 9000, 3}, {510, 511, 512, 513}, std::vector<int32_t>(40, 1200)};
  for (const int threads : {1, 2, 3, 16}) {
    for (const auto& positions : steps) {
      std::vector<int32_t> sequences;
      for (size_t i = 0; i < positions.size(); ++i)
        sequences.push_back(i > 0 && positions[i] == positions[i - 1] + 1 ? sequences.back()
                                                                          : static_cast<int>(i));
      const auto rows = static_cast<int64_t>(positions.size());
      const int64_t floats = AttendPlan::most_part_floats(group, query_to_kv, rows, 10000, threads);
      StepBatch batch;
      batch.positions = positions;
      batch.sequences = sequences;
      AttendPlan plan;
      plan.make(group, query_to_kv, batch, threads, floats);
      std::vector<int> covered(positions.size() * query_to_kv.size(), 0);
      std::vector<int64_t> spans(plan.blocks().size(), 0);
      int64_t parts = 0;
      for (const AttendUnit& unit : plan.units())
        spans[static_cast<size_t>(unit.block)] += unit.span < 0 ? 1000 : 1;
      for (size_t i = 0; i < plan.blocks().size(); ++i) {
        const AttendBlock& block = plan.blocks()[i];
        EXPECT_LE(block.rows * block.heads, kTaskQueries);
        EXPECT_EQ(spans[i], block.part < 0 ? 1000 : block.span_count);
        for (int64_t r = block.row; r < block.row + block.rows; ++r) {
          for (int64_t h = block.head; h < block.head + block.heads; ++h) {
            ++covered[static_cast<size_t>(r) * query_to_kv.size() + static_cast<size_t>(h)];
            EXPECT_EQ(query_to_kv[static_cast<size_t>(h)],
                      query_to_kv[static_cast<size_t>(block.head)]);
          }
          EXPECT_EQ(sequences[static_cast<size_t>(r)], sequences[static_cast<size_t>(block.row)]);
        }
        if (block.part < 0) continue;
        EXPECT_EQ(block.part, parts);
        parts += block.span_count * block.rows * block.heads * part_floats(16);
      }
      EXPECT_LE(parts, floats);
      for (const int times : covered) EXPECT_EQ(times, 1);
      if (threads == 16 && rows == 1) {
        EXPECT_EQ(plan.units().size(), 3u * 10);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionOn, testing::ValuesIn(built_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace shoal::kernels_test
