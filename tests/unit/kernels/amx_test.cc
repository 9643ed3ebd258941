// Products by tiles against those of AVX2 (which product_test.cc checks against sums in double):
// the same bits for every type, shape and remainder. On tiles that are emulated everywhere, and on
// the processor's where it has them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/thread_pool.h"
#include "emulated_products.h"
#include "kernels/avx2_products.h"
#include "kernels/weight_store.h"
#include "random_weights.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

enum class Tiles { kEmulatedAvx2, kEmulatedAvx512, kProcessor };
constexpr Tiles kAllTiles[] = {Tiles::kEmulatedAvx2, Tiles::kEmulatedAvx512, Tiles::kProcessor};

const char* tiles_name(Tiles tiles) {
  constexpr const char* kNames[] = {"emulated_avx2", "emulated_avx512", "processor"};
  return kNames[static_cast<size_t>(tiles)];
}
Isa needed_by(Tiles tiles) {
  constexpr Isa kNeeded[] = {Isa::kAvx2, Isa::kAvx512, Isa::kAmx};
  return kNeeded[static_cast<size_t>(tiles)];
}

Product product_by(Tiles tiles, ElementType type) {
  switch (tiles) {
    case Tiles::kEmulatedAvx2:
      return emulated_product_avx2(type);
    case Tiles::kEmulatedAvx512:
      return emulated_product_avx512(type);
    case Tiles::kProcessor:
      return kernels_for(Isa::kAmx)->product(type);
  }
  return nullptr;
}

void* scratch() {
  static const MemoryRegion region = *MemoryRegion::create(kProductScratchBytes, "the test");
  return region.data();
}

std::vector<float> random_inputs(int64_t count, int64_t columns, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count * columns));
  for (float& x : values) {
    x = random.symmetric();
    if (random.below(40) == 0) x *= 30;
  }
  return values;
}

bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

class TiledProductOf : public testing::TestWithParam<std::tuple<Tiles, ElementType>> {
 protected:
  void SetUp() override {
    const Isa needed = needed_by(tiles());
    if (!machine_has(needed)) GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(needed);
  }
  Tiles tiles() const { return std::get<0>(GetParam()); }
  ElementType type() const { return std::get<1>(GetParam()); }

  std::vector<std::byte> weights(int64_t rows, int64_t columns, uint64_t seed,
                                 Scales scales = Scales::kUsual) const {
    return random_tensor(type(), rows, columns, seed, scales);
  }

  // All units at once, or in parts of 1, 2, 3, ... of them.
  void expect_same(const std::vector<std::byte>& bytes, int64_t rows, int64_t columns,
                   const Cut& cut, const std::vector<float>& inputs, bool in_parts = false) const {
    const KernelTable& table = *kernels_for(Isa::kAvx2);
    ThreadPool pool(1);
    const auto matrix = pack_matrix(table, pool, source_of(type(), rows, columns, bytes), cut, {});
    ASSERT_TRUE(matrix) << matrix.error().message;
    const int64_t width = matrix->view.columns, kept = matrix->view.rows;
    const auto count = static_cast<int64_t>(inputs.size()) / width;
    SCOPED_TRACE(testing::Message()
                 << kept << " rows, " << width << " columns, " << count << " inputs");

    // Behind a row's blocks stands one of another's: rows are further apart than they are long.
    const int64_t stride = width / kSubBlock + 1;
    std::vector<int8_t> codes(static_cast<size_t>(count * stride * kCodeBytes), 99);
    std::vector<BlockSums> blocks(static_cast<size_t>(count * stride), {1e9f, 1e9f, {9, 9}});
    for (int64_t r = 0; r < count; ++r) {
      table.quantise(&inputs[static_cast<size_t>(r * width)], width,
                     &codes[static_cast<size_t>(r * stride * kCodeBytes)],
                     &blocks[static_cast<size_t>(r * stride)]);
    }
    const InputRows in = {inputs.data(), width, codes.data(), blocks.data(), stride};

    constexpr float kUntouched = -12345.5f;
    const int64_t out_stride = kept + 3;
    std::vector<float> expected(static_cast<size_t>(count * out_stride), kUntouched);
    std::vector<float> out = expected;
    const int64_t units = matrix->unit_count();
    avx2_product(type())(matrix->view, in, count, 0, units, scratch(), expected.data(), out_stride);
    for (int64_t begin = 0, taken = in_parts ? 1 : units; begin < units; begin += taken++) {
      product_by(tiles(), type())(matrix->view, in, count, begin, std::min(units, begin + taken),
                                  scratch(), out.data(), out_stride);
    }
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_TRUE(same_bits(out[i], expected[i]))
          << out[i] << " for " << expected[i] << " at row " << static_cast<int64_t>(i) % out_stride
          << ", input " << static_cast<int64_t>(i) / out_stride;
    }
  }
};

TEST_P(TiledProductOf, EveryRemainderOfInputs) {
  const auto bytes = weights(17, 512, 1);
  for (int64_t count = 1; count <= 49; ++count) {
    const auto inputs = random_inputs(count, 288, static_cast<uint64_t>(count));
    expect_same(bytes, 17, 512, {{}, {{0, 288}}}, inputs);
  }
}

