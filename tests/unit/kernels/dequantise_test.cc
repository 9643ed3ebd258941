// Dequantised elements have the very bits of the format's definition: those of an independent
// implementation.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/bytes.h"
#include "base/thread_pool.h"
#include "kernels/file_blocks.h"
#include "kernels/small_floats.h"
#include "kernels/weight_store.h"
#include "random_weights.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

TEST(Dequantise, EqualsTheFixturesBitForBit) {
  std::ifstream file(SHOAL_SOURCE_DIR "/tests/unit/kernels/fixtures/blocks.txt");
  int checked = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    std::string name, blocks_hex, values_hex;
    words >> name >> blocks_hex >> values_hex;
    const auto blocks = from_hex(blocks_hex), values = from_hex(values_hex);
    ASSERT_TRUE(blocks && values) << line;
    const auto count = static_cast<int64_t>(values->size() / 4);
    for (const ElementType type : kAllTypes) {
      if (name_of(type) != name) continue;
      std::vector<float> got(static_cast<size_t>(count));
      dequantise(type, reinterpret_cast<const uint8_t*>(blocks->data()), 0, count, got.data());
      EXPECT_EQ(std::memcmp(got.data(), values->data(), values->size()), 0) << line.substr(0, 60);
      ++checked;
      for (const Isa isa : built_isas()) {  // and from the packed form, by row
        ThreadPool pool(1);
        const auto packed =
            pack_matrix(*kernels_for(isa), pool, source_of(type, 1, count, *blocks), {}, {});
        ASSERT_TRUE(packed) << packed.error().message;
        std::fill(got.begin(), got.end(), -1.0f);
        kernels_for(isa)->unpack_row(packed->view, 0, got.data());
        EXPECT_EQ(std::memcmp(got.data(), values->data(), values->size()), 0)
            << isa_name(isa) << line.substr(0, 60);
      }
    }
  }
  EXPECT_EQ(checked, 28);
}

