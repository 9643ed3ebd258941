// Products of every element type by every instruction set against sums in double, with bounds that
// follow from the blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/avx2_products.h"
#include "kernels/neon_products.h"
#include "kernels/weight_store.h"
#include "product_case.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

TEST(Types, EverySupportedOneIsTestedAndHasProducts) {
  size_t supported = 0;
  for (uint32_t id = 0; id < 1000; ++id) {
    const ElementTraits* traits = element_traits(id);
    if (traits == nullptr || !traits->supported) continue;
    ++supported;
    const auto type = static_cast<ElementType>(id);
    EXPECT_NE(std::ranges::find(kAllTypes, type), std::end(kAllTypes)) << traits->name;
    for (const Isa isa : built_isas()) EXPECT_NE(kernels_for(isa)->product(type), nullptr);
  }
  EXPECT_EQ(supported, std::size(kAllTypes));
}

class ProductOf : public testing::TestWithParam<std::tuple<Isa, ElementType>> {
 protected:
  void SetUp() override {
    if (!machine_has(isa())) GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(isa());
  }
  Isa isa() const { return std::get<0>(GetParam()); }
  ElementType type() const { return std::get<1>(GetParam()); }
  bool quantised() const { return element_traits(type()).block_elements > 1; }
  // The narrowest tensor whose rows are whole blocks and at least this wide.
  int64_t whole(int64_t columns) const {
    const int64_t block = element_traits(type()).block_elements;
    return (columns + block - 1) / block * block;
  }
};

TEST_P(ProductOf, EveryRemainderOfRows) {
  for (int64_t rows = 1; rows <= 33; ++rows) {
    const int64_t columns = whole(quantised() ? 32 * (1 + rows % 3) : 40);
    check_product(isa(), {type(), rows, columns, {}, random_inputs(1 + rows % 9, columns, rows)},
                  100 + rows);
  }
}

TEST_P(ProductOf, EveryNumberOfColumns) {
  for (int64_t kept = 32; kept <= 640; kept += 32) {
    const int64_t rows = 1 + kept / 32 % 19;
    check_product(isa(),
                  {type(),
                   rows,
                   whole(kept),
                   {{}, {{0, kept}}},
                   random_inputs(1 + kept / 32 % 4, kept, kept)},
                  200 + kept);
  }
}

TEST_P(ProductOf, WidthsThatAreNoMultiples) {
  if (quantised()) return;  // such a tensor cannot be
  for (const int64_t columns : {1, 2, 3, 7, 31, 33, 40, 63, 65, 127, 255, 256, 257, 259, 513}) {
    check_product(isa(), {type(), 19, columns, {}, random_inputs(5, columns, columns)},
                  300 + columns);
  }
}

TEST_P(ProductOf, EveryBatch) {
  for (int64_t count = 1; count <= 33; ++count) {
    check_product(isa(), {type(), 37, 512, {}, random_inputs(count, 512, count)}, 400 + count);
  }
}

TEST_P(ProductOf, CutsInsideSuperBlocks) {
  const std::vector<Cut> cuts = {
      {{}, {{32, 64}}},
      {{}, {{96, 256}}},
      {{}, {{224, 544}}},
      {{}, {{0, 32}, {288, 320}, {480, 768}}},
      {{}, {{512, 640}, {0, 96}}},  // in another order than the file's
      {{{3, 20}}, {{640, 768}}},
      {{{0, 1}, {5, 9}, {17, 40}}, {}},  // a fused tensor's rows
      {{{30, 40}, {2, 3}}, {{160, 192}, {192, 224}}},
  };
  for (size_t i = 0; i < cuts.size(); ++i) {
    const int64_t kept_columns = kept(cuts[i].columns, 768);
    check_product(isa(), {type(), 40, 768, cuts[i], random_inputs(3, kept_columns, i)}, 500 + i);
  }
}

