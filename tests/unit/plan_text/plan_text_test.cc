// What people read of plans.
#include "cli/plan_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "../placement/cards.h"

namespace shoal {
namespace {

using testing::HasSubstr;

Result<Placement> placed(const Wish& wish) {
  Topology topology{{node("alder", 8), node("birch", 8), node("cedar", 0.1)}, {}};
  topology.links = {link("alder", "birch", 3e-5, 2e9), link("alder", "cedar", 3e-5, 2e9),
                    link("birch", "cedar", 3e-5, 2e9)};
  return place(topology, big_card(), wish);
}

TEST(PlanText, APipelineShowsStagesLayersAndMemoryWithinEightyColumns) {
  const auto placement = placed({.context = 2048, .mode = PlanMode::kPipeline});
  ASSERT_TRUE(placement) << placement.error().message;
  const std::string text = cli::placement_text(to_json(*placement));
  EXPECT_THAT(text, HasSubstr("* pipeline, 2 nodes, f32 between them\n"));
  EXPECT_THAT(text, testing::ContainsRegex("node +stage +layers +share +memory +weights +KV\n"));
  EXPECT_THAT(text, testing::ContainsRegex("    alder +0 +0-[0-9]+ +[0-9]+%"));
  EXPECT_THAT(text, testing::ContainsRegex("    birch +1 +[0-9]+-15 +[0-9]+%"));
  EXPECT_THAT(text, HasSubstr("for 4 together"));
  EXPECT_THAT(text, HasSubstr("- one node: cedar\n")) << "what could not be is named too";
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
}

TEST(PlanText, ARunningPlanIsOneLine) {
  const auto placement = placed({.context = 2048, .node_count = 2, .payload = Payload::kBf16});
  ASSERT_TRUE(placement);
  const std::string line = cli::plan_line({{"plan", to_json(*placement->chosen())}});
  EXPECT_EQ(line,
            "plan: tensor parallel, 2 nodes, bf16 between them: alder (lead) 50%, birch 50%; "
            "context 2048\n");
  EXPECT_EQ(cli::plan_line({{"plan", "nonsense"}}), "");
}

}  // namespace
}  // namespace shoal
