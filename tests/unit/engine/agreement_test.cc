// Every plan against one rank, over a set of cases that covers each pair of architecture or element
// type, kind of plan, number of ranks, payload and instructions. Equal greedy tokens where that is
// promised: F32 weights, reference arithmetic, F32 cache and payload. Elsewhere the next tokens
// after forced prefixes, with bounds from what one rounding does.
#include "agreement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <numeric>
#include <set>

#include "covering_plans.h"

namespace shoal {
namespace {

using Logits = std::vector<std::vector<float>>;

std::vector<std::string> fixtures() {
  std::vector<std::string> paths;
  for (const char* folder : {"llama", "models"}) {
    const std::string path = std::string(SHOAL_SOURCE_DIR) + "/tests/golden/" + folder;
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.path().extension() == ".gguf") paths.push_back(entry.path().string());
  }
  std::ranges::sort(paths);
  return paths;
}

std::vector<std::string> supported_types() {
  std::vector<std::string> names;
  for (uint32_t id = 0; id < 64; ++id) {
    const ElementTraits* traits = element_traits(id);
    if (traits != nullptr && traits->supported) names.emplace_back(traits->name);
  }
  return names;
}

// Six layers and eight heads that share four of keys and values, so that every plan of up to six
// ranks fits, some with a head of keys and values twice; columns are cut inside super-blocks.
std::unique_ptr<SmallModel> model_of_type(const std::string& name) {
  for (uint32_t id = 0; id < 64; ++id) {
    const ElementTraits* traits = element_traits(id);
    if (traits == nullptr || traits->name != name) continue;
    const int64_t width = traits->block_elements > 32 ? 256 : 64;
    return make_small_model({.layers = 6,
                             .hidden = width,
                             .feed_forward = 256,
                             .heads = 8,
                             .kv_heads = 4,
                             .head_dimension = 32,
                             .vocabulary = 320,
                             .type = static_cast<ElementType>(id),
                             .tied = id % 2 == 1});
  }
  return nullptr;
}

// A type's name or a fixture's path.
std::unique_ptr<SmallModel> model_named(const std::string& name) {
  if (auto small = model_of_type(name)) return small;
  auto opened = open_model(name);
  return opened ? std::move(*opened) : nullptr;
}

size_t index_of(const std::string& name, const std::vector<std::string>& names) {
  return static_cast<size_t>(std::ranges::find(names, name) - names.begin());
}

bool has_only_f32(const SmallModel& model) {
  return std::ranges::all_of(model.file.tensors(), [](const auto& tensor) {
    return tensor.type == static_cast<uint32_t>(ElementType::kF32);
  });
}

bool has_blocks(const SmallModel& model) {
  return std::ranges::any_of(model.file.tensors(), [](const auto& tensor) {
    return element_traits(static_cast<ElementType>(tensor.type)).block_elements > 1;
  });
}

RanksOptions options_of(const SmallModel& model, const PlanCase& one) {
  RanksOptions options{.isa = one.best_isa ? choose_isa("").value() : Isa::kReference,
                       .stages = shares_of(one.plan)};
  options.engine.payload = one.payload;
  options.engine.max_positions = std::min<int64_t>(256, model.description.context_length);
  return options;
}

std::string text_of(const PlanCase& one) {
  return fmt::format("{}, {}, {}", plan_name(one.plan), payload_name(one.payload),
                     one.best_isa ? "best instructions" : "reference");
}

// The names of parameters: "Q4_K", "models_qwen2".
std::string parameter_name(const testing::TestParamInfo<std::string>& info) {
  const std::filesystem::path path(info.param);
  const std::string folder = path.parent_path().filename().string();
  return (folder.empty() ? "" : folder + "_") + path.stem().string();
}

// --- where it is exact ---

constexpr PlanCase kOneRank = {{PlanKind::kTensor, 1}, Payload::kF32, false};

std::vector<std::string> exact_models() {
  std::vector<std::string> names = fixtures();
  std::erase_if(names, [](const std::string& name) { return !has_only_f32(*model_named(name)); });
  names.emplace_back("F32");
  return names;
}

const std::vector<std::vector<PlanCase>>& exact_cases() {
  static const auto cases = [] {
    std::vector<std::vector<PlanCase>> possible;
    for (const std::string& name : exact_models()) {
      auto& of_model = possible.emplace_back();
      for (const PlanShape& plan : possible_plans(model_named(name)->card))
        of_model.push_back({plan, Payload::kF32, false});
    }
    return covering_cases(possible);
  }();
  return cases;
}

class Exactly : public testing::TestWithParam<std::string> {};

TEST_P(Exactly, EveryPlanWritesTheTokensOfOneRank) {
  const auto model = model_named(GetParam());
  const int64_t vocabulary = model->description.vocabulary_size;
  const std::vector<Wanted> requests = {{some_tokens(40, vocabulary, 1), 12},
                                        {some_tokens(1, vocabulary, 2), 20},
                                        {some_tokens(75, vocabulary, 3), 12}};
  std::vector<PlanCase> cases = exact_cases()[index_of(GetParam(), exact_models())];
  cases.insert(cases.begin(), kOneRank);
  std::vector<Generated> expected;
  for (const PlanCase& one : cases) {
    SCOPED_TRACE(text_of(one));
    auto ranks = Ranks::start(*model, options_of(*model, one));
    ASSERT_TRUE(ranks) << ranks.error().message;
    const auto got = serve(**ranks, requests, 32);
    ASSERT_TRUE(got) << got.error().message;
    if (expected.empty()) expected = *got;
    for (size_t request = 0; request < requests.size(); ++request)
      EXPECT_EQ((*got)[request].tokens, expected[request].tokens) << "request " << request;
  }
}

INSTANTIATE_TEST_SUITE_P(Agreement, Exactly, testing::ValuesIn(exact_models()), parameter_name);

// --- elsewhere ---

// What one sum or passing on does to a number, as a part of the typical size of those around it: a
// bf16 is off by at most 2^-9 and typically by 0.4 of that; an int8 by at most half a step, of
// 1 / 127 of the block's largest, which is about twice the typical: typically by 1 / 220.
double rounding_of(Payload payload) {
  switch (payload) {
    case Payload::kF32:
      return 0;
    case Payload::kBf16:
      return 0x1p-9 * 0.4;
    case Payload::kInt8:
      return 1.0 / 220;
  }
  return 0;
}

// What adding up in another order does: with weights in blocks it moves an activation over the
// border of its quantisation, 1 / 64000 of its block's largest; floats lose their last bits.
double rounding_of_products(const SmallModel& model) {
  return has_blocks(model) ? 1.0 / 64000 : 0x1p-22;
}

// Roundings are independent, so that they add up as squares; a layer has two sums. Of more than two
// ranks the sum is rounded after what it adds was.
double expected_distance(const SmallModel& model, const PlanCase& one) {
  const bool only_streams = one.plan.kind == PlanKind::kPipeline;
  const Payload payload = only_streams ? stream_payload(one.payload) : one.payload;
  const bool sums_too = std::ranges::any_of(
      shares_of(one.plan), [](const std::vector<double>& stage) { return stage.size() > 2; });
  const double rounding = rounding_of(payload) * (sums_too ? std::numbers::sqrt2 : 1);
  const auto sums = static_cast<double>(2 * model.description.layer_count + 1);
  return std::hypot(rounding, rounding_of_products(model)) * std::sqrt(sums);
}

// Times the expected distance: what layers behind a rounding may make of it, in most positions and
// in any. (Losing one rank's part of one sum makes thousands of it, of int8's a hundred.)
constexpr double kMostlyAmplified = 6;
constexpr double kMostAmplified = 24;

// The likeliest two of some hundred logits lie within a small d of each other (in units of the
// spread) in about 3.4 d of all positions; the two differ from the judge's by 1.4 roundings, up to
// six times amplified, of which 0.4 go the wrong way.
double most_changed(double expected) {
  return kMostlyAmplified * 3.4 * 1.4 * 0.4 * expected;
}

std::vector<std::string> near_models() {
  std::vector<std::string> names = fixtures();
  std::ranges::move(supported_types(), std::back_inserter(names));
  return names;
}

const std::vector<std::vector<PlanCase>>& near_cases() {
  static const auto cases = [] {
    std::vector<std::vector<PlanCase>> possible;
    for (const std::string& name : near_models()) {
      auto& of_model = possible.emplace_back();
      for (const PlanShape& plan : possible_plans(model_named(name)->card)) {
        for (const Payload payload : kPayloads) {
          for (const bool best_isa : {false, true}) of_model.push_back({plan, payload, best_isa});
        }
      }
    }
    return covering_cases(possible);
  }();
  return cases;
}

constexpr int64_t kPrefixes = 64;  // of each of two texts

Logits logits_of(const SmallModel& model, const PlanCase& one) {
  auto ranks = Ranks::start(model, options_of(model, one));
  EXPECT_TRUE(ranks) << ranks.error().message;
  Logits all;
  for (const uint32_t seed : {11u, 12u}) {
    const auto tokens = some_tokens(kPrefixes, model.description.vocabulary_size, seed);
    std::vector<int64_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), 0);
    auto logits = logits_at(**ranks, tokens, positions, 32);
    EXPECT_TRUE(logits) << logits.error().message;
    std::ranges::move(*logits, std::back_inserter(all));
  }
  return all;
}

