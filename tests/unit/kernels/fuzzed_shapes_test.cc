// Shapes, scales and alignments that nobody chose: drawn from seeds, computed by every instruction
// set of this machine, held to the bounds of the chosen cases, and alike bit for bit among vector
// instructions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention_case.h"
#include "product_case.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

std::vector<Isa> present_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAllIsas)
    if (machine_has(isa)) isas.push_back(isa);
  return isas;
}

// compute(isa) gives floats; the vector instruction sets' must be the same.
template <typename Compute>
void expect_one_answer(const Compute& compute) {
  std::vector<float> first;
  for (const Isa isa : present_isas()) {
    const std::vector<float> got = compute(isa);
    if (isa == Isa::kReference) continue;  // computes in double
    if (first.empty()) first = got;
    ASSERT_EQ(got.size(), first.size());
    EXPECT_EQ(std::memcmp(got.data(), first.data(), got.size() * sizeof(float)), 0)
        << isa_name(isa) << " has other bits";
  }
}

// --- products ---

// One to three ranges of [0, size) that begin and end on multiples of `unit`, in any order.
std::vector<Range> random_ranges(Random& random, int64_t size, int64_t unit) {
  const int64_t units = size / unit;
  std::vector<int64_t> borders;
  for (int64_t i = 2 * (1 + random.below(3)); i > 0; --i)
    borders.push_back(random.below(units + 1));
  std::ranges::sort(borders);
  std::vector<Range> ranges;
  for (size_t i = 0; i < borders.size(); i += 2) {
    if (borders[i] < borders[i + 1]) ranges.push_back({borders[i] * unit, borders[i + 1] * unit});
  }
  if (ranges.size() > 1 && random.below(3) == 0) std::swap(ranges.front(), ranges.back());
  return ranges;  // perhaps none, which keeps all
}

// Inputs of a kind: usual, of one magnitude, a magnitude for each block of 32, mostly zeros.
std::vector<float> fuzzed_inputs(Random& random, int64_t rows, int64_t columns) {
  std::vector<float> inputs = random_inputs(rows, columns, random.bits());
  const auto exponent = [&] { return static_cast<int>(random.below(5)) * 35 - 140; };  // to 2^0
  const int one = exponent();
  const int64_t kind = random.below(5);
  for (int64_t i = 0; i < rows * columns; i += 32) {
    const int some = kind == 1 ? one : exponent();
    const int64_t end = std::min(i + 32, rows * columns);
    for (int64_t at = i; at < end; ++at) {
      float& x = inputs[static_cast<size_t>(at)];
      if (kind == 1 || kind == 2) x = std::ldexp(x, some);
      if (kind == 3 && random.below(50) > 0) x = 0;
    }
  }
  return inputs;
}

Case fuzzed_product(uint64_t seed) {
  Random random(seed);
  Case c = {.type = kAllTypes[seed % std::size(kAllTypes)]};
  const int64_t block = element_traits(c.type).block_elements;
  c.rows = 1 + random.below(70);
  c.columns = block * (1 + random.below(block == 1 ? 300 : 768 / block));
  if (random.below(2) == 0) c.cut.rows = random_ranges(random, c.rows, 1);
  if (random.below(2) == 0 && c.columns >= 32) c.cut.columns = random_ranges(random, c.columns, 32);
  const Scales kinds[] = {Scales::kUsual, Scales::kUsual,     Scales::kUsual,
                          Scales::kZero,  Scales::kSubnormal, Scales::kHuge};
  c.scales = kinds[random.below(std::ssize(kinds))];
  c.inputs = fuzzed_inputs(random, 1 + random.below(33), kept(c.cut.columns, c.columns));
  c.shift = random.below(4) == 0 ? 0 : random.below(16);
  return c;
}

TEST(FuzzedShapes, Products) {
  for (uint64_t seed = 0; seed < 15 * std::size(kAllTypes); ++seed) {
    const Case c = fuzzed_product(seed);
    expect_one_answer([&](Isa isa) { return check_product(isa, c, seed); });
    if (testing::Test::HasFailure()) return;  // the first says it
  }
}

// --- attention ---

