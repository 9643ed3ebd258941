// Norms, gates, rotations and what caches keep, of every instruction set against double precision.
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

// --- what a cache keeps ---

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
  Random random(24);
  std::vector<float> in(20 * 100);
  for (size_t i = 0; i < in.size(); ++i)
    in[i] = std::ldexp(random.symmetric(), static_cast<int>(i / 100) * 8 - 130);
  in[0] = 0;
  for (size_t i = 300; i < 364; ++i) in[i] = i % 2 ? -0.0f : 0.0f;
  for (size_t i = 400; i < 464; ++i) in[i] = i % 2 ? -127.0f : 63.5f;  // ties
  for (size_t i = 1; i < 20; ++i) {
    const auto count = static_cast<int64_t>(100 - i);
    const auto stored = [&](Isa isa) {
      std::pair kept(std::vector<int8_t>(100), std::vector<uint16_t>(4));
      kernels_for(isa)->store_q8(&in[100 * i], count, kept.first.data(), kept.second.data());
      return kept;
    };
    for (const Isa isa : kAllIsas) {
      if (!machine_has(isa)) continue;
      EXPECT_EQ(stored(isa), stored(Isa::kReference)) << isa_name(isa) << i;
    }
  }
}

TEST_P(RowsOn, SameBitsAsOnEveryMachine) {
  if (GetParam() == Isa::kReference) return;  // computes in double
  Random random(25);
  std::vector<float> gates(1000), ups(1000), out(1000), all;
  for (size_t i = 0; i < gates.size(); ++i)
    gates[i] = std::ldexp(random.symmetric(), static_cast<int>(i % 12) - 4);
  for (float& x : ups) x = 9 * random.symmetric();
  const auto keep = [&](size_t count) {
    all.insert(all.end(), out.begin(), out.begin() + static_cast<int64_t>(count));
  };
  for (const auto kind : {GateKind::kSilu, GateKind::kGeluTanh, GateKind::kCappedSilu}) {
    table().gate(kind, gates.data(), ups.data(), 1000, out.data());
    keep(1000);
  }
  for (const int64_t width : {1, 7, 64, 333, 1000}) {
    table().rms_norm(ups.data(), gates.data(), width, 1e-5f, out.data());
    keep(static_cast<size_t>(width));
  }
  std::vector<uint16_t> halves(1000);
  table().store_f16(ups.data(), 1000, halves.data());
  EXPECT_EQ(digest_of(all.data(), all.size() * 4), kept_digest("rows"));
  EXPECT_EQ(digest_of(halves.data(), halves.size() * 2), kept_digest("halves"));
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

INSTANTIATE_TEST_SUITE_P(All, RowsOn, testing::ValuesIn(built_isas()),
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