// A rounding that makes a layer choose another expert of two that were as good is no small one: of
// models with experts, and only of them, some positions jump. Takes them away; how many.
size_t leave_out_jumps(const SmallModel& model, double expected, std::vector<NextToken>& tokens) {
  if (model.description.mixture.count == 0) return 0;
  return std::erase_if(tokens, [&](const NextToken& token) {
    return token.distance > 2 * kMostlyAmplified * expected;
  });
}

void expect_near(const SmallModel& model, const PlanCase& one, std::vector<NextToken> tokens) {
  const double expected = expected_distance(model, one);
  const auto all = static_cast<double>(tokens.size());
  const auto jumps = static_cast<double>(leave_out_jumps(model, expected, tokens));
  // Two experts are as near to each other as two tokens, and every layer chooses.
  const auto choices = static_cast<double>(model.description.layer_count);
  EXPECT_LE(jumps, 1 + choices * most_changed(expected) * all);
  ASSERT_FALSE(tokens.empty());
  std::ranges::sort(tokens, {}, &NextToken::distance);
  EXPECT_LT(tokens[tokens.size() / 2].distance, kMostlyAmplified * expected);
  EXPECT_LT(tokens.back().distance, kMostAmplified * expected);
  EXPECT_GE(equal_share(tokens), 1 - most_changed(expected) - 1 / all);
  double widest = 0;  // in spreads
  for (const NextToken& token : tokens) widest = std::max(widest, token.gap / token.spread);
  EXPECT_LE(widest, kMostAmplified * expected) << "it is no near tie";
  // A stage of one rank does one rank's arithmetic; and payloads are what they are called.
  if (one.payload != Payload::kF32) {
    EXPECT_GT(tokens.back().distance, expected / 10) << "nothing was rounded";
  } else if (one.plan.kind == PlanKind::kPipeline) {
    EXPECT_EQ(tokens.back().distance, 0);
  }
}

