// Whole models by every instruction set of this machine: the vector instructions' logits are the
// same bits (their products sum exact integers, attention and norms add along one chain), and the
// reference's, which adds floats in double, are as near as roundings allow.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "ranks.h"

namespace shoal {
namespace {

using Logits = std::vector<std::vector<float>>;

std::vector<Isa> vector_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (choose_isa(isa_name(isa))) isas.push_back(isa);
  return isas;
}

// After each of the tokens, in steps of `chunk` rows.
Logits logits_by(Isa isa, const SmallModel& model, KvType kv_type,
                 const std::vector<int32_t>& tokens, int64_t chunk, int threads = 1) {
  RanksOptions options{.isa = isa, .threads = threads};
  options.engine.kv_type = kv_type;
  options.engine.max_positions = std::min<int64_t>(256, model.description.context_length);
  auto ranks = Ranks::start(model, options);
  EXPECT_TRUE(ranks) << ranks.error().message;
  std::vector<int64_t> positions(tokens.size());
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i);
  auto logits = logits_at(**ranks, tokens, positions, chunk);
  EXPECT_TRUE(logits) << logits.error().message;
  return std::move(*logits);
}

// Few rows of input and many take different ways, and must not differ either.
void expect_one_answer(const SmallModel& model, const std::vector<int32_t>& tokens) {
  for (const KvType type : kKvTypes) {
    const Logits expected = logits_by(vector_isas().front(), model, type, tokens, 33);
    for (const Isa isa : vector_isas()) {
      const int64_t chunk = type == KvType::kF16 ? 3 : 33;
      const Logits got = logits_by(isa, model, type, tokens, chunk);
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_TRUE(same_bits(got[i], expected[i])) << isa_name(isa) << ", position " << i;
    }
  }
}

// The largest difference relative to the largest logit.
double distance(const Logits& a, const Logits& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    double largest = 0, difference = 0;
    for (size_t token = 0; token < a[i].size(); ++token) {
      largest = std::max(largest, std::abs(static_cast<double>(a[i][token])));
      difference = std::max(difference, std::abs(static_cast<double>(a[i][token]) -
                                                 static_cast<double>(b[i][token])));
    }
    worst = std::max(worst, difference / largest);
  }
  return worst;
}

class InstructionSets : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (vector_isas().empty()) GTEST_SKIP() << "NOT TESTED: this machine has no vector kernels";
  }
};

// Every architecture, and a llama of every element type.
std::vector<std::string> models() {
  std::set<std::string> names;
  for (const char* folder : {"llama", "models"}) {
    const std::string path = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/" + folder;
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.path().extension() == ".gguf") names.insert(entry.path().string());
  }
  for (uint32_t id = 0; id < 64; ++id) {
    const ElementTraits* traits = element_traits(id);
    if (traits != nullptr && traits->supported) names.insert(std::string(traits->name));
  }
  return {names.begin(), names.end()};
}

Result<std::unique_ptr<SmallModel>> model_named(const std::string& name) {
  for (uint32_t id = 0; id < 64; ++id) {
    const ElementTraits* traits = element_traits(id);
    if (traits == nullptr || traits->name != name) continue;
    return make_small_model({.hidden = 256,
                             .feed_forward = 768,
                             .heads = 8,
                             .kv_heads = 2,
                             .head_dimension = 32,
                             .type = static_cast<ElementType>(id)});
  }
  return open_model(name);
}

// Quantising moves an activation by 1 / 64000 of its block's largest, once for every product on the
// way to a logit: 32 times that is what a few layers may make of it. (Float weights differ by a
// hundredth of it.)
constexpr double kLargestDistance = 32.0 / 64000;

TEST_P(InstructionSets, AgreeOnWholeModels) {
  const auto model = model_named(GetParam());
  ASSERT_TRUE(model) << model.error().message;
  const auto tokens = some_tokens(40, (*model)->description.vocabulary_size, 5);
  expect_one_answer(**model, tokens);
  const Logits exact = logits_by(Isa::kReference, **model, KvType::kF32, tokens, 40);
  const Logits vectors = logits_by(vector_isas().back(), **model, KvType::kF32, tokens, 40);
  EXPECT_LT(distance(exact, vectors), kLargestDistance);
}

INSTANTIATE_TEST_SUITE_P(All, InstructionSets, testing::ValuesIn(models()), [](const auto& info) {
  return std::filesystem::path(info.param).stem().string();
});

// A real model: every file of it that SHOAL_TEST_MODELS holds, in whatever types.
TEST(InstructionSetsOnSmolLm2, AgreeOnAText) {
  const char* folder = std::getenv("SHOAL_TEST_MODELS");
  if (folder == nullptr || vector_isas().empty())
    GTEST_SKIP() << "SHOAL_TEST_MODELS is not set: instruction sets are NOT compared on SmolLM2";
  const Json texts = Json::parse(
      read_file(std::string(SHOAL_SOURCE_DIR) + "/tests/golden/smollm2_prefixes.json").value());
  auto tokens = texts["texts"][0]["ids"].get<std::vector<int32_t>>();
  tokens.resize(48);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("SmolLM2-135M") || !name.ends_with(".gguf")) continue;
    SCOPED_TRACE(name);
    ++files;
    const auto model = open_model(entry.path());
    ASSERT_TRUE(model) << model.error().message;
    expect_one_answer(**model, tokens);
    // The reference takes a while; where it prefers another token, its two must be near a tie.
    const std::vector<int32_t> some(tokens.begin(), tokens.begin() + 12);
    const Logits exact = logits_by(Isa::kReference, **model, KvType::kF16, some, 12, 2);
    const Logits vectors = logits_by(vector_isas().back(), **model, KvType::kF16, some, 12, 2);
    double widest = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      const auto best = std::ranges::max_element(vectors[i]) - vectors[i].begin();
      const float gap = std::ranges::max(exact[i]) - exact[i][static_cast<size_t>(best)];
      widest = std::max(widest, static_cast<double>(gap));
    }
    fmt::print("{}: logits within {:.1e} of the reference's largest, widest gap {:.3f} nat\n", name,
               distance(exact, vectors), widest);
    EXPECT_LE(widest, 0.02);
    EXPECT_LT(distance(exact, vectors), 2e-3);
  }
  if (files == 0) GTEST_SKIP() << folder << " holds no SmolLM2-135M: NOT compared";
}

}  // namespace
}  // namespace shoal
