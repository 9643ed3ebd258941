#include "kernels/weight_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "random_weights.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

std::vector<uint8_t> bytes_of(const MemoryRegion& region) {
  return {region.data(), region.data() + region.size()};
}

// A source whose bytes are spoilt as soon as they are said to be done with.
class Spoiling {
 public:
  Spoiling(ElementType type, int64_t rows, int64_t columns, std::vector<std::byte> bytes)
      : bytes_(std::move(bytes)), type_(type), rows_(rows), columns_(columns) {}

  TensorSource source() {
    TensorSource source = source_of(type_, rows_, columns_, bytes_);
    source.done_with = [this](std::span<const std::byte> part) {
      const std::lock_guard lock(mutex_);
      told_.push_back({part.data() - bytes_.data(), std::ssize(part)});
      std::memset(bytes_.data() + told_.back().first, 0xff, part.size());
    };
    return source;
  }
  // First byte and count, rising.
  std::vector<std::pair<int64_t, int64_t>> told() const {
    auto sorted = told_;
    std::ranges::sort(sorted);
    return sorted;
  }
  int64_t told_bytes() const {
    int64_t sum = 0;
    for (const auto& [first, count] : told_) sum += count;
    return sum;
  }

 private:
  std::vector<std::byte> bytes_;
  ElementType type_;
  int64_t rows_, columns_;
  std::mutex mutex_;
  std::vector<std::pair<int64_t, int64_t>> told_;
};

class WeightsOn : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam()))
      GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(GetParam());
  }
  const KernelTable& table() const { return *kernels_for(GetParam()); }
};

TEST_P(WeightsOn, AreNeverReadAgainOnceDoneWith) {
  constexpr int64_t kRows = 3001, kColumns = 1024;
  // Two parts of a fused tensor with another's rows between, and half of the columns.
  const Cut cut = {.rows = {{5, 1500}, {1700, 2993}}, .columns = {{256, 768}}};
  ThreadPool pool(3, false);
  for (const ElementType type :
       {ElementType::kF32, ElementType::kQ4_0, ElementType::kQ8_0, ElementType::kQ6_K}) {
    SCOPED_TRACE(element_traits(static_cast<uint32_t>(type))->name);
    const auto bytes = random_tensor(type, kRows, kColumns, 7);
    for (const Cut& kept : {Cut{}, cut}) {
      const auto plain =
          pack_matrix(table(), pool, source_of(type, kRows, kColumns, bytes), kept, {});
      ASSERT_TRUE(plain) << plain.error().message;
      Spoiling spoiling(type, kRows, kColumns, bytes);
      const auto spoilt = pack_matrix(table(), pool, spoiling.source(), kept, {});
      ASSERT_TRUE(spoilt) << spoilt.error().message;
      EXPECT_EQ(bytes_of(plain->region), bytes_of(spoilt->region));

      // All rows that were read, and nothing else.
      const auto row = static_cast<int64_t>(row_bytes(type, kColumns));
      EXPECT_EQ(spoiling.told_bytes(), row * shoal::kept(kept.rows, kRows));
      for (const auto& [first, count] : spoiling.told()) {
        EXPECT_LE(count, (1 << 20) + row);  // long before the end of a big tensor
        EXPECT_EQ(first % row, 0);
        EXPECT_EQ(count % row, 0);
        const bool inside = kept.rows.empty() || std::ranges::any_of(kept.rows, [&](Range range) {
                              return range.begin * row <= first && first + count <= range.end * row;
                            });
        EXPECT_TRUE(inside) << first << " and " << count << " bytes on";
      }
    }
  }
}

TEST_P(WeightsOn, NorAreThoseOfStacks) {
  constexpr int64_t kMatrices = 5, kRows = 96, kColumns = 512;
  const auto bytes = random_tensor(ElementType::kQ8_0, kMatrices * kRows, kColumns, 3);
  ThreadPool pool(2, false);
  for (const bool transposed : {false, true}) {
    const WeightSpec spec = {.tensor = "test",
                             .use = WeightUse::kMatrices,
                             .matrix_count = kMatrices,
                             .kept = {1, 4},
                             .transposed = transposed};
    const auto source = source_of(ElementType::kQ8_0, kMatrices * kRows, kColumns, bytes);
    const auto plain = pack_matrices(table(), pool, source, spec, {});
    ASSERT_TRUE(plain) << plain.error().message;
    Spoiling spoiling(ElementType::kQ8_0, kMatrices * kRows, kColumns, bytes);
    const auto spoilt = pack_matrices(table(), pool, spoiling.source(), spec, {});
    ASSERT_TRUE(spoilt) << spoilt.error().message;
    EXPECT_EQ(bytes_of(plain->region), bytes_of(spoilt->region));
    EXPECT_EQ(spoiling.told_bytes(), std::ssize(bytes) / kMatrices * 3);
  }
}

INSTANTIATE_TEST_SUITE_P(All, WeightsOn, testing::ValuesIn(built_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

}  // namespace
}  // namespace shoal::kernels_test
