// The same plan gives the same bits: whatever the chunking of the prompt, the threads, the other
// sequences in the batch.
#include <gtest/gtest.h>

#include <algorithm>

#include "ranks.h"

namespace shoal {
namespace {

struct Case {
  Isa isa;
  ElementType type;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Isa isa : {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAmx, Isa::kNeon}) {
    if (!choose_isa(isa_name(isa))) continue;
    for (uint32_t id = 0; id < 64; ++id) {
      const ElementTraits* traits = element_traits(id);
      if (traits == nullptr || !traits->supported) continue;
      const auto type = static_cast<ElementType>(id);
      all.push_back({isa, type});
    }
  }
  return all;
}

class Reproducible : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    model_ = make_small_model({.hidden = 256,
                               .feed_forward = 256,
                               .heads = 8,
                               .kv_heads = 2,
                               .head_dimension = 32,
                               .vocabulary = 300,
                               .type = GetParam().type});
    requests_ = {{some_tokens(70, 300, 1), 6}};
    for (uint32_t i = 0; i < 5; ++i) {
      company_.push_back({some_tokens(3 + 17 * i, 300, 10 + i), 3 + i});
    }
  }

  Generated run(int threads, int64_t rows_per_step, bool in_company, KvType kv_type = KvType::kF16,
                std::vector<double> shares = {1}) {
    RanksOptions options{.isa = GetParam().isa, .threads = threads, .shares = std::move(shares)};
    options.engine.kv_type = kv_type;
    auto ranks = Ranks::start(*model_, options);
    EXPECT_TRUE(ranks);
    std::vector<Wanted> all;
    if (in_company) all = company_;
    all.insert(all.begin() + static_cast<ptrdiff_t>(all.size() / 2), requests_[0]);
    const auto served = serve(**ranks, all, rows_per_step);
    EXPECT_TRUE(served);
    return (*served)[(all.size() - 1) / 2];
  }

  static void expect_same(const Generated& a, const Generated& b, const char* what) {
    EXPECT_GT(std::ranges::max(a.logits[0]), 0.01F);
    EXPECT_EQ(a.tokens, b.tokens) << what;
    ASSERT_EQ(a.logits.size(), b.logits.size());
    for (size_t i = 0; i < a.logits.size(); ++i) {
      EXPECT_TRUE(same_bits(a.logits[i], b.logits[i])) << what << ", token " << i;
    }
  }

  std::unique_ptr<SmallModel> model_;
  std::vector<Wanted> requests_;
  std::vector<Wanted> company_;
};

TEST_P(Reproducible, WhateverTheChunksThreadsAndCompany) {
  const Generated expected = run(1, 64, false);
  expect_same(expected, run(1, 64, false), "a second run");
  for (const int64_t chunk : {1, 5, 16, 33}) expect_same(expected, run(1, chunk, false), "chunks");
  for (const int threads : {2, 3}) expect_same(expected, run(threads, 64, false), "threads");
  for (const int64_t chunk : {8, 64}) expect_same(expected, run(2, chunk, true), "company");
}

TEST_P(Reproducible, WithF32Cache) {
  const Generated expected = run(1, 64, false, KvType::kF32);
  expect_same(expected, run(2, 7, true, KvType::kF32), "chunks, threads and company");
}

TEST_P(Reproducible, WithQ8Cache) {
  const Generated expected = run(1, 64, false, KvType::kQ8_0);
  expect_same(expected, run(2, 7, true, KvType::kQ8_0), "chunks, threads and company");
}

TEST_P(Reproducible, OnTwoRanks) {
  const Generated expected = run(1, 64, false, KvType::kF16, {1, 1});
  expect_same(expected, run(2, 9, true, KvType::kF16, {1, 1}), "chunks, threads and company");
}

INSTANTIATE_TEST_SUITE_P(OnEveryIsa, Reproducible, testing::ValuesIn(cases()),
                         [](const auto& info) {
                           return fmt::format("{}_{}", isa_name(info.param.isa),
                                              element_traits(info.param.type).name);
                         });

TEST(KvTypes, SmallerOnesStayClose) {
  const auto model = make_small_model({});
  const std::vector<Wanted> requests = {{some_tokens(90, 320, 4), 1}};
  std::vector<std::vector<float>> logits;
  for (const KvType type : kKvTypes) {
    RanksOptions options;
    options.engine.kv_type = type;
    auto ranks = Ranks::start(*model, options);
    ASSERT_TRUE(ranks);
    const auto served = serve(**ranks, requests, 64);
    ASSERT_TRUE(served);
    logits.push_back((*served)[0].logits[0]);
  }
  float largest = 0;
  for (const float x : logits[0]) largest = std::max(largest, std::abs(x));
  float differences[3] = {};
  for (size_t k = 1; k < 3; ++k) {
    for (size_t i = 0; i < logits[0].size(); ++i) {
      differences[k] = std::max(differences[k], std::abs(logits[0][i] - logits[k][i]));
    }
  }
  EXPECT_GT(differences[1], 0);
  EXPECT_LT(differences[1], 0.005F * largest);
  EXPECT_GT(differences[2], differences[1]);
  EXPECT_LT(differences[2], 0.02F * largest);
}

}  // namespace
}  // namespace shoal
