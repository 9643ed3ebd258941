#include "kernels/program_check.h"

#include <gtest/gtest.h>

#include <functional>

#include "kernels/column_plan.h"
#include "kernels/probe.h"
#include "small_model.h"

namespace shoal::kernels_test {
namespace {

using namespace kernels;

const BackendLimits kLimits = {8, 2, 100};

TEST(ProgramCheck, TakesAGoodProgramAndKnowsItsShapes) {
  const auto shapes = check_program(SmallModel{}.program(), kLimits);
  ASSERT_TRUE(shapes) << shapes.error().message;
  ASSERT_EQ(shapes->size(), 12u);
  EXPECT_EQ((*shapes)[0].rows, 30);  // the table, through its use as the head
  EXPECT_EQ((*shapes)[0].columns, 64);
  EXPECT_EQ((*shapes)[3].rows, 192);
  EXPECT_EQ((*shapes)[10].columns, 96);
  EXPECT_EQ((*shapes)[11].columns, 16);
}

TEST(ProgramCheck, RefusesLimitsWithoutSense) {
  for (const BackendLimits& limits :
       {BackendLimits{0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {INT64_MAX, 1, 1}, {1, 1, INT64_MAX}}) {
    EXPECT_FALSE(check_program(SmallModel{}.program(), limits));
  }
}

template <typename Op>
Op& operation(Program& program, size_t segment, size_t index) {
  return std::get<Op>(program.segments[segment].operations[index]);
}

struct Mistake {
  const char* words;  // in the error
  std::function<void(Program&)> make;
};

TEST(ProgramCheck, NamesEachMistake) {
  const std::vector<Mistake> mistakes = {
      {"'q') of the program is 0 wide", [](Program& p) { p.buffers[kQ].width = 0; }},
      {"wide", [](Program& p) { p.buffers[kQ].width = INT64_MAX; }},
      {"operation 0 of segment 0", [](Program& p) { operation<Embed>(p, 0, 0).out = 99; }},
      {"buffer -1 of 12", [](Program& p) { operation<Embed>(p, 0, 0).out = -1; }},
      {"weight 12 of 12", [](Program& p) { operation<Embed>(p, 0, 0).table = 12; }},
      {"first token", [](Program& p) { operation<Embed>(p, 0, 0).first_token = -3; }},
      {"declared a vector and used as a matrix",
       [](Program& p) { operation<Embed>(p, 0, 0).table = 1; }},
      {"declared a matrix and used as a vector",
       [](Program& p) { operation<RmsNorm>(p, 1, 0).weight = 0; }},
      {"64 and 192 wide", [](Program& p) { operation<RmsNorm>(p, 1, 0).out = kQ; }},
      {"epsilon", [](Program& p) { operation<RmsNorm>(p, 1, 0).epsilon = NAN; }},
      {"different rows", [](Program& p) { operation<RmsNorm>(p, 1, 0).out = kHiddenOut; }},
      {"both read and written",
       [](Program& p) { operation<Project>(p, 1, 1).outputs[0].out = kNormed; }},
      {"both read and written",
       [](Program& p) { operation<Project>(p, 1, 1).outputs[2].out = kK; }},
      {"used with", [](Program& p) { operation<Project>(p, 1, 1).outputs[0].weight = 4; }},
      {"used with", [](Program& p) { operation<Project>(p, 1, 1).outputs[0].bias = 1; }},
      {"rope 1 of 1", [](Program& p) { operation<Rotate>(p, 1, 2).rope = 1; }},
      {"do not fill", [](Program& p) { operation<Rotate>(p, 1, 2).heads = 5; }},
      {"turns 34 dimensions",
       [](Program& p) { p.ropes[0].dimensions = 34, p.ropes[0].frequency_factors.reset(); }},
      {"turns 31 dimensions", [](Program& p) { p.ropes[0].dimensions = 31; }},
      {"base", [](Program& p) { p.ropes[0].base = -1; }},
      {"cache group 1 of 1", [](Program& p) { operation<Attend>(p, 1, 4).group = 1; }},
      {"layer 1 of a cache group of 1", [](Program& p) { operation<Attend>(p, 1, 4).layer = 1; }},
      {"KV head 3 of 3", [](Program& p) { operation<Attend>(p, 1, 4).query_to_kv[5] = 3; }},
      {"query heads", [](Program& p) { operation<Attend>(p, 1, 4).query_to_kv.pop_back(); }},
      {"scale", [](Program& p) { operation<Attend>(p, 1, 4).scale = INFINITY; }},
      {"both read and written", [](Program& p) { operation<Attend>(p, 1, 4).out = kQ; }},
      {"cache group 0", [](Program& p) { p.cache_groups[0].kv_heads = 0; }},
      {"cache group 0", [](Program& p) { p.cache_groups[0].window = -1; }},
      {"cache group 0", [](Program& p) { p.cache_groups[0].chunked = true; }},
      {"KV heads of 32", [](Program& p) { p.cache_groups[0].kv_heads = 4; }},
      {"buffer -1", [](Program& p) { operation<Attend>(p, 1, 4).v = -1; }},
      {"used with",
       [](Program& p) { p.segments[2].operations.push_back(Scale{kDelta, 1, WeightId{1}}); }},
      {"positions from -1 on",
       [](Program& p) { p.segments[1].operations.push_back(GrowByPosition{kQ, 1, 8, -1}); }},
      {"wide", [](Program& p) { operation<Gate>(p, 2, 3).up = kQ; }},
      {"wide", [](Program& p) { operation<Add>(p, 2, 0).in = kQ; }},
      {"wanted rows", [](Program& p) { operation<Gather>(p, 2, 6).out = kDelta; }},
      {"all-reduce", [](Program& p) { p.segments[0].all_reduce = 12; }},
      {"logits", [](Program& p) { p.logits = 40; }},
      {"hidden state", [](Program& p) { p.hidden = -2; }},
      {"vocabulary has 29 rows", [](Program& p) { p.vocabulary.end = 39; }},
  };
  for (size_t i = 0; i < mistakes.size(); ++i) {
    Program program = SmallModel{}.program();
    mistakes[i].make(program);
    const auto shapes = check_program(program, kLimits);
    ASSERT_FALSE(shapes) << "mistake " << i << ": " << mistakes[i].words;
    EXPECT_EQ(shapes.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(shapes.error().message.find(mistakes[i].words), std::string::npos)
        << "mistake " << i << ": " << shapes.error().message;
  }
}

// --- cuts ---

TEST(ColumnPlan, PiecesEndAtSuperBlocks) {
  const auto pieces = plan_columns(ElementType::kQ4_K, 768, {{96, 288}, {288, 320}, {544, 576}});
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 3u);
  const int64_t expected[3][3] = {{96, 0, 160}, {256, 160, 64}, {544, 224, 32}};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*pieces)[i].source_column, expected[i][0]);
    EXPECT_EQ((*pieces)[i].first, expected[i][1]);
    EXPECT_EQ((*pieces)[i].count, expected[i][2]);
  }
}

