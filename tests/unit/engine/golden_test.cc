// Logits of small models against an independent implementation's (tests/golden/llama).
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/json.h"
#include "ranks.h"

namespace shoal {
namespace {

struct Case {
  const char* name;
  Isa isa;
  std::vector<double> shares;
};

class Golden : public testing::TestWithParam<Case> {};

TEST_P(Golden, LogitsAgreeToATenThousandthOfTheLargest) {
  const std::string folder = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/llama/";
  if (!choose_isa(isa_name(GetParam().isa))) GTEST_SKIP() << "not on this machine";
  const auto model = open_model(folder + GetParam().name + ".gguf");
  ASSERT_TRUE(model) << model.error().message;
  const auto text = read_file(folder + GetParam().name + ".json");
  ASSERT_TRUE(text) << text.error().message;
  const Json golden = Json::parse(*text);
  auto ranks = Ranks::start(**model, {.isa = GetParam().isa, .shares = GetParam().shares});
  ASSERT_TRUE(ranks) << ranks.error().message;
  int compared = 0;
  for (const Json& one : golden["cases"]) {
    const auto positions = one["positions"].get<std::vector<int64_t>>();
    const auto got = logits_at(**ranks, one["tokens"].get<std::vector<int32_t>>(), positions, 48);
    ASSERT_TRUE(got) << got.error().message;
    ASSERT_EQ(got->size(), positions.size());
    for (size_t i = 0; i < positions.size(); ++i) {
      const auto expected = one["logits"][i].get<std::vector<double>>();
      ASSERT_EQ((*got)[i].size(), expected.size());
      double largest = 0;
      double difference = 0;
      for (size_t token = 0; token < expected.size(); ++token) {
        largest = std::max(largest, std::abs(expected[token]));
        difference = std::max(difference, std::abs(expected[token] - (*got)[i][token]));
      }
      EXPECT_LT(difference, 1e-4 * largest) << "position " << positions[i];
      ++compared;
    }
  }
  EXPECT_GE(compared, 18);
}

std::vector<Case> golden_cases() {
  std::vector<Case> cases;
  for (const char* name : {"plain", "wide_heads", "tied_factors"}) {
    for (const Isa isa : {Isa::kReference, Isa::kAvx2}) {
      cases.push_back({name, isa, {1}});
      cases.push_back({name, isa, {1, 1}});
    }
  }
  cases.push_back({"tied_factors", Isa::kReference, {1, 1, 1}});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Llama, Golden, testing::ValuesIn(golden_cases()), [](const auto& info) {
  return fmt::format("{}_{}_{}", info.param.name, isa_name(info.param.isa),
                     info.param.shares.size());
});

}  // namespace
}  // namespace shoal