TEST_P(TiledProductOf, MoreInputsThanABlockHolds) {
  const auto bytes = weights(17, 256, 2);
  for (const int64_t count : {255, 256, 257, 289, 530})
    expect_same(bytes, 17, 256, {}, random_inputs(count, 256, static_cast<uint64_t>(count)));
}

TEST_P(TiledProductOf, EveryRemainderOfRows) {
  for (int64_t rows = 1; rows <= 33; ++rows)
    expect_same(weights(rows, 256, 3), rows, 256, {}, random_inputs(12 + rows % 9, 256, 3));
  for (const int64_t rows : {255, 256, 257, 300})  // a block holds 256
    expect_same(weights(rows, 256, 3), rows, 256, {}, random_inputs(35, 256, 3));
}

TEST_P(TiledProductOf, EveryNumberOfColumns) {
  const auto bytes = weights(19, 768, 4);
  for (int64_t kept = 32; kept <= 640; kept += 32)
    expect_same(bytes, 19, 768, {{}, {{0, kept}}}, random_inputs(17 + kept / 32, kept, 4));
}

TEST_P(TiledProductOf, CutsInsideSuperBlocks) {
  const auto bytes = weights(40, 768, 5);
  for (const Cut& cut : {
           Cut{{}, {{32, 64}}},
           Cut{{}, {{224, 544}}},
           Cut{{}, {{0, 32}, {288, 320}, {480, 768}}},
           Cut{{}, {{512, 640}, {0, 96}}},
           Cut{{{0, 1}, {5, 9}, {17, 40}}, {{160, 192}, {192, 224}}},
       }) {
    expect_same(bytes, 40, 768, cut, random_inputs(21, kept(cut.columns, 768), 5));
  }
}

TEST_P(TiledProductOf, AnyPartOfTheRows) {
  const auto bytes = weights(150, 512, 6);
  for (const int64_t count : {13, 41})
    expect_same(bytes, 150, 512, {}, random_inputs(count, 512, 6), true);
}

TEST_P(TiledProductOf, ExtremeScales) {
  for (const Scales scales : {Scales::kZero, Scales::kSubnormal, Scales::kHuge})
    expect_same(weights(18, 512, 7, scales), 18, 512, {}, random_inputs(14, 512, 7));
}

// All bits of codes and integer scales alike, and inputs of the largest steps: sums at their ends.
TEST_P(TiledProductOf, LargestCodes) {
  for (const int code : {0x00, 0x7f, 0x80, 0xff}) {
    auto bytes = weights(16, 256, 8);
    const ElementTraits& traits = element_traits(type());
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (!is_scale_byte(type(), i % traits.block_bytes)) bytes[i] = static_cast<std::byte>(code);
    }
    for (const bool alternating : {false, true}) {
      std::vector<float> inputs(size_t{17} * 256, 1.0f);
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (alternating && i % 2 == 1) inputs[i] = -1.0f;
        if (i / 256 % 3 == 2) inputs[i] = -inputs[i];
      }
      expect_same(bytes, 16, 256, {}, inputs);
    }
  }
}

// A lone non-zero, at each place of a block, both signs and in each row of a tile.
TEST_P(TiledProductOf, EachColumnAlone) {
  const auto bytes = weights(16, 256, 9);
  std::vector<float> inputs(size_t{64} * 256, 0.0f);
  for (size_t i = 0; i < 64; ++i) inputs[i * 256 + i * 4 % 256 + i / 16] = i % 2 ? -1.0f : 1.0f;
  expect_same(bytes, 16, 256, {}, inputs);
}

TEST_P(TiledProductOf, ExtremeInputs) {
  const auto bytes = weights(18, 512, 10);
  for (const float scale : {0.0f, 1e-42f, 1e-36f, 1e-30f, 1e30f}) {
    std::vector<float> inputs = random_inputs(19, 512, 10);
    for (float& x : inputs) x *= scale;
    expect_same(bytes, 18, 512, {}, inputs);
  }
  std::vector<float> inputs = random_inputs(19, 512, 11);
  inputs[77] = NAN;
  inputs[5 * 512 + 9] = INFINITY;
  expect_same(bytes, 18, 512, {}, inputs);
}

std::vector<ElementType> tiled_types() {
  std::vector<ElementType> types;
  for (const ElementType type : kAllTypes) {
    if (emulated_product_avx2(type) != nullptr) types.push_back(type);
  }
  return types;
}

TEST(TiledProducts, ExistForEveryTypeWithIntegerProducts) {
  size_t integer = 0;
  for (const ElementType type : kAllTypes) {
    if (kernels_for(Isa::kAvx2)->takes_codes(type)) ++integer;
  }
  EXPECT_EQ(tiled_types().size(), integer);
}

INSTANTIATE_TEST_SUITE_P(All, TiledProductOf,
                         testing::Combine(testing::ValuesIn(kAllTiles),
                                          testing::ValuesIn(tiled_types())),
                         [](const auto& info) {
                           return std::string(tiles_name(std::get<0>(info.param))) + "_" +
                                  name_of(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace shoal::kernels_test