TEST(ColumnPlan, RefusesRangesOutsideAndUneven) {
  for (const auto& ranges : std::vector<std::vector<Range>>{{{0, 800}},
                                                            {{-32, 32}},
                                                            {{64, 64}},
                                                            {{64, 32}},
                                                            {{16, 64}},
                                                            {{0, 40}},
                                                            {{0, 32}, {768, 800}}}) {
    EXPECT_FALSE(plan_columns(ElementType::kQ6_K, 768, ranges));
  }
  EXPECT_TRUE(plan_columns(ElementType::kF32, 768, {{16, 64}}));  // floats share no scales
  EXPECT_FALSE(plan_rows(10, {{0, 11}}));
  EXPECT_FALSE(plan_rows(10, {{3, 3}}));
  EXPECT_TRUE(plan_rows(10, {{3, 4}, {9, 10}}));
}

// --- the probe ---

TEST(Probe, MeasuresSomething) {
  for (const Isa isa : kAllIsas) {
    if (!machine_has(isa)) continue;
    const ProbeResult result = probe_machine(isa, 2, 0.01);
    EXPECT_GT(result.read_bytes_per_s, 1e6);
    EXPECT_GT(result.multiply_adds_per_s, 1e5);
    const PeakRate peak = peak_rate(isa, 2, 0.01);
    EXPECT_GT(peak.multiply_adds_per_s, 1e6);
    EXPECT_FALSE(peak.numbers.empty());
  }
}

TEST(Kernels, ExistForEveryChoice) {
  for (const char* name : {"", "reference", "avx2", "avx512", "amx", "neon"}) {
    const auto isa = choose_isa(name);
    EXPECT_TRUE(!isa || kernels_for(*isa) != nullptr) << name;
  }
}

}  // namespace
}  // namespace shoal::kernels_test
