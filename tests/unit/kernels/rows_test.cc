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
  bool f16;
};

void check_attention(const KernelTable& table, const AttentionCase& c) {
  SCOPED_TRACE(testing::Message() << "dimension " << c.head_dimension << ", heads " << c.heads
                                  << ", positions " << c.first << " to " << c.last
                                  << (c.f16 ? ", f16" : ", f32"));
  Random random(static_cast<uint64_t>(c.last * 1000 + c.head_dimension));
  const int64_t pages = c.last / kPageTokens + 1;
  const auto block = static_cast<size_t>(kPageTokens * c.head_dimension);
  // Pages lie in the store in another order than in the sequence, with a page of NaN between them.
  std::vector<int32_t> page_table(static_cast<size_t>(pages));
  for (int64_t i = 0; i < pages; ++i)
    page_table[static_cast<size_t>(i)] = static_cast<int32_t>(2 * (pages - 1 - i));
  const size_t page_elements = 2 * block;
  std::vector<float> store(page_elements * static_cast<size_t>(2 * pages), NAN);
  const auto at = [&](int64_t position, bool value) {
    return static_cast<size_t>(page_table[static_cast<size_t>(position / kPageTokens)]) *
               page_elements +
           (value ? block : 0) + static_cast<size_t>(position % kPageTokens * c.head_dimension);
  };
  for (int64_t p = c.first; p <= c.last; ++p) {
    for (int i = 0; i < c.head_dimension; ++i) {
      store[at(p, false) + static_cast<size_t>(i)] = random.symmetric() * 3;
      store[at(p, true) + static_cast<size_t>(i)] = random.symmetric();
    }
  }
  std::vector<uint16_t> halves(store.size());
  for (size_t i = 0; i < store.size(); ++i) {
    halves[i] = float_to_half(store[i]);
    if (c.f16) store[i] = half_to_float(halves[i]);
  }
  std::vector<float> q(static_cast<size_t>(c.heads * c.head_dimension));
  for (float& x : q) x = random.symmetric() * 3;
  alignas(64) double scratch[16 * 300];
  std::vector<float> out(q.size() + 1, -7.0f);
  const size_t element = c.f16 ? 2 : 4;
  const auto* bytes = c.f16 ? reinterpret_cast<const uint8_t*>(halves.data())
                            : reinterpret_cast<const uint8_t*>(store.data());
  const float scale = 1 / std::sqrt(static_cast<float>(c.head_dimension));
  table.attend({.q = q.data(),
                .k = bytes,
                .v = bytes + block * element,
                .page_stride_bytes = static_cast<int64_t>(page_elements * element),
                .pages = page_table.data(),
                .f16 = c.f16,
                .heads = c.heads,
                .head_dimension = c.head_dimension,
                .first_position = c.first,
                .last_position = c.last,
                .scale = scale,
                .scratch = scratch,
                .out = out.data()});
  for (int h = 0; h < c.heads; ++h) {
    std::vector<double> scores, expected(static_cast<size_t>(c.head_dimension), 0.0);
    double largest = -INFINITY, total = 0;
    for (int64_t p = c.first; p <= c.last; ++p) {
      double score = 0;
      for (int i = 0; i < c.head_dimension; ++i) {
        score += static_cast<double>(q[static_cast<size_t>(h * c.head_dimension + i)]) *
                 static_cast<double>(store[at(p, false) + static_cast<size_t>(i)]);
      }
      scores.push_back(score * static_cast<double>(scale));
      largest = std::max(largest, scores.back());
    }
    for (int64_t p = c.first; p <= c.last; ++p) {
      const double weight = std::exp(scores[static_cast<size_t>(p - c.first)] - largest);
      total += weight;
      for (int i = 0; i < c.head_dimension; ++i) {
        expected[static_cast<size_t>(i)] +=
            weight * static_cast<double>(store[at(p, true) + static_cast<size_t>(i)]);
      }
    }
    for (int i = 0; i < c.head_dimension; ++i) {
      // A score is a sum of `dimension` products of up to 9: its rounding moves a weight by as
      // much, relatively; values are below 1, so a sum of weights over a total moves by no more
      // than twice that.
      const double score_error =
          9.0 * c.head_dimension * static_cast<double>(scale) * c.head_dimension * 0x1p-24;
      ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>(h * c.head_dimension + i)]),
                  expected[static_cast<size_t>(i)] / total, 2 * score_error + 64 * 0x1p-24);
    }
  }
  ASSERT_EQ(out.back(), -7.0f);
}

TEST_P(RowsOn, AttentionAtEveryLength) {
  for (int64_t last = 0; last < 100; ++last) {
    check_attention(table(), {16, 1 + static_cast<int>(last % 3), 0, last, last % 2 == 0});
  }
}

TEST_P(RowsOn, AttentionOverWindows) {
  for (int64_t first = 0; first < 70; first += 3) {
    check_attention(table(), {8, 2, first, first + 20, first % 2 == 0});
    check_attention(table(), {8, 1, first, first, first % 2 == 1});
  }
}

TEST_P(RowsOn, AttentionAtManyDimensions) {
  for (const int dimension : {1, 4, 7, 8, 12, 20, 64, 72, 80, 96, 128, 136, 256}) {
    for (const bool f16 : {false, true}) check_attention(table(), {dimension, 3, 0, 45, f16});
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
                    .f16 = false,
                    .heads = heads,
                    .head_dimension = kDimension,
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
