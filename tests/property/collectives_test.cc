// Sums over ranks: the same bits on all of them, and those of a plain reference, for any number of
// ranks, length, payload type, route and cost of a link, infinities and NaN included.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include "../unit/collectives/ranks.h"
#include "base/random.h"
#include "collectives/packing.h"

namespace shoal {
namespace {

constexpr size_t kBlock = 32;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The numbers of one rank: magnitudes from 2^-30 to 2^30 (now and then the smallest and largest
// that there are), zeros of both signs, and as many special ones as asked for.
std::vector<float> contribution(uint64_t seed, int rank, size_t count, int specials_per_1000) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const auto x = philox(seed, i, static_cast<uint64_t>(rank));
    const bool extreme = x[2] % 500 == 0;
    const int exponent =
        extreme ? static_cast<int>(x[1] % 278) - 149 : static_cast<int>(x[1] % 61) - 30;
    values[i] = std::ldexp(static_cast<float>(x[0]) * 0x1p-32f - 0.5f, exponent);
    if (x[2] % 31 == 1) values[i] = x[0] % 2 == 0 ? 0.0f : -0.0f;
    if (static_cast<int>(x[3] % 1000) < specials_per_1000) {
      values[i] = std::array{kInfinity, -kInfinity, kNan}[x[0] % 3];
    }
  }
  return values;
}

// To 8 significant bits, ties to even, by arithmetic instead of bits.
float plain_bf16(float value) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  (void)std::frexp(static_cast<double>(value), &exponent);
  const int unit = std::max(exponent - 8, -133);  // of the last place; subnormals have 2^-133
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  return std::abs(rounded) >= 0x1p128 ? std::copysign(kInfinity, value)
                                      : static_cast<float>(rounded);
}

void plain_int8(std::span<float> block) {
  float largest = 0;
  for (const float value : block) {
    if (std::isnan(value)) {
      std::ranges::fill(block, kNan);
      return;
    }
    largest = std::max(largest, std::abs(value));
  }
  const float scale = plain_bf16(largest / 127);
  for (float& value : block) {
    if (std::isinf(largest)) {
      value = std::isinf(value) ? value : kNan;
    } else {
      // 2^-126 is the smallest scale that counts.
      value = scale < 0x1p-126f ? 0 : std::nearbyint(value * (1 / scale)) * scale;
    }
  }
}

std::vector<float> plain_rounding(Payload payload, std::vector<float> values) {
  if (payload == Payload::kBf16) std::ranges::transform(values, values.begin(), plain_bf16);
  for (size_t i = 0; payload == Payload::kInt8 && i < values.size(); i += kBlock) {
    plain_int8(std::span(values).subspan(i, std::min(kBlock, values.size() - i)));
  }
  return values;
}