TEST_P(ProductOf, ExtremeScales) {
  for (const Scales scales : {Scales::kZero, Scales::kSubnormal, Scales::kHuge}) {
    check_product(isa(), {type(), 18, 512, {}, random_inputs(2, 512, 9), scales}, 600);
  }
}

TEST_P(ProductOf, ExtremeInputs) {
  Random random(5);
  for (const double scale : {0.0, 1e-42, 1e-36, 1e-30, 1e30}) {
    std::vector<float> inputs(2 * 512);
    for (float& x : inputs) x = static_cast<float>(static_cast<double>(random.symmetric()) * scale);
    check_product(isa(), {type(), 18, 512, {}, inputs}, 700);
  }
  // A lone non-zero, at each place of a block, both signs: any mix-up of columns shows.
  std::vector<float> inputs(64 * 256, 0.0f);
  for (int64_t i = 0; i < 64; ++i)
    inputs[static_cast<size_t>(i * 256 + i * 4 % 256 + i / 16)] = i % 2 ? -1.0f : 1.0f;
  check_product(isa(), {type(), 16, 256, {}, inputs}, 701);
}

TEST_P(ProductOf, LargestCodesDoNotSaturate) {
  if (!quantised()) return;
  const KernelTable& table = *kernels_for(isa());
  ThreadPool pool(1);
  for (const int code : {0x00, 0x7f, 0x80, 0xff}) {
    auto bytes = random_tensor(type(), 16, 256, 1);
    const ElementTraits& traits = element_traits(type());
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (!is_scale_byte(type(), i % traits.block_bytes)) bytes[i] = static_cast<std::byte>(code);
    }
    constexpr int64_t kCount = 17;  // few rows and many may be multiplied in different ways
    std::vector<float> alternating(static_cast<size_t>(kCount * 256), 1.0f);
    for (size_t i = 256; i < alternating.size(); i += 2) alternating[i] = -1.0f;
    const Inputs in(table, type(), alternating, 256);
    const auto matrix = pack_matrix(table, pool, source_of(type(), 16, 256, bytes), {}, {});
    ASSERT_TRUE(matrix);
    std::vector<float> out(static_cast<size_t>(kCount * 16)), few(32);
    table.product(type())(matrix->view, in.view(), kCount, 0, matrix->unit_count(), scratch(),
                          out.data(), 16);
    table.product(type())(matrix->view, in.view(), 2, 0, matrix->unit_count(), scratch(),
                          few.data(), 16);
    EXPECT_TRUE(std::ranges::equal(few, std::span(out).first(32)));
    for (int64_t m = 0; m < kCount; ++m) {
      for (int64_t r = 0; r < 16; ++r) {
        double sum = 0, size = 0;
        for (int64_t c = 0; c < 256; ++c) {
          const Element w = element_at(type(), bytes, 256, r, c);
          sum += w.value * in.value(m, c);
          size += w.magnitude;
        }
        // Inputs of one magnitude are quantised exactly.
        EXPECT_NEAR(static_cast<double>(out[static_cast<size_t>(m * 16 + r)]), sum,
                    64 * kHalfUlp * size)
            << code;
      }
    }
  }
}

