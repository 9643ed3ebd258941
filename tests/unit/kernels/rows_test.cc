// Norms, gates, rotations and attention of every instruction set against double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/kernel_table.h"
#include "kernels/rope_table.h"
#include "kernels/small_floats.h"
#include "random_weights.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

class RowsOn : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam()))
      GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(GetParam());
  }
  const KernelTable& table() const { return *kernels_for(GetParam()); }
};

TEST_P(RowsOn, NormAtEveryWidth) {
  Random random(1);
  for (int64_t width = 1; width < 70; ++width) {
    std::vector<float> x(static_cast<size_t>(width)), weight(x.size()), out(x.size() + 1, -7.0f);
    double squares = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = random.symmetric() * 5;
      weight[i] = random.symmetric();
      squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    table().rms_norm(x.data(), weight.data(), width, 1e-5f, out.data());
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = static_cast<double>(x[i]) * scale * static_cast<double>(weight[i]);
      ASSERT_NEAR(static_cast<double>(out[i]), expected, 2e-6 * std::fabs(expected));
    }
    ASSERT_EQ(out.back(), -7.0f);
  }
}

// silu(x) for x far below 0 is x e^x: it shows the error of the vector exp, promised under 1.5e-7;
// the sum, division and product that follow add half an ulp each.
TEST_P(RowsOn, SiluOverTheWholeRange) {
  double worst = 0;
  for (double start = -87; start < 87; start += 0.25) {
    float x[32], one[32], out[32];
    for (int i = 0; i < 32; ++i)
      x[i] = static_cast<float>(start + 0.25 * i / 32 + 1e-4), one[i] = 1;
    table().gate(GateKind::kSilu, x, one, 32, out);
    for (int i = 0; i < 32; ++i) {
      const auto exact = static_cast<double>(x[i]) / (1 + std::exp(-static_cast<double>(x[i])));
      worst = std::max(worst, std::fabs(static_cast<double>(out[i]) / exact - 1));
    }
  }
  EXPECT_LT(worst, 1.5e-7 + 3 * 0x1p-24);
}

TEST_P(RowsOn, GatesAtTheirEdges) {
  const float x[] = {0.0f, -0.0f, -100.0f, 100.0f, -1e30f, 1e30f, 88.8f, -88.8f, 1e-40f};
  const float up[] = {2, 2, 2, 2, 2, 2, 2, 2, 2};
  for (const GateKind kind : {GateKind::kSilu, GateKind::kGeluTanh}) {
    float out[9];
    table().gate(kind, x, up, 9, out);
    for (int i = 0; i < 9; ++i) {
      const double expected = x[i] > 0 ? 2 * static_cast<double>(x[i]) : 0;
      if (x[i] == 1e-40f) {
        EXPECT_NEAR(static_cast<double>(out[i]), 1e-40, 1e-44);
      } else {
        EXPECT_NEAR(static_cast<double>(out[i]), expected, 1e-6 * std::fabs(expected) + 1e-30)
            << x[i];
      }
    }
  }
}

TEST_P(RowsOn, GeluIsTheTanhForm) {
  Random random(2);
  for (int64_t count = 1; count < 40; ++count) {
    std::vector<float> x(static_cast<size_t>(count)), up(x.size()), out(x.size() + 1, -7.0f);
    for (size_t i = 0; i < x.size(); ++i) x[i] = random.symmetric() * 6, up[i] = random.symmetric();
    table().gate(GateKind::kGeluTanh, x.data(), up.data(), count, out.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const auto v = static_cast<double>(x[i]);
      const double gelu =
          0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
      // Far below zero 1 + tanh cancels in either form: an error relative to x, not to the result.
      ASSERT_NEAR(static_cast<double>(out[i]), gelu * static_cast<double>(up[i]),
                  1e-6 * (std::fabs(gelu) + 1e-2));
    }
    ASSERT_EQ(out.back(), -7.0f);
  }
}

// --- attention ---

struct AttentionCase {
  int head_dimension;
  int heads;
  int64_t first, last;
  KvType type;
  int value_dimension = 0;  // 0: that of the head
  float soft_cap = 0;
  bool sinks = false;