AttentionCase fuzzed_attention(uint64_t seed) {
  Random random(seed);
  const auto upto = [&](int64_t most) { return static_cast<int>(1 + random.below(most)); };
  AttentionCase c = {.head_dimension = random.below(2) == 0 ? 8 * upto(17) : upto(140),
                     .heads = random.below(8) == 0 ? upto(64) : upto(9),
                     .position = random.below(random.below(6) == 0 ? 1100 : 80),
                     .type = kKvTypes[seed % std::size(kKvTypes)],
                     .rows = random.below(3) == 0 ? 1 : upto(33)};
  if (c.position > 200) c.rows = std::min(c.rows, 3);
  if (random.below(3) == 0) c.window = upto(c.positions());
  if (c.window == 0 && random.below(4) == 0) c.start = random.below(c.position + 1);
  if (random.below(3) == 0) c.value_dimension = upto(c.head_dimension);
  if (random.below(4) == 0) c.soft_cap = static_cast<float>(upto(50));
  c.sinks = random.below(4) == 0;
  c.value_in_key = random.below(5) == 0;
  // Magnitudes that the binary16 of a cache holds; the last leave only its subnormals.
  const float sizes[] = {1, 3, 0, 1e-3f, 30, 1e-6f};
  c.key_size = sizes[random.below(std::ssize(sizes))];
  c.query_size = c.key_size > 1 ? 1 : sizes[random.below(5)];
  c.value_size = random.below(4) == 0 ? 3e4f : sizes[random.below(std::ssize(sizes))];
  c.shift = random.below(4) == 0 ? 0 : upto(15);
  c.seed = seed;
  return c;
}

TEST(FuzzedShapes, Attention) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    const AttentionCase c = fuzzed_attention(seed);
    expect_one_answer([&](Isa isa) { return check_attention(*kernels_for(isa), c); });
    if (testing::Test::HasFailure()) return;
  }
}

// --- the rest of a step ---

// `count` floats, `shift` behind where memory begins, and as many untouched ones around.
struct Row {
  Row(int64_t count, int64_t row_shift) : shift(row_shift), floats(static_cast<size_t>(count)) {
    floats.insert(floats.begin(), static_cast<size_t>(shift), kAround);
    floats.insert(floats.end(), 16, kAround);
  }
  float* data() { return floats.data() + shift; }
  int64_t size() const { return std::ssize(floats) - shift - 16; }
  bool around_is_untouched() const {
    return std::all_of(floats.begin(), floats.begin() + shift, is_around) &&
           std::all_of(floats.end() - 16, floats.end(), is_around);
  }
  std::vector<float> inner() const { return {floats.begin() + shift, floats.end() - 16}; }

  static constexpr float kAround = -7.25f;
  static bool is_around(float x) { return x == kAround; }
  int64_t shift;
  std::vector<float> floats;
};

Row random_row(Random& random, int64_t count, float size) {
  Row row(count, random.below(16));
  for (int64_t i = 0; i < count; ++i)
    row.data()[i] = random.below(20) == 0 ? 0 : random.symmetric() * size;
  return row;
}

// Squares are summed in 32 chains at least of lanes that are then joined; a root, a division and
// two products follow.
TEST(FuzzedShapes, Norms) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Random random(seed);
    const int64_t width = 1 + random.below(random.below(4) == 0 ? 3000 : 100);
    const float sizes[] = {1, 30, 0, 1e-42f, 1e-20f, 1e15f};
    Row x = random_row(random, width, sizes[random.below(std::ssize(sizes))]);
    Row weight = random_row(random, width, 2);
    double squares = 0;
    for (int64_t i = 0; i < width; ++i)
      squares += static_cast<double>(x.data()[i]) * static_cast<double>(x.data()[i]);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-6);
    const double bound = (static_cast<double>(width) / 32 + 16) * 0x1p-24;
    expect_one_answer([&](Isa isa) {
      Row out(width, random.below(16));
      kernels_for(isa)->rms_norm(x.data(), weight.data(), width, 1e-6f, out.data());
      EXPECT_TRUE(out.around_is_untouched());
      for (int64_t i = 0; i < width; ++i) {
        const double expected =
            static_cast<double>(x.data()[i]) * scale * static_cast<double>(weight.data()[i]);
        EXPECT_NEAR(static_cast<double>(out.data()[i]), expected,
                    bound * std::fabs(expected) + 1e-37)
            << isa_name(isa) << ", width " << width << ", seed " << seed;
      }
      return out.inner();
    });
    if (testing::Test::HasFailure()) return;
  }
}

struct Gated {
  double value, slack;
};

// x / (1 + e^-y) * above. y is rounded some four times, which moves e^-y by y ulps; where that
// overflows nothing is left but what 1 / e^88 is. 1 + tanh cancels below zero, in the reference's
// double too.
Gated gated(GateKind kind, double x, double above) {
  double y = x;
  if (kind == GateKind::kGeluTanh) y = 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  if (kind == GateKind::kCappedSilu) {
    const auto cap = static_cast<double>(kGateCap);
    x = std::min(x, cap);
    y = x * static_cast<double>(kGateSlope);
    above = std::clamp(above, -cap, cap) + 1;
  }
  const double value = x / (1 + std::exp(-y)) * above;
  const double moved = std::min(std::fabs(y), 90.0) * 4 + 8;
  return {value, (moved * 0x1p-24 + 1.5e-7) * std::fabs(value) + std::fabs(x * above) * 0x1p-52 +
                     std::fabs(x) * 2e-38 + std::fabs(above) * 0x1p-149 + 1e-37};
}