TEST_P(ProductOf, SameBitsForAnyBatchAndAnyPartOfTheRows) {
  const KernelTable& table = *kernels_for(isa());
  ThreadPool pool(1);
  const int64_t rows = 150, columns = 512, count = 41;
  const auto bytes = random_tensor(type(), rows, columns, 11);
  const auto matrix = pack_matrix(table, pool, source_of(type(), rows, columns, bytes), {}, {});
  ASSERT_TRUE(matrix);
  const auto inputs = random_inputs(count, columns, 12);
  const Inputs all(table, type(), inputs, columns);
  std::vector<float> whole_out(static_cast<size_t>(count * rows));
  table.product(type())(matrix->view, all.view(), count, 0, matrix->unit_count(), scratch(),
                        whole_out.data(), rows);
  for (int64_t first = 0; first < count;) {
    const int64_t taken = 1 + first % 4 + first / 10 * 7;
    const int64_t some = std::min(taken, count - first);
    const Inputs part(table, type(),
                      {inputs.begin() + first * columns, inputs.begin() + (first + some) * columns},
                      columns);
    std::vector<float> out(static_cast<size_t>(some * rows));
    const int64_t units = matrix->unit_count();
    for (int64_t begin = 0; begin < units;) {  // parts of 1, 2, 3, ... units
      const int64_t end = std::min(units, begin + 1 + begin % 5);
      table.product(type())(matrix->view, part.view(), some, begin, end, scratch(), out.data(),
                            rows);
      begin = end;
    }
    ASSERT_EQ(
        std::memcmp(out.data(), &whole_out[static_cast<size_t>(first * rows)], out.size() * 4), 0)
        << "inputs from " << first;
    first += some;
  }
}

// What vector instructions compute does not depend on which they are, so that ranks on different
// machines agree.
TEST_P(ProductOf, SameBitsAsByAvx2) {
  if (isa() == Isa::kReference) return;  // computes in double
  if (isa() == Isa::kNeon) return;       // SameBitsAsOnEveryMachine
  ThreadPool pool(1);
  const int64_t rows = 37, columns = 768, width = 32 + 256 + 160;
  const Cut cut = {{}, {{32, 64}, {256, 512}, {512, 672}}};
  const auto bytes = random_tensor(type(), rows, columns, 21);
  for (const int64_t count : {1, 2, 3, 5, 33}) {
    const auto product_by = [&](const KernelTable& table, Product product, bool ever_apart) {
      const auto matrix =
          pack_matrix(table, pool, source_of(type(), rows, columns, bytes), cut, {});
      const Inputs in(table, type(), random_inputs(count, width, 22), width, 0, ever_apart);
      std::vector<float> out(static_cast<size_t>(count * rows));
      product(matrix->view, in.view(), count, 0, matrix->unit_count(), scratch(), out.data(), rows);
      return out;
    };
    const KernelTable& table = *kernels_for(isa());  // that of AVX2 may use AVX-VNNI
    const auto expected = product_by(*kernels_for(Isa::kAvx2), avx2_product(type()), false);
    EXPECT_EQ(product_by(table, table.product(type()), true), expected) << count;
    EXPECT_EQ(product_by(table, table.product(type()), false), expected) << count;
  }
}

// On other architectures too, by every product that a table may choose.
TEST_P(ProductOf, SameBitsAsOnEveryMachine) {
  if (isa() == Isa::kReference) return;
  const KernelTable& table = *kernels_for(isa());
  std::vector<Product> products = {table.product(type())};
  if (isa() == Isa::kNeon) products.push_back(neon_product(type()));
  if (isa() == Isa::kNeon && machine_has_dot_products())
    products.push_back(neon_dot_product(type()));
  ThreadPool pool(1);
  const int64_t rows = 37, columns = 768, width = 32 + 256 + 160;
  const Cut cut = {{}, {{32, 64}, {256, 512}, {512, 672}}};
  const auto bytes = random_tensor(type(), rows, columns, 31);
  const auto matrix = pack_matrix(table, pool, source_of(type(), rows, columns, bytes), cut, {});
  for (const Product product : products) {
    std::vector<float> all;
    for (const int64_t count : {1, 7, 100}) {
      const Inputs in(table, type(), random_inputs(count, width, 32), width);
      std::vector<float> out(static_cast<size_t>(count * rows));
      product(matrix->view, in.view(), count, 0, matrix->unit_count(), scratch(), out.data(), rows);
      all.insert(all.end(), out.begin(), out.end());
    }
    EXPECT_EQ(digest_of(all.data(), all.size() * 4), kept_digest("product-" + name_of(type())));
  }
}