  int width() const { return value_dimension > 0 ? value_dimension : head_dimension; }
  float sink(int head) const { return 0.7f - 0.4f * static_cast<float>(head); }
};

// A cache of one layer and KV head of random keys and values, laid out page by page as kernels want
// it. Pages lie in another order than in the sequence, with a page of NaN between them.
struct Cache {
  Cache(const KernelTable& table, const AttentionCase& c)
      : block_bytes(static_cast<size_t>(kPageTokens) * kv_head_bytes(c.type, c.head_dimension)) {
    Random random(static_cast<uint64_t>(c.last * 1000 + c.head_dimension));
    const int64_t pages = c.last / kPageTokens + 1;
    for (int64_t i = 0; i < pages; ++i)
      page_table.push_back(static_cast<int32_t>(2 * (pages - 1 - i)));
    bytes.resize(2 * block_bytes * static_cast<size_t>(2 * pages), 0xff);  // NaN in every type
    for (int64_t p = 0; p <= c.last; ++p) {
      for (const bool value : {false, true}) {
        std::vector<float> row(static_cast<size_t>(c.head_dimension));
        for (float& x : row) x = random.symmetric() * (value ? 1 : 3);
        (value ? values : keys).push_back(row);
        if (p >= c.first) store(table, c, p, value, row);
      }
    }
  }
  // Replaces the row by what the cache then holds of it.
  void store(const KernelTable& table, const AttentionCase& c, int64_t position, bool value,
             const std::vector<float>& row) {
    uint8_t* page =
        &bytes[static_cast<size_t>(page_table[static_cast<size_t>(position / kPageTokens)]) * 2 *
                   block_bytes +
               (value ? block_bytes : 0)];
    const int64_t offset = position % kPageTokens, first = offset * c.head_dimension;
    std::vector<float>& kept = (value ? values : keys).back();
    switch (c.type) {
      case KvType::kF32:
        std::memcpy(page + 4 * first, row.data(), row.size() * 4);
        break;
      case KvType::kF16: {
        auto* halves = reinterpret_cast<uint16_t*>(page + 2 * first);
        table.store_f16(row.data(), c.head_dimension, halves);
        for (size_t i = 0; i < row.size(); ++i) kept[i] = half_to_float(halves[i]);
        break;
      }
      case KvType::kQ8_0: {
        auto* codes = reinterpret_cast<int8_t*>(page + first);
        auto* scales = reinterpret_cast<uint16_t*>(page + kPageTokens * c.head_dimension) +
                       offset * ((c.head_dimension + 31) / 32);
        table.store_q8(row.data(), c.head_dimension, codes, scales);
        for (size_t i = 0; i < row.size(); ++i)
          kept[i] = half_to_float(scales[i / 32]) * static_cast<float>(codes[i]);
        break;
      }
    }
  }
  size_t block_bytes;
  std::vector<int32_t> page_table;
  std::vector<uint8_t> bytes;
  std::vector<std::vector<float>> keys, values;  // by position, as kept
};

std::vector<float> attended(const KernelTable& table, const AttentionCase& c, const Cache& cache,
                            const std::vector<float>& q) {
  alignas(64) double scratch[16 * 300];
  std::vector<float> out(static_cast<size_t>(c.heads * c.width()) + 1, -7.0f);
  std::vector<float> sinks;
  for (int head = 0; head < c.heads; ++head) sinks.push_back(c.sink(head));
  table.attend({.q = q.data(),
                .k = cache.bytes.data(),
                .v = cache.bytes.data() + cache.block_bytes,
                .page_stride_bytes = static_cast<int64_t>(2 * cache.block_bytes),
                .pages = cache.page_table.data(),
                .type = c.type,
                .heads = c.heads,
                .head_dimension = c.head_dimension,
                .value_dimension = c.width(),
                .first_position = c.first,
                .last_position = c.last,
                .scale = 1 / std::sqrt(static_cast<float>(c.head_dimension)),
                .soft_cap = c.soft_cap,
                .sinks = c.sinks ? sinks.data() : nullptr,
                .scratch = scratch,
                .out = out.data()});
  EXPECT_EQ(out.back(), -7.0f);
  out.pop_back();
  return out;
}

