// Logits of small models of every architecture against an independent implementation's
// (tests/golden), step by step through the engine. Steps are short, so that sequences go round in
// the pages of layers with a window.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "ranks.h"

namespace shoal {
namespace {

constexpr int64_t kStepRows = 16;
const std::string kFolder = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/";

struct Case {
  std::string name;  // "models/qwen2"
  Isa isa;
  std::vector<double> shares;
};

class Golden : public testing::TestWithParam<Case> {};

TEST_P(Golden, LogitsAgreeToATenThousandthOfTheLargest) {
  if (!choose_isa(isa_name(GetParam().isa))) GTEST_SKIP() << "not on this machine";
  const auto text = read_file(kFolder + GetParam().name + ".json");
  ASSERT_TRUE(text) << text.error().message;
  const Json golden = Json::parse(*text);
  const auto path = std::filesystem::path(kFolder + GetParam().name)
                        .replace_filename(golden["model"].get<std::string>());
  const auto model = open_model(path.string());
  ASSERT_TRUE(model) << model.error().message;
  if (static_cast<int64_t>(GetParam().shares.size()) > most_ranks((*model)->card))
    GTEST_SKIP() << "it cannot be cut over so many";
  RanksOptions options{.isa = GetParam().isa, .shares = GetParam().shares};
  options.engine.max_rows = kStepRows;
  options.engine.max_wanted_rows = kStepRows;
  options.engine.max_positions = golden.value("context", (*model)->description.context_length);
  auto ranks = Ranks::start(**model, options);
  ASSERT_TRUE(ranks) << ranks.error().message;
  int compared = 0;
  for (const Json& one : golden["cases"]) {
    const auto positions = one["positions"].get<std::vector<int64_t>>();
    const auto got =
        logits_at(**ranks, one["tokens"].get<std::vector<int32_t>>(), positions, kStepRows);
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
  EXPECT_GE(compared, 6);
}

std::vector<Case> golden_cases() {
  std::vector<Case> cases;
  std::vector<Isa> isas = {Isa::kReference, Isa::kAvx2, Isa::kAvx512};
  if (machine_has(Isa::kNeon)) isas = {Isa::kReference, Isa::kNeon};
  for (const char* folder : {"llama", "models"}) {
    for (const auto& entry : std::filesystem::directory_iterator(kFolder + folder)) {
      if (entry.path().extension() != ".json") continue;
      const std::string name = folder + ("/" + entry.path().stem().string());
      for (const Isa isa : isas) {
        cases.push_back({name, isa, {1}});
        cases.push_back({name, isa, {1, 1}});
      }
      cases.push_back({name, Isa::kReference, {2, 1, 1}});
    }
  }
  std::ranges::sort(cases, {}, &Case::name);
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, testing::ValuesIn(golden_cases()), [](const auto& info) {
  std::string name = info.param.name;
  std::ranges::replace(name, '/', '_');
  return fmt::format("{}_{}_{}", name, isa_name(info.param.isa), info.param.shares.size());
});

}  // namespace
}  // namespace shoal