// A rank that holds other rows computes those that it shares with the same bits.
TEST_P(ProductOf, SameBitsForAnyCutOfTheRows) {
  const KernelTable& table = *kernels_for(isa());
  ThreadPool pool(1);
  const int64_t rows = 70, columns = 512;
  const auto bytes = random_tensor(type(), rows, columns, 15);
  const Inputs in(table, type(), random_inputs(3, columns, 16), columns);
  const auto product_of = [&](const Cut& cut) {
    const auto matrix = pack_matrix(table, pool, source_of(type(), rows, columns, bytes), cut, {});
    EXPECT_TRUE(matrix);
    std::vector<float> out(static_cast<size_t>(3 * matrix->view.rows));
    table.product(type())(matrix->view, in.view(), 3, 0, matrix->unit_count(), scratch(),
                          out.data(), matrix->view.rows);
    return out;
  };
  const auto whole_out = product_of({});
  for (const Cut& cut : {Cut{{{0, 33}}, {}}, Cut{{{33, 70}}, {}}, Cut{{{5, 6}, {60, 70}}, {}}}) {
    const auto part = product_of(cut);
    const auto kept_rows = kept_indices(cut.rows, rows);
    for (size_t m = 0; m < 3; ++m) {
      for (size_t r = 0; r < kept_rows.size(); ++r) {
        const float expected = whole_out[m * 70 + static_cast<size_t>(kept_rows[r])];
        ASSERT_EQ(std::memcmp(&part[m * kept_rows.size() + r], &expected, 4), 0) << r;
      }
    }
  }
}

TEST_P(ProductOf, NotANumberIsNotHidden) {
  const KernelTable& table = *kernels_for(isa());
  ThreadPool pool(1);
  const auto bytes = random_tensor(type(), 16, 256, 13);
  const auto matrix = pack_matrix(table, pool, source_of(type(), 16, 256, bytes), {}, {});
  ASSERT_TRUE(matrix);
  std::vector<float> inputs(256, 1.0f);
  inputs[77] = NAN;
  const Inputs in(table, type(), inputs, 256);
  std::vector<float> out(16);
  table.product(type())(matrix->view, in.view(), 1, 0, matrix->unit_count(), scratch(), out.data(),
                        16);
  for (const float y : out) EXPECT_TRUE(std::isnan(y));
}

TEST_P(ProductOf, PackedSizeStaysNearTheFile) {
  const KernelTable& table = *kernels_for(isa());
  ThreadPool pool(1);
  const auto bytes = random_tensor(type(), 64, 768, 14);
  const auto whole_matrix = pack_matrix(table, pool, source_of(type(), 64, 768, bytes), {}, {});
  ASSERT_TRUE(whole_matrix);
  // Scales of six bits become bytes where that costs less than 3%.
  const bool wider = type() == ElementType::kQ4_K || type() == ElementType::kQ5_K ||
                     type() == ElementType::kIQ4_XS;
  const double limit = wider ? 1.03 : 1.0;
  EXPECT_LE(static_cast<double>(whole_matrix->region.size()),
            limit * static_cast<double>(bytes.size()));
  const auto part =
      pack_matrix(table, pool, source_of(type(), 64, 768, bytes), {{}, {{96, 480}}}, {});
  ASSERT_TRUE(part);  // half of the columns; a reference cut inside a super-block keeps all of it
  EXPECT_LE(static_cast<double>(part->region.size()),
            (isa() == Isa::kReference ? 0.67 : 0.53) * static_cast<double>(bytes.size()));
}

INSTANTIATE_TEST_SUITE_P(All, ProductOf,
                         testing::Combine(testing::ValuesIn(built_isas()),
                                          testing::ValuesIn(kAllTypes)),
                         [](const auto& info) {
                           return std::string(isa_name(std::get<0>(info.param))) + "_" +
                                  name_of(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace shoal::kernels_test
