// The loops over payloads give the same bits whatever vectors they were compiled for.
#include "collectives/payload_loops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/bytes.h"
#include "base/cpu.h"
#include "base/random.h"
#include "collectives/packing.h"

namespace shoal {
namespace {

std::vector<float> some_numbers(uint64_t seed, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const auto x = philox(seed, i);
    values[i] =
        std::ldexp(static_cast<float>(x[0]) * 0x1p-32f - 0.5f, static_cast<int>(x[1] % 60) - 30);
    // Any bits at all: subnormals, infinities, every NaN.
    if (seed % 3 == 0 && x[2] % 40 == 0) values[i] = std::bit_cast<float>(x[3]);
    if (seed % 3 == 0 && x[2] % 40 == 1) values[i] = std::numeric_limits<float>::infinity();
  }
  return values;
}

std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

TEST(PayloadLoops, AllGiveTheSameBits) {
  const PayloadLoops& plain = kPortableLoops;
  if (avx2_loops() == nullptr || !machine_has(Isa::kAvx2)) {
    GTEST_SKIP() << "this machine has no other loops than the portable ones";
  }
  const PayloadLoops& wide = *avx2_loops();
  for (const Payload payload : kPayloads) {
    for (size_t count = 0; count < 200; ++count) {
      std::vector<Bytes> packed;
      for (size_t part = 0; part < 5; ++part) {
        const std::vector<float> values = some_numbers(count * 5 + part, count);
        packed.emplace_back(packed_bytes(payload, count));
        Bytes again(packed.back().size());
        plain.pack(payload, values.data(), count, packed.back().data());
        wide.pack(payload, values.data(), count, again.data());
        ASSERT_EQ(packed.back(), again) << payload_name(payload) << " " << count;
      }
      std::vector<float> a(count);
      std::vector<float> b(count);
      plain.unpack(payload, packed[0].data(), count, a.data());
      wide.unpack(payload, packed[0].data(), count, b.data());
      ASSERT_EQ(bits_of(a), bits_of(b)) << payload_name(payload) << " " << count;
      std::vector<const std::byte*> parts;
      for (const Bytes& part : packed) {
        parts.push_back(part.data());
        plain.sum(payload, parts.data(), parts.size(), a.data(), count);
        wide.sum(payload, parts.data(), parts.size(), b.data(), count);
        ASSERT_EQ(bits_of(a), bits_of(b)) << payload_name(payload) << " " << count;
      }
    }
  }
}

// The number of a part is read before the sum is written to where it was.
TEST(PayloadLoops, ASumMayReplaceOneOfItsParts) {
  for (const size_t ranks : {2, 3}) {
    for (size_t own = 0; own < ranks; ++own) {
      std::vector<std::vector<float>> numbers(ranks, std::vector<float>(70));
      std::vector<const std::byte*> parts;
      for (size_t r = 0; r < ranks; ++r) {
        for (size_t i = 0; i < 70; ++i) numbers[r][i] = static_cast<float>(i * (r + 1));
        parts.push_back(reinterpret_cast<const std::byte*>(numbers[r].data()));
      }
      best_loops().sum(Payload::kF32, parts.data(), ranks, numbers[own].data(), 70);
      for (size_t i = 0; i < 70; ++i) {
        ASSERT_EQ(numbers[own][i], static_cast<float>(i * ranks * (ranks + 1) / 2));
      }
    }
  }
}

}  // namespace
}  // namespace shoal
