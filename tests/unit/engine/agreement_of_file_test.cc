// A real model over several plans and payloads against one rank with F32 sums, on forced prefixes
// of a text: the table of docs/correctness.md. By hand, as it takes minutes:
//   shoal tokenize MODEL --json < TEXT > IDS
//   SHOAL_AGREEMENT_MODEL=MODEL SHOAL_AGREEMENT_IDS=IDS unit_engine
//   --gtest_filter=AgreementOfFile.*
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "agreement.h"
#include "base/file.h"
#include "base/json.h"
#include "covering_plans.h"

namespace shoal {
namespace {

constexpr size_t kMostPrefixes = 256;
constexpr double kMostDivergenceOfBf16 = 1e-3;

Result<std::vector<std::vector<float>>> logits_of(const SmallModel& model, const PlanShape& plan,
                                                  Payload payload,
                                                  const std::vector<int32_t>& ids) {
  RanksOptions options{.isa = choose_isa("").value(), .stages = shares_of(plan)};
  options.engine.kv_type = KvType::kF16;
  options.engine.max_positions = kMostPrefixes;
  options.engine.payload = payload;
  // The machine may have fewer cores than there are ranks.
  options.engine.collective_timeout = std::chrono::seconds(60);
  SHOAL_ASSIGN(const auto ranks, Ranks::start(model, options));
  std::vector<int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  return logits_at(*ranks, ids, positions, 64);
}

TEST(AgreementOfFile, DivergenceFromOneRank) {
  const char* path = std::getenv("SHOAL_AGREEMENT_MODEL");
  const char* ids_path = std::getenv("SHOAL_AGREEMENT_IDS");
  if (path == nullptr || ids_path == nullptr) {
    GTEST_SKIP() << "SHOAL_AGREEMENT_MODEL and SHOAL_AGREEMENT_IDS are not set: payloads are NOT "
                    "compared on a real model";
  }
  const auto model = open_model(path);
  ASSERT_TRUE(model) << model.error().message;
  const auto text = read_file(ids_path);
  ASSERT_TRUE(text) << text.error().message;
  auto ids = Json::parse(*text)["ids"].get<std::vector<int32_t>>();
  ids.resize(std::min(ids.size(), kMostPrefixes));
  ASSERT_GE(ids.size(), 200u) << "too short a text";
  const auto judge = logits_of(**model, {PlanKind::kTensor, 1}, Payload::kF32, ids);
  ASSERT_TRUE(judge) << judge.error().message;
  fmt::print("| plan | payload | mean KL, nats | equal next tokens of {} | widest gap, nats |\n",
             ids.size());
  for (const PlanShape& plan :
       {PlanShape{PlanKind::kTensor, 2}, PlanShape{PlanKind::kTensor, 3},
        PlanShape{PlanKind::kPipeline, 2}, PlanShape{PlanKind::kHybrid, 3}}) {
    for (const Payload payload : kPayloads) {
      const auto logits = logits_of(**model, plan, payload, ids);
      ASSERT_TRUE(logits) << logits.error().message;
      const auto tokens = next_tokens(*judge, *logits);
      fmt::print("| {} | {} | {:.1e} | {} ({:.1f}%) | {:.3f} |\n", plan_name(plan),
                 payload_name(payload), mean_divergence(tokens),
                 std::ranges::count(tokens, true, &NextToken::equal), 100 * equal_share(tokens),
                 widest_gap(tokens));
      std::fflush(stdout);
      if (payload == Payload::kF32) {
        EXPECT_LT(widest_gap(tokens), 0.15);
      }
      if (payload == Payload::kBf16) {
        EXPECT_LT(mean_divergence(tokens), kMostDivergenceOfBf16);
      }
      EXPECT_GE(equal_share(tokens), payload == Payload::kInt8 ? 0.85 : 0.95) << plan_name(plan);
    }
  }
}

}  // namespace
}  // namespace shoal