class Nearly : public testing::TestWithParam<std::string> {};

TEST_P(Nearly, DifferencesOfPlansAreRoundingsAndNearTies) {
  const auto model = model_named(GetParam());
  ASSERT_TRUE(model);
  const auto& cases = near_cases()[index_of(GetParam(), near_models())];
  if (cases.empty()) GTEST_SKIP() << "one head and one layer: there is nothing to divide";
  std::array<Logits, 2> judges;
  for (const PlanCase& one : cases) {
    SCOPED_TRACE(text_of(one));
    Logits& judge = judges[one.best_isa ? 1 : 0];
    if (judge.empty()) judge = logits_of(*model, {kOneRank.plan, Payload::kF32, one.best_isa});
    expect_near(*model, one, next_tokens(judge, logits_of(*model, one)));
  }
}

INSTANTIATE_TEST_SUITE_P(Agreement, Nearly, testing::ValuesIn(near_models()), parameter_name);

TEST(Agreement, OneRankRoundsNothingWhateverThePayload) {
  const auto model = model_named("Q4_K");
  const Logits judge = logits_of(*model, kOneRank);
  for (const Payload payload : {Payload::kBf16, Payload::kInt8}) {
    const Logits got = logits_of(*model, {kOneRank.plan, payload, false});
    for (size_t i = 0; i < judge.size(); ++i) ASSERT_TRUE(same_bits(got[i], judge[i]));
  }
}

// The set that stands for all combinations: every kind with every number of ranks, payload and kind
// of instructions, on every model some of each.
TEST(Agreement, IsTestedOverACoveringSet) {
  std::set<std::pair<int, int>> pairs;
  size_t cases = 0;
  const auto names = near_models();
  for (size_t model = 0; model < names.size(); ++model) {
    std::set<int> ranks, kinds, payloads;
    for (const PlanCase& one : near_cases()[model]) {
      ++cases;
      kinds.insert(static_cast<int>(one.plan.kind));
      ranks.insert(one.plan.ranks);
      payloads.insert(static_cast<int>(one.payload));
      pairs.emplace(static_cast<int>(one.plan.kind), one.plan.ranks);
      pairs.emplace(static_cast<int>(one.plan.kind), 100 + static_cast<int>(one.payload));
      pairs.emplace(10 + one.plan.ranks, 100 + static_cast<int>(one.payload));
    }
    const ModelCard card = model_named(names[model])->card;
    if (possible_plans(card).empty()) continue;  // one head and one layer: nothing to divide
    EXPECT_EQ(payloads.size(), kPayloads.size()) << names[model];
    if (card.layer_count >= 6 && most_ranks(card) >= 6 && card.layers_stand_alone) {
      EXPECT_EQ(ranks.size(), 5u) << names[model];
      EXPECT_EQ(kinds.size(), 4u) << names[model];
    }
  }
  // Of 2 to 6 ranks, hybrids 3 at least: 4 + 4 kinds' ranks less one; with each payload.
  EXPECT_EQ(pairs.size(), (4u * 5 - 1) + 4 * 3 + 5 * 3);
  EXPECT_LT(cases, 400u);
}

}  // namespace
}  // namespace shoal