std::vector<std::byte> golden(const std::string& name) {
  std::ifstream file(SHOAL_SOURCE_DIR "/tests/golden/types/" + name, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

// Rows by llama.cpp's quantiser and of random bytes: every code, every integer scale, extreme ones.
TEST(Dequantise, EqualsLlamaCppBitForBit) {
  constexpr int64_t kColumns = 256, kRows = 14;
  for (const ElementType type : kAllTypes) {
    if (element_traits(type).block_elements == 1) continue;
    SCOPED_TRACE(name_of(type));
    const auto blocks = golden(name_of(type) + ".blocks"),
               floats = golden(name_of(type) + ".floats");
    ASSERT_EQ(blocks.size(), kRows * row_bytes(type, kColumns));
    ASSERT_EQ(floats.size(), static_cast<size_t>(kRows * kColumns * 4));
    for (const Isa isa : built_isas()) {
      ThreadPool pool(1);
      const auto packed =
          pack_matrix(*kernels_for(isa), pool, source_of(type, kRows, kColumns, blocks), {}, {});
      ASSERT_TRUE(packed) << packed.error().message;
      for (int64_t row = 0; row < kRows; ++row) {
        const std::byte* expected = &floats[static_cast<size_t>(row * kColumns * 4)];
        std::vector<float> got(kColumns), unpacked(kColumns);
        dequantise(type, reinterpret_cast<const uint8_t*>(blocks.data()), row * kColumns, kColumns,
                   got.data());
        EXPECT_EQ(std::memcmp(got.data(), expected, kColumns * 4), 0) << "row " << row;
        kernels_for(isa)->unpack_row(packed->view, row, unpacked.data());
        EXPECT_EQ(std::memcmp(unpacked.data(), expected, kColumns * 4), 0)
            << isa_name(isa) << " row " << row;
        for (const float x : got) EXPECT_TRUE(std::isfinite(x));
      }
    }
  }
}

TEST(Dequantise, AnyPartOfARowIsTheSame) {
  for (const ElementType type : kAllTypes) {
    const auto bytes = random_tensor(type, 1, 512, 21);
    const auto* blocks = reinterpret_cast<const uint8_t*>(bytes.data());
    std::vector<float> whole(512), part(512);
    dequantise(type, blocks, 0, 512, whole.data());
    for (int64_t first = 0; first < 512; first += 37) {
      const int64_t count = std::min<int64_t>(512 - first, 1 + first % 71);
      dequantise(type, blocks, first, count, part.data());
      EXPECT_EQ(std::memcmp(part.data(), &whole[static_cast<size_t>(first)],
                            static_cast<size_t>(count) * 4),
                0)
          << name_of(type) << " from " << first;
    }
  }
}

TEST(Dequantise, PackedRowsOfCutsHoldTheSameBits) {
  const Cut cut = {{{2, 19}, {30, 37}}, {{96, 352}, {480, 512}}};
  for (const ElementType type : kAllTypes) {
    const auto bytes = random_tensor(type, 40, 512, 3);
    for (const Isa isa : built_isas()) {
      ThreadPool pool(2);
      const KernelTable& table = *kernels_for(isa);
      const auto packed = pack_matrix(table, pool, source_of(type, 40, 512, bytes), cut, {24, 288});
      ASSERT_TRUE(packed) << packed.error().message;
      for (int64_t row = 0; row < 24; ++row) {
        std::vector<float> whole(512), part(288);
        const int64_t source_row = row < 17 ? 2 + row : 30 + row - 17;
        dequantise(type,
                   reinterpret_cast<const uint8_t*>(bytes.data()) +
                       static_cast<uint64_t>(source_row) * row_bytes(type, 512),
                   0, 512, whole.data());
        table.unpack_row(packed->view, row, part.data());
        EXPECT_EQ(std::memcmp(&whole[96], &part[0], 256 * 4), 0) << name_of(type) << " row " << row;
        EXPECT_EQ(std::memcmp(&whole[480], &part[256], 32 * 4), 0)
            << name_of(type) << " row " << row;
      }
    }
  }
}

TEST(SmallFloats, EveryHalfHasItsValue) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = half_to_float(half);
    if ((bits & 0x7c00) == 0x7c00) {
      EXPECT_EQ(std::isinf(value), (bits & 0x3ff) == 0);
      EXPECT_EQ(std::isnan(value), (bits & 0x3ff) != 0);
      EXPECT_EQ(std::signbit(value), bits >= 0x8000);
    } else {
      ASSERT_EQ(static_cast<double>(value), half_value(half));
      ASSERT_EQ(std::signbit(value), bits >= 0x8000);
      ASSERT_EQ(float_to_half(value), half);
    }
  }
}

TEST(SmallFloats, RoundsToNearestWithTiesToEven) {
  for (uint16_t half = 0; half < 0x7bff; ++half) {
    const auto low = half_to_float(half), high = half_to_float(static_cast<uint16_t>(half + 1));
    const float middle = (low + high) / 2;  // exact: floats have 13 more bits
    const uint16_t even = half % 2 == 0 ? half : static_cast<uint16_t>(half + 1);
    ASSERT_EQ(float_to_half(middle), even);
    ASSERT_EQ(float_to_half(std::nextafterf(middle, low)), half);
    ASSERT_EQ(float_to_half(std::nextafterf(middle, high)), half + 1);
  }
  EXPECT_EQ(float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(-1e30f), 0xfc00);
  EXPECT_EQ(float_to_half(-1e-30f), 0x8000);
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(NAN))));
}

TEST(SmallFloats, StoringHalvesIsTheSameOnEveryInstructionSet) {
  Random random(17);
  std::vector<float> values(1003);
  for (float& value : values)
    value = std::ldexp(random.symmetric(), static_cast<int>(random.below(50)) - 30);
  for (const Isa isa : built_isas()) {
    if (!machine_has(isa)) GTEST_SKIP() << "NOT TESTED: this machine lacks " << isa_name(isa);
    std::vector<uint16_t> halves(values.size());
    kernels_for(isa)->store_f16(values.data(), static_cast<int64_t>(values.size()), halves.data());
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(halves[i], float_to_half(values[i])) << values[i];
  }
}

}  // namespace
}  // namespace shoal::kernels_test