std::vector<float> random_queries(const AttentionCase& c) {
  Random random(static_cast<uint64_t>(c.last + 7));
  std::vector<float> q(static_cast<size_t>(c.heads * c.head_dimension));
  for (float& x : q) x = random.symmetric() * 3;
  return q;
}

std::vector<double> expected_attention(const AttentionCase& c, const Cache& cache, const float* q,
                                       int head) {
  const auto dimension = static_cast<size_t>(c.head_dimension);
  const auto scale = static_cast<double>(1 / std::sqrt(static_cast<float>(c.head_dimension)));
  std::vector<double> scores, expected(dimension, 0.0);
  double largest = -INFINITY, total = 0;
  for (int64_t p = c.first; p <= c.last; ++p) {
    double score = 0;
    for (size_t i = 0; i < dimension; ++i) {
      score +=
          static_cast<double>(q[i]) * static_cast<double>(cache.keys[static_cast<size_t>(p)][i]);
    }
    score *= scale;
    if (c.soft_cap > 0) {
      const auto cap = static_cast<double>(c.soft_cap);
      score = cap * std::tanh(score / cap);
    }
    scores.push_back(score);
    largest = std::max(largest, scores.back());
  }
  for (int64_t p = c.first; p <= c.last; ++p) {
    const double weight = std::exp(scores[static_cast<size_t>(p - c.first)] - largest);
    total += weight;
    for (size_t i = 0; i < dimension; ++i) {
      expected[i] += weight * static_cast<double>(cache.values[static_cast<size_t>(p)][i]);
    }
  }
  if (c.sinks) total += std::exp(static_cast<double>(c.sink(head)) - largest);
  for (double& x : expected) x /= total;
  return expected;
}

void check_attention(const KernelTable& table, const AttentionCase& c) {
  SCOPED_TRACE(testing::Message() << "dimension " << c.head_dimension << ", heads " << c.heads
                                  << ", positions " << c.first << " to " << c.last << ", "
                                  << kv_type_name(c.type));
  const Cache cache(table, c);
  const auto q = random_queries(c);
  const auto out = attended(table, c, cache, q);
  // A score is a sum of `dimension` products of up to 9: its rounding moves a weight by as much,
  // relatively; values are below 1, so a sum of weights over a total moves by no more than twice
  // that.
  const double score_error = 9.0 * std::sqrt(c.head_dimension) * c.head_dimension * 0x1p-24;
  for (int h = 0; h < c.heads; ++h) {
    const auto expected =
        expected_attention(c, cache, &q[static_cast<size_t>(h * c.head_dimension)], h);
    for (int i = 0; i < c.width(); ++i) {
      ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(h * c.width() + i)]),
                  expected[static_cast<size_t>(i)], 2 * score_error + 64 * 0x1p-24);
    }
  }
}

TEST_P(RowsOn, AttentionWithACapOrSinksOrShorterValues) {
  for (const int64_t last : {0, 5, 31, 32, 70}) {
    for (const KvType type : kKvTypes) {
      check_attention(table(), {24, 3, 0, last, type, 0, 5.0f});
      check_attention(table(), {24, 3, 0, last, type, 0, 0, true});
      check_attention(table(), {72, 2, last / 2, last, type, 40, 0.5f, true});
      check_attention(table(), {12, 1, 0, last, type, 5});
    }
  }
}

KvType nth_kv_type(int64_t n) {
  return kKvTypes[static_cast<size_t>(n) % std::size(kKvTypes)];
}

TEST_P(RowsOn, AttentionAtEveryLength) {
  for (int64_t last = 0; last < 100; ++last) {
    check_attention(table(), {16, 1 + static_cast<int>(last / 3 % 3), 0, last, nth_kv_type(last)});
  }
}

TEST_P(RowsOn, AttentionOverWindows) {
  for (int64_t first = 0; first < 70; first += 3) {
    for (const KvType type : kKvTypes) {
      check_attention(table(), {8, 2, first, first + 20, type});
      check_attention(table(), {40, 1, first, first, type});
    }
  }
}