TEST(FuzzedShapes, Gates) {
  const GateKind kinds[] = {GateKind::kSilu, GateKind::kGeluTanh, GateKind::kCappedSilu};
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Random random(seed);
    const GateKind kind = kinds[seed % std::size(kinds)];
    const int64_t count = 1 + random.below(200);
    const float sizes[] = {1, 6, 40, 200, 1e10f, 1e-42f};
    Row x = random_row(random, count, sizes[random.below(std::ssize(sizes))]);
    Row up = random_row(random, count, sizes[random.below(std::ssize(sizes))]);
    expect_one_answer([&](Isa isa) {
      Row out(count, random.below(16));
      kernels_for(isa)->gate(kind, x.data(), up.data(), count, out.data());
      EXPECT_TRUE(out.around_is_untouched());
      for (int64_t i = 0; i < count; ++i) {
        const auto a = static_cast<double>(x.data()[i]), b = static_cast<double>(up.data()[i]);
        const Gated expected = gated(kind, a, b);
        EXPECT_NEAR(static_cast<double>(out.data()[i]), expected.value, expected.slack)
            << isa_name(isa) << ", gate " << static_cast<int>(kind) << " of " << a << " and " << b;
      }
      return out.inner();
    });
    if (testing::Test::HasFailure()) return;
  }
}

// What caches keep as f16, read back.
TEST(FuzzedShapes, StoredHalves) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    const int64_t count = 1 + random.below(200);
    const float sizes[] = {1, 6e4f, 1e-4f, 1e-7f, 1e-42f, 0};
    Row x = random_row(random, count, sizes[random.below(std::ssize(sizes))]);
    expect_one_answer([&](Isa isa) {
      std::vector<uint16_t> halves(static_cast<size_t>(count) + 1, 0x1234);
      kernels_for(isa)->store_f16(x.data(), count, halves.data());
      EXPECT_EQ(halves.back(), 0x1234);
      std::vector<float> kept;
      for (int64_t i = 0; i < count; ++i) {
        const auto value = static_cast<double>(x.data()[i]);
        const double half = half_value(halves[static_cast<size_t>(i)]);
        EXPECT_LE(std::fabs(half - value), std::max(std::fabs(value) * 0x1p-11, 0x1p-25));
        kept.push_back(static_cast<float>(half));
      }
      return kept;
    });
    if (testing::Test::HasFailure()) return;
  }
}

struct Quantisation {
  void (*quantise)(const float* in, int64_t count, int8_t* codes, BlockSums* blocks);
  bool apart;
};
std::vector<Quantisation> all_quantisations() {
  std::vector<Quantisation> all;
  for (const Isa isa : present_isas()) {
    const KernelTable& table = *kernels_for(isa);
    if (table.quantise != nullptr) all.push_back({table.quantise, false});
    if (table.quantise_apart != nullptr) all.push_back({table.quantise_apart, true});
  }
  return all;
}
// Of column i of the 32 that `codes` begins with.
int step_of(const int8_t* codes, bool apart, int i) {
  if (apart) {
    const int8_t* eight = codes + kApartBytes * (i / 8);
    return kFineSteps * eight[i % 8] + eight[8 + i % 8];
  }
  int16_t step;
  // Pair 2 g is columns 4 g and 4 g + 2, pair 2 g + 1 those after them.
  const int slot = i / 4 * 4 + i % 2 * 2 + i % 4 / 2;
  std::memcpy(&step, codes + 2 * slot, 2);
  return step;
}

// Steps of quantised activations, from anywhere to anywhere: within half a fine step, and their
// sums exact.
TEST(FuzzedShapes, QuantisedActivations) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    const int64_t count = 32 * (1 + random.below(20)), shift = random.below(16);
    Row x(count, shift);
    const auto inputs = fuzzed_inputs(random, 1, count);
    std::ranges::copy(inputs, x.data());
    for (const auto& [quantise, apart] : all_quantisations()) {
      std::vector<int8_t> codes(static_cast<size_t>(4 * shift + 2 * count));
      std::vector<BlockSums> blocks(static_cast<size_t>(count / 32));
      quantise(x.data(), count, &codes[static_cast<size_t>(4 * shift)], blocks.data());
      for (int64_t b = 0; b < count / 32; ++b) {
        const BlockSums& block = blocks[static_cast<size_t>(b)];
        int32_t sums[2] = {};
        for (int i = 0; i < 32; ++i) {
          const int step = step_of(&codes[static_cast<size_t>(4 * shift + 64 * b)], apart, i);
          sums[i / 16] += step;
          const auto scale = static_cast<double>(block.scale);
          const auto value = static_cast<double>(inputs[static_cast<size_t>(32 * b + i)]);
          EXPECT_LE(std::fabs(scale * step - value), 0.51 * scale + 1e-33) << "column " << i;
        }
        EXPECT_EQ(sums[0], block.half_steps[0]);
        EXPECT_EQ(sums[1], block.half_steps[1]);
      }
    }
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace shoal::kernels_test
