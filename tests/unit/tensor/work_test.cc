#include "tensor/work.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

// Weights and buffers that the operations below refer to.
Program program() {
  Program p;
  p.buffers = {{"in", 64}, {"out", 96}, {"logits", 500, Rows::kWanted}, {"router", 8}};
  const WeightUse m = WeightUse::kMatrix;
  p.weights = {{"blk.0.attn_q.weight", {}, m},
               {"blk.0.ffn_up.weight", {}, m},
               {"token_embd.weight", {}, m},
               {"blk.0.ffn_gate_inp.weight", {}, m},
               {"blk.0.ffn_up_exps.weight", {}, WeightUse::kMatrices, 8}};
  p.cache_groups = {{.layer_count = 1, .kv_heads = 2, .head_dimension = 16},
                    {.layer_count = 1, .kv_heads = 2, .head_dimension = 16, .window = 10}};
  p.logits = 2;
  p.vocabulary = {0, 500};
  return p;
}

const std::vector<uint64_t> kWeightBytes = {1000, 2000, 5000, 10, 8000};
const std::vector<uint64_t> kPositionBytes = {128, 128};

// Rows of two sequences: positions 20 and 21 of one, 5 of the other. The last of each is wanted.
struct Batch {
  std::vector<int32_t> tokens = {1, 2, 3}, positions = {20, 21, 5}, sequences = {0, 0, 1},
                       wanted = {1, 2};
  std::vector<Role> roles = std::vector<Role>(3, Role::kPrompt);
  StepBatch view() const { return {tokens, positions, roles, sequences, wanted, {}}; }
};

Work work(const Operation& operation, int64_t experts_read = 0) {
  const Batch batch;
  return work_of(program(), operation, batch.view(), {kWeightBytes, kPositionBytes}, experts_read);
}

TEST(Parts, AreNamedByWhatTheWeightsAreFor) {
  const Program p = program();
  EXPECT_EQ(part_of(p, Project{0, {{0, {}, 1}}}), "attention products");
  EXPECT_EQ(part_of(p, Project{0, {{1, {}, 1}}}), "feed-forward products");
  EXPECT_EQ(part_of(p, Project{0, {{2, {}, 2}}}), "head products");
  EXPECT_EQ(part_of(p, Project{0, {{3, {}, 3}}}), "router");
  EXPECT_EQ(part_of(p, RmsNorm{}), "norms");
  EXPECT_EQ(part_of(p, Attend{}), "attention");
}

TEST(Work, OfProductsIsReadOnceForAllRows) {
  const Work shared = work(Project{0, {{0, {}, 1}, {1, {}, 1}}});
  EXPECT_EQ(shared.read_bytes, 3000);
  EXPECT_EQ(shared.multiply_adds, 3 * 64 * (96 + 96));
}

TEST(Work, OfAttentionFollowsPositionsAndWindows) {
  const Work full = work(Attend{.group = 0, .query_to_kv = {0, 0, 1, 1}});
  EXPECT_EQ(full.multiply_adds, (21 + 22 + 6) * 4 * 32);
  EXPECT_EQ(full.read_bytes, (22 + 6) * 128);
  const Work windowed = work(Attend{.group = 1, .query_to_kv = {0, 0, 1, 1}});
  EXPECT_EQ(windowed.multiply_adds, (10 + 10 + 6) * 4 * 32);
  EXPECT_EQ(windowed.read_bytes, (11 + 6) * 128);
}

TEST(Work, OfAnEmbeddingIsItsRows) {
  EXPECT_EQ(work(Embed{2, 0, 0}).read_bytes, 3 * 10);
}

TEST(Work, OfExpertsIsThoseThatHadARow) {
  Experts op{.in = 0, .router = 3, .out = 0, .routing = {.used = 2}, .gate = 4, .up = 4, .down = 4};
  op.width = 32;
  const Work some = work(op, 5);
  EXPECT_EQ(some.read_bytes, 3 * 5000);
  EXPECT_EQ(some.multiply_adds, 3 * 2 * 3 * 64 * 32);
}

TEST(Work, OfRowsThatNobodyWantsIsNothing) {
  Batch batch;
  batch.wanted.clear();
  Program p = program();
  p.buffers[0].rows = Rows::kWanted;
  const Work none =
      work_of(p, Project{0, {{2, {}, 2}}}, batch.view(), {kWeightBytes, kPositionBytes}, 0);
  EXPECT_EQ(none.read_bytes, 0);
  EXPECT_EQ(none.multiply_adds, 0);
}

}  // namespace
}  // namespace shoal