TEST_P(RowsOn, AttentionAtManyDimensions) {
  for (const int dimension : {1, 4, 7, 8, 12, 20, 64, 72, 80, 96, 128, 136, 256}) {
    for (const KvType type : kKvTypes) check_attention(table(), {dimension, 3, 0, 45, type});
  }
}

// What q8_0 costs, from its steps alone: a key's element moves by half a step of its block, so a
// score by at most the sum of |q| times that; a weight's ratio to another by e to twice the largest
// such move; a value by half a step of its own.
TEST_P(RowsOn, AttentionOverQ8StaysWithinItsStepsOfF32) {
  for (const int dimension : {16, 64, 80, 128}) {
    const AttentionCase exact = {dimension, 4, 0, 90, KvType::kF32},
                        coarse = {dimension, 4, 0, 90, KvType::kQ8_0};
    const Cache exact_cache(table(), exact), cache(table(), coarse);
    const auto q = random_queries(exact);
    const auto a = attended(table(), exact, exact_cache, q),
               b = attended(table(), coarse, cache, q);
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

TEST_P(RowsOn, StoringQ8MovesAnElementByHalfAStepAtMost) {
  Random random(23);
  for (int64_t count = 1; count <= 100; ++count) {
    std::vector<float> in(static_cast<size_t>(count));
    const int exponent = static_cast<int>(random.below(40)) - 25;
    for (float& x : in) x = std::ldexp(random.symmetric(), exponent);
    std::vector<int8_t> codes(in.size() + 1, 99);
    std::vector<uint16_t> scales(static_cast<size_t>((count + 31) / 32 + 1), 0x1234);
    table().store_q8(in.data(), count, codes.data(), scales.data());
    EXPECT_EQ(codes.back(), 99);
    EXPECT_EQ(scales.back(), 0x1234);
    for (int64_t i = 0; i < count; ++i) {
      double largest = 0;
      for (int64_t j = i / 32 * 32; j < std::min(count, i / 32 * 32 + 32); ++j)
        largest = std::max(largest, std::fabs(static_cast<double>(in[static_cast<size_t>(j)])));
      const double step = half_value(scales[static_cast<size_t>(i / 32)]);
      ASSERT_GE(step * 127, largest * (1 - 1e-6));
      ASSERT_LE(step, largest / 127 * (1 + 0x1p-10) + 0x1p-24);
      const double kept = step * codes[static_cast<size_t>(i)];
      ASSERT_LE(std::fabs(kept - static_cast<double>(in[static_cast<size_t>(i)])), step * 0.5001);
    }
  }
}

TEST(StoreQ8, HasTheSameBitsOnEveryInstructionSet) {
  if (!machine_has(Isa::kAvx2)) GTEST_SKIP() << "NOT TESTED: this machine lacks avx2";
  Random random(24);
  std::vector<float> in(20 * 100);
  for (size_t i = 0; i < in.size(); ++i)
    in[i] = std::ldexp(random.symmetric(), static_cast<int>(i / 100) * 8 - 130);
  in[0] = 0;
  for (size_t i = 300; i < 364; ++i) in[i] = i % 2 ? -0.0f : 0.0f;
  for (size_t i = 400; i < 464; ++i) in[i] = i % 2 ? -127.0f : 63.5f;  // ties
  for (size_t i = 1; i < 20; ++i) {
    const auto count = static_cast<int64_t>(100 - i);
    std::vector<int8_t> codes[2];
    std::vector<uint16_t> scales[2];
    for (int k = 0; k < 2; ++k) {
      codes[k].resize(100);
      scales[k].resize(4);
      kernels_for(kAllIsas[k])->store_q8(&in[100 * i], count, codes[k].data(), scales[k].data());
    }
    EXPECT_EQ(codes[0], codes[1]) << i;
    EXPECT_EQ(scales[0], scales[1]) << i;
  }
}

// Not a number, infinite or beyond what scales can say: it must not come back as a plain number.
TEST_P(RowsOn, StoringQ8DoesNotHideWhatItCannotKeep) {
  for (const float odd : {NAN, INFINITY, -INFINITY, 1e38f}) {
    std::vector<float> in(64, 1.0f);
    in[40] = odd;
    int8_t codes[64];
    uint16_t scales[2];
    table().store_q8(in.data(), 64, codes, scales);
    EXPECT_EQ(half_to_float(scales[0]) * static_cast<float>(codes[0]),
              1.0f * 127 * half_to_float(scales[0]));
    EXPECT_FALSE(std::isfinite(half_to_float(scales[1])));
  }
}

TEST_P(RowsOn, AttentionOfAHeadDoesNotDependOnItsNeighbours) {
  constexpr int kDimension = 24, kHeads = 5;
  Random random(4);
  std::vector<float> store(2 * kPageTokens * kDimension * 2), q(kHeads * kDimension);
  for (float& x : store) x = random.symmetric();
  for (float& x : q) x = random.symmetric();
  const int32_t pages[] = {1, 0};
  const auto run = [&](int first, int heads) {
    alignas(64) double scratch[kHeads * (kDimension + 8)];
    std::vector<float> out(static_cast<size_t>(heads * kDimension));
    const auto* bytes = reinterpret_cast<const uint8_t*>(store.data());
    table().attend({.q = q.data() + first * kDimension,
                    .k = bytes,
                    .v = bytes + kPageTokens * kDimension * 4,
                    .page_stride_bytes = kPageTokens * kDimension * 8,
                    .pages = pages,
                    .type = KvType::kF32,
                    .heads = heads,
                    .head_dimension = kDimension,
                    .value_dimension = kDimension,
                    .first_position = 0,
                    .last_position = 50,
                    .scale = 0.2f,
                    .scratch = scratch,
                    .out = out.data()});
    return out;
  };
  const auto together = run(0, kHeads);
  for (int h = 0; h < kHeads; ++h) {
    EXPECT_EQ(std::memcmp(run(h, 1).data(), &together[static_cast<size_t>(h * kDimension)],
                          kDimension * 4),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RowsOn, testing::ValuesIn(kAllIsas),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

// --- rotations ---

TEST(Rope, TurnsPairsByThePositionsAngle) {
  for (const bool interleaved : {false, true}) {
    const RopeSpec spec = {.dimensions = 6,
                           .base = 100,
                           .interleaved = interleaved,
                           .position_scale = 0.5f,
                           .amplitude = 2};
    RopeTable rope(spec);
    const float factors[] = {1, 2, 4};
    const int32_t positions[] = {0, 3, 4000};
    rope.turn_to(positions, factors);
    for (int row = 0; row < 3; ++row) {
      float head[8] = {1, 2, 3, 4, 5, 6, 7, 8};
      rotate_head(head, 6, interleaved, rope.cosines(row), rope.sines(row));
      for (int pair = 0; pair < 3; ++pair) {
        const double angle = positions[row] * 0.5 * std::pow(100.0, -2.0 * pair / 6) /
                             static_cast<double>(factors[pair]);
        const int first = interleaved ? 2 * pair : pair,
                  second = interleaved ? 2 * pair + 1 : pair + 3;
        const double a = first + 1, b = second + 1;
        EXPECT_NEAR(static_cast<double>(head[first]),
                    2 * (a * std::cos(angle) - b * std::sin(angle)), 1e-5);
        EXPECT_NEAR(static_cast<double>(head[second]),
                    2 * (a * std::sin(angle) + b * std::cos(angle)), 1e-5);
      }
      EXPECT_EQ(head[6], 7);  // beyond the rope's dimensions
      EXPECT_EQ(head[7], 8);
    }
  }
}

TEST(Rope, FollowsNewPositions) {
  RopeTable rope({.dimensions = 2, .base = 10000, .interleaved = true});
  const int32_t first[] = {1, 2}, second[] = {2}, third[] = {2, 1};
  rope.turn_to(first, {});
  const float two = rope.cosines(1)[0];
  rope.turn_to(second, {});
  EXPECT_EQ(rope.cosines(0)[0], two);
  rope.turn_to(third, {});
  EXPECT_EQ(rope.cosines(0)[0], two);
  EXPECT_NE(rope.cosines(1)[0], two);
}

}  // namespace
}  // namespace shoal::kernels_test
