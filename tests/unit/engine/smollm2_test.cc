// A real model on 500 forced prefixes: against llama.cpp's two most likely next tokens
// (tests/golden/smollm2_prefixes.json), and two ranks against one. Needs the model:
// SHOAL_TEST_MODELS names the folder that holds it.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/file.h"
#include "base/json.h"
#include "ranks.h"

namespace shoal {
namespace {

struct Prefix {
  int64_t length;
  int32_t best;
  double gap;  // of the judge's log probabilities of its two best
};
struct Text {
  std::vector<int32_t> ids;
  std::vector<Prefix> prefixes;
};

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const std::string golden =
        std::string(SHOAL_SOURCE_DIR) + "/tests/golden/smollm2_prefixes.json";
    const Json json = Json::parse(read_file(golden).value());
    for (const Json& one : json["texts"]) {
      Text& text = texts_.emplace_back();
      text.ids = one["ids"].get<std::vector<int32_t>>();
      for (const Json& next : one["next"]) {
        text.prefixes.push_back({next[0].get<int64_t>(), next[1][0].get<int32_t>(),
                                 next[1][1].get<double>() - next[2][1].get<double>()});
        ++count_;
      }
    }
    ASSERT_EQ(count_, 500);
    const char* folder = std::getenv("SHOAL_TEST_MODELS");
    const std::string name = json["model"].get<std::string>();
    if (folder == nullptr) {
      GTEST_SKIP() << "SHOAL_TEST_MODELS is not set: " << name << " is NOT compared with llama.cpp";
    }
    const std::string path = std::string(folder) + "/" + name;
    auto model = open_model(path);
    if (!model && model.error().code == ErrorCode::kNotFound) {
      GTEST_SKIP() << path << " is missing: it is NOT compared with llama.cpp";
    }
    ASSERT_TRUE(model) << model.error().message;
    ASSERT_EQ(sha256_of_file(path).value(), json["sha256"].get<std::string>()) << "another file";
    model_ = std::move(*model);
  }

  // The logits after every prefix, in order.
  std::vector<std::vector<float>> run(const std::vector<double>& shares) {
    RanksOptions options{.isa = choose_isa("").value(), .shares = shares};
    options.engine.max_positions = 512;
    options.engine.kv_type = KvType::kF16;
    auto ranks = Ranks::start(*model_, options);
    EXPECT_TRUE(ranks) << ranks.error().message;
    std::vector<std::vector<float>> all;
    for (const Text& text : texts_) {
      std::vector<int64_t> positions;
      for (const Prefix& prefix : text.prefixes) positions.push_back(prefix.length - 1);
      auto logits = logits_at(**ranks, text.ids, positions, 64);
      EXPECT_TRUE(logits) << logits.error().message;
      std::ranges::move(*logits, std::back_inserter(all));
    }
    return all;
  }

  std::vector<Text> texts_;
  int count_ = 0;
  std::unique_ptr<SmallModel> model_;
};

int32_t best_of(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

TEST_F(SmolLm2, PredictsWhatLlamaCppPredicts) {
  const auto logits = run({1});
  ASSERT_EQ(logits.size(), 500u);
  int equal = 0;
  double widest = 0;
  size_t i = 0;
  for (const Text& text : texts_) {
    for (const Prefix& prefix : text.prefixes) {
      if (best_of(logits[i++]) == prefix.best) {
        ++equal;
      } else {
        widest = std::max(widest, prefix.gap);
      }
    }
  }
  RecordProperty("equal_of_500", equal);
  fmt::print("{} of 500 next tokens equal llama.cpp's; widest gap of another {:.3f} nat\n", equal,
             widest);
  EXPECT_GE(equal, 450);
  EXPECT_LE(widest, 0.35);
}

TEST_F(SmolLm2, TwoRanksPredictWhatOnePredicts) {
  const auto one = run({1});
  const auto two = run({1, 1});  // two KV heads and one
  ASSERT_EQ(one.size(), two.size());
  int equal = 0;
  float widest = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    const auto chosen = static_cast<size_t>(best_of(two[i]));
    const auto best = static_cast<size_t>(best_of(one[i]));
    equal += chosen == best;
    widest = std::max(widest, one[i][best] - one[i][chosen]);
  }
  fmt::print("{} of 500 next tokens equal on two ranks; widest gap {:.3f} nat\n", equal, widest);
  EXPECT_GE(equal, 490);
  EXPECT_LT(widest, 0.15);
}

}  // namespace
}  // namespace shoal