// Equal numbers; zeros of either sign are equal, and so are NaNs.
bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(
      a, b, [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

// Links are made once per number of ranks; what a property leaves set, the next one sets anew.
std::vector<Group>& groups_of(int ranks, bool shared_memory) {
  static std::map<std::pair<int, bool>, std::vector<Group>> made;
  auto [at, is_new] = made.try_emplace({ranks, shared_memory});
  if (is_new) {
    at->second = shared_memory ? make_shm_groups(ranks) : make_groups(ranks, LinkMode::kPlain);
  }
  return at->second;
}

struct Settings {
  int ranks;
  bool shared_memory;
  int first;  // of those that add
  int count;
  Payload payload;
  ReduceRoute route;
  LinkCost cost;
  bool halves;
  size_t length;
  size_t first_call;  // values of it, of two; a multiple of blocks
  int specials_per_1000;
  uint64_t seed;
};

Settings some_settings() {
  Settings s;
  s.ranks = *rc::gen::element(1, 2, 3, 4, 5, 6, 7, 8, 9, 16);
  s.shared_memory = *rc::gen::arbitrary<bool>();
  const bool all = *rc::gen::arbitrary<bool>();
  s.first = all ? 0 : *rc::gen::inRange(0, s.ranks);
  s.count = all ? s.ranks : *rc::gen::inRange(1, s.ranks - s.first + 1);
  s.payload = *rc::gen::elementOf(kPayloads);
  s.route = *rc::gen::element(ReduceRoute::kByCost, ReduceRoute::kDirect, ReduceRoute::kScatter);
  s.cost = {*rc::gen::inRange(1, 100) * 1e-6, *rc::gen::inRange(1, 100) * 1e8};
  s.halves = *rc::gen::arbitrary<bool>();
  const bool large = *rc::gen::inRange(0, 10) == 0;
  s.length = *rc::gen::inRange<size_t>(0, large ? 50'000 : 700);
  s.first_call = *rc::gen::inRange<size_t>(0, s.length / kBlock + 1) * kBlock;
  s.specials_per_1000 = *rc::gen::element(0, 0, 2, 30);
  s.seed = *rc::gen::arbitrary<uint64_t>();
  return s;
}

std::vector<float> reference(const Settings& s) {
  std::vector<float> sum;
  for (int r = s.first; r < s.first + s.count; ++r) {
    std::vector<float> mine = contribution(s.seed, r, s.length, s.specials_per_1000);
    if (s.count == 1) return mine;  // nothing travels
    mine = plain_rounding(s.payload, std::move(mine));
    if (r == s.first) {
      sum = std::move(mine);
    } else {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += mine[i];
    }
  }
  const bool rounded = s.count > 2 || s.route == ReduceRoute::kScatter;
  return rounded ? plain_rounding(s.payload, std::move(sum)) : sum;
}

RC_GTEST_PROP(Collectives, SumsAreTheReferencesOnEveryRankAndBitEqual, ()) {
  const Settings s = some_settings();
  RC_CLASSIFY(s.payload != Payload::kF32, "rounded");
  std::vector<Group>& groups = groups_of(s.ranks, s.shared_memory);
  std::vector<std::vector<float>> results(static_cast<size_t>(s.ranks));
  std::vector<std::string> problems(static_cast<size_t>(s.ranks));
  on_every_rank(groups, [&](Group& group) {
    const int rank = group.rank();
    if (rank < s.first || rank >= s.first + s.count) return;
    group.reduce_among(s.first, s.count);
    group.set_payload(s.payload);
    group.set_reduce_route(s.route);
    group.set_link_cost(s.cost);
    auto& values = results[static_cast<size_t>(rank)];
    values = contribution(s.seed, rank, s.length, s.specials_per_1000);
    Status done;
    const auto begun = std::span(values).first(s.first_call);
    if (s.halves) {
      done = group.begin_all_reduce(begun);
      if (done) group.progress();
      if (done) done = group.finish_all_reduce(in_seconds(60));
    } else {
      done = group.all_reduce(begun, in_seconds(60));
    }
    if (done) done = group.all_reduce(std::span(values).subspan(s.first_call), in_seconds(60));
    if (!done) problems[static_cast<size_t>(rank)] = done.error().message;
  });
  for (const std::string& problem : problems) RC_ASSERT(problem == "");
  const auto first = static_cast<size_t>(s.first);
  RC_ASSERT(same_numbers(results[first], reference(s)));
  for (size_t r = first; r < first + static_cast<size_t>(s.count); ++r) {
    RC_ASSERT(bits_of(results[r]) == bits_of(results[first]));
  }
}

RC_GTEST_PROP(Collectives, PackedNumbersComeBackAsRounded, ()) {
  const Payload payload = *rc::gen::elementOf(kPayloads);
  const auto length = *rc::gen::inRange<size_t>(0, 300);
  const auto values =
      contribution(*rc::gen::arbitrary<uint64_t>(), 0, length, *rc::gen::element(0, 3, 100));
  Bytes packed(packed_bytes(payload, length));
  pack(payload, values, packed);
  std::vector<float> back(length);
  unpack(payload, packed, back);
  RC_ASSERT(same_numbers(back, plain_rounding(payload, values)));
}

// What the planner counts on: bf16 is within 2^-8 of each number, int8 within 1/250 of the largest
// of its block.
RC_GTEST_PROP(Collectives, RoundingErrorsStayWithinTheirBounds, ()) {
  const auto length = *rc::gen::inRange<size_t>(1, 300);
  std::vector<float> values(length);
  const auto seed = *rc::gen::arbitrary<uint64_t>();
  for (size_t i = 0; i < length; ++i) {
    values[i] = static_cast<float>(uniform(seed, i) * 2 - 1) * 100;
  }
  for (const Payload payload : {Payload::kBf16, Payload::kInt8}) {
    Bytes packed(packed_bytes(payload, length));
    pack(payload, values, packed);
    std::vector<float> back(length);
    unpack(payload, packed, back);
    for (size_t i = 0; i < length; ++i) {
      const size_t block = i / kBlock * kBlock;
      float largest = 0;
      for (size_t j = block; j < std::min(block + kBlock, length); ++j) {
        largest = std::max(largest, std::abs(values[j]));
      }
      const float bound = payload == Payload::kBf16 ? std::abs(values[i]) / 256 : largest / 250;
      RC_ASSERT(std::abs(back[i] - values[i]) <= bound);
    }
  }
}

TEST(Collectives, PayloadsHaveTheirDocumentedSizes) {
  EXPECT_EQ(packed_bytes(Payload::kF32, 4096), 16'384u);
  EXPECT_EQ(packed_bytes(Payload::kBf16, 4096), 8'192u);
  EXPECT_EQ(packed_bytes(Payload::kInt8, 8192), 8'704u);
  EXPECT_EQ(packed_bytes(Payload::kInt8, 33), 34u + 3u);
  EXPECT_EQ(packed_bytes(Payload::kInt8, 0), 0u);
}

// A faster link never makes the direct way dearer, and fewer bytes never prefer scattering.
RC_GTEST_PROP(Collectives, RoutesFollowTheCost, ()) {
  const auto ranks = *rc::gen::inRange<size_t>(3, 65);
  const auto bytes = *rc::gen::inRange<size_t>(0, 10'000'000);
  const LinkCost cost{*rc::gen::inRange(1, 10'000) * 1e-6, *rc::gen::inRange(1, 1000) * 1e7};
  const auto p = static_cast<double>(ranks);
  const auto n = static_cast<double>(bytes);
  const double direct_s = cost.one_way_s + (p - 1) * n / cost.bytes_per_s;
  const double scatter_s = 2 * cost.one_way_s + 2 * (p - 1) / p * n / cost.bytes_per_s;
  RC_PRE(std::abs(direct_s - scatter_s) > 1e-12);
  RC_ASSERT(direct_is_cheaper(bytes, ranks, cost) == (direct_s < scatter_s));
  RC_ASSERT(direct_is_cheaper(bytes, 2, cost));
}

}  // namespace
}  // namespace shoal
