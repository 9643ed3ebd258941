// One model over two ranks that are joined by RDMA: the same tokens from the same logits, to the
// bit, as with the two joined by TCP.
#include <gtest/gtest.h>

#include "ranks.h"
#include "real_ends.h"

namespace shoal {
namespace {

std::vector<Group> groups_over_rdma(int size) {
  SHOAL_CHECK(size == 2);
  RealEnds ends = join_over_rdma({});
  EXPECT_TRUE(ends.a) << ends.a.error().message;
  EXPECT_TRUE(ends.b) << ends.b.error().message;
  SHOAL_CHECK(ends.a && ends.b);
  std::vector<std::unique_ptr<Link>> of_first(2);
  std::vector<std::unique_ptr<Link>> of_second(2);
  of_first[1] = std::move(*ends.a);
  of_second[0] = std::move(*ends.b);
  std::vector<Group> groups;
  groups.emplace_back(0, std::move(of_first));
  groups.emplace_back(1, std::move(of_second));
  return groups;
}

std::vector<Generated> generate(RanksOptions options, bool over_rdma) {
  const auto model = make_small_model({});
  if (over_rdma) options.connect = groups_over_rdma;
  options.engine.collective_timeout = std::chrono::seconds(60);
  auto ranks = Ranks::start(*model, options);
  EXPECT_TRUE(ranks) << ranks.error().message;
  if (!ranks) return {};
  const auto prompts = {some_tokens(37, 320, 1), some_tokens(5, 320, 2)};
  std::vector<Wanted> wanted;
  for (const auto& prompt : prompts) wanted.push_back({prompt, 24});
  const auto generated = serve(**ranks, wanted, 16);
  EXPECT_TRUE(generated) << generated.error().message;
  return generated ? *generated : std::vector<Generated>{};
}

void expect_same(const RanksOptions& options) {
  const auto by_tcp = generate(options, false);
  const auto by_rdma = generate(options, true);
  ASSERT_EQ(by_tcp.size(), 2u);
  ASSERT_EQ(by_rdma.size(), 2u);
  for (size_t i = 0; i < by_tcp.size(); ++i) {
    EXPECT_EQ(by_rdma[i].tokens.size(), 24u);
    EXPECT_EQ(by_rdma[i].tokens, by_tcp[i].tokens);
    ASSERT_EQ(by_rdma[i].logits.size(), by_tcp[i].logits.size());
    for (size_t step = 0; step < by_tcp[i].logits.size(); ++step)
      EXPECT_TRUE(same_bits(by_rdma[i].logits[step], by_tcp[i].logits[step])) << step;
  }
}

TEST(GenerationOverRdma, TwoTensorParallelRanks) {
  expect_same({.shares = {1, 1}});
}

TEST(GenerationOverRdma, TwoStages) {
  expect_same({.stages = {{1}, {1}}});
}

}  // namespace
}  // namespace shoal
