#include "engine/step_header.h"

#include <gtest/gtest.h>

#include <random>

namespace shoal {
namespace {

const StepLimits kLimits{.rows = 8,
                         .wanted_rows = 3,
                         .positions = 100,
                         .vocabulary = 50,
                         .page_tokens = 16,
                         .groups = {{.page_count = 20}}};

Step good_step() {
  Step step{.number = 7, .candidate_count = 5};
  step.rows = {{0, 10, 40, Role::kGenerated, Want::kCandidates},
               {1, 11, 0, Role::kPrompt, Want::kNothing},
               {1, 12, 1, Role::kPrompt, Want::kLogits}};
  step.sequences = {{{1, 2, 3}}, {{4}}};
  return step;
}

Status check(const Step& step) {
  std::vector<bool> seen;
  return check_step(step, kLimits, seen);
}

TEST(StepHeader, GoesThereAndBack) {
  Bytes frame;
  encode_step(good_step(), frame);
  Step step;
  const auto kind = decode_header(frame, kLimits, step);
  ASSERT_TRUE(kind) << kind.error().message;
  EXPECT_EQ(*kind, HeaderKind::kStep);
  EXPECT_EQ(step.number, 7u);
  EXPECT_EQ(step.candidate_count, 5u);
  ASSERT_EQ(step.rows.size(), 3u);
  EXPECT_EQ(step.rows[0].token, 10);
  EXPECT_EQ(step.rows[0].position, 40);
  EXPECT_EQ(step.rows[0].role, Role::kGenerated);
  EXPECT_EQ(step.rows[2].sequence, 1u);
  EXPECT_EQ(step.rows[2].want, Want::kLogits);
  EXPECT_EQ(step.sequences, good_step().sequences);
  EXPECT_TRUE(check(step));
}

TEST(StepHeader, SignalsGoThereAndBack) {
  Bytes frame;
  Step step;
  for (const HeaderKind kind : {HeaderKind::kTick, HeaderKind::kStop}) {
    encode_signal(kind, frame);
    EXPECT_EQ(*decode_header(frame, kLimits, step), kind);
  }
}

TEST(StepHeader, EveryImpossibleStepIsNamed) {
  const auto refused = [](const std::function<void(Step&)>& spoil) {
    Step step = good_step();
    spoil(step);
    const Status status = check(step);
    if (status) return std::string("accepted");
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    return status.error().message;
  };
  EXPECT_EQ(refused([](Step& s) { s.rows.clear(); }),
            "a step of 0 rows; this instance takes 1 to 8");
  EXPECT_EQ(refused([](Step& s) { s.rows.resize(9); }),
            "a step of 9 rows; this instance takes 1 to 8");
  EXPECT_EQ(refused([](Step& s) { s.rows[0].position = 100; }),
            "row 0 is at position 100; the context has 100");
  EXPECT_EQ(refused([](Step& s) { s.rows[0].position = -1; }),
            "row 0 is at position -1; the context has 100");
  EXPECT_EQ(refused([](Step& s) { s.rows[0].position = 48; }),
            "row 0 is at position 48; the 3 pages of its sequence hold 48");
  EXPECT_EQ(refused([](Step& s) { s.rows[2].position = 2; }),
            "row 2 is at position 2 after position 0");
  EXPECT_EQ(refused([](Step& s) { s.rows[1].token = 50; }),
            "row 1 has token 50; the vocabulary has 50");
  EXPECT_EQ(refused([](Step& s) { s.rows[1].token = -1; }),
            "row 1 has token -1; the vocabulary has 50");
  EXPECT_EQ(refused([](Step& s) { s.rows[1].sequence = 2; }),
            "row 1 belongs to sequence 2; the step has 2");
  EXPECT_EQ(refused([](Step& s) { s.sequences[1][0][0] = 20; }),
            "sequence 1 has page 20; there are 20");
  EXPECT_EQ(refused([](Step& s) { s.sequences[0][0][2] = -1; }),
            "sequence 0 has page -1; there are 20");
  EXPECT_EQ(refused([](Step& s) { s.sequences[0][0].assign(8, 1); }),
            "sequence 0 has 8 pages, the context takes 7");
  EXPECT_EQ(refused([](Step& s) { s.sequences[0].clear(); }),
            "sequence 0 has 0 page tables, not 1");
  EXPECT_EQ(refused([](Step& s) { s.candidate_count = 0; }),
            "0 candidates asked for; 1 to 1024 can be had");
  EXPECT_EQ(refused([](Step& s) { s.candidate_count = 1025; }),
            "1025 candidates asked for; 1 to 1024 can be had");
  EXPECT_EQ(refused([](Step& s) {
              std::swap(s.rows[0], s.rows[1]);
              s.rows[2].position = 1;
            }),
            "row 2: the rows of sequence 1 do not follow one another");
  EXPECT_EQ(refused([](Step& s) {
              s.rows = {{0, 1, 0, Role::kPrompt, Want::kLogits}};
              for (int32_t i = 1; i < 4; ++i) {
                s.rows.push_back({0, 1, i, Role::kPrompt, Want::kLogits});
              }
            }),
            "4 rows of a step want a result; this instance returns 3 at most");
}

TEST(StepHeader, FramesCutAnywhereAreRefused) {
  Bytes frame;
  encode_step(good_step(), frame);
  Step step;
  for (size_t size = 0; size < frame.size(); ++size) {
    const Bytes part(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size));
    const auto decoded = decode_header(part, kLimits, step);
    ASSERT_FALSE(decoded) << size;
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
  }
  frame.push_back(std::byte{0});
  EXPECT_FALSE(decode_header(frame, kLimits, step));
}

TEST(StepHeader, HugeCountsAllocateNothing) {
  Bytes frame;
  encode_step(good_step(), frame);
  Step step;
  for (const size_t offset : {16, 20, 24}) {  // rows, sequences, groups
    Bytes hostile = frame;
    for (size_t i = 0; i < 4; ++i) hostile[offset + i] = std::byte{0xff};
    const auto decoded = decode_header(hostile, kLimits, step);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
    EXPECT_LE(step.rows.capacity(), 64u);
    EXPECT_LE(step.sequences.capacity(), 64u);
  }
}

TEST(StepHeader, AnotherVersionIsNamed) {
  Bytes frame;
  encode_signal(HeaderKind::kTick, frame);
  frame[4] = std::byte{9};
  Step step;
  const auto decoded = decode_header(frame, kLimits, step);
  ASSERT_FALSE(decoded);
  EXPECT_NE(decoded.error().message.find("version 9"), std::string::npos);
  EXPECT_NE(decoded.error().message.find("same version of Shoal"), std::string::npos);
}

// Whatever arrives is either refused or a step that the limits allow (run under the address
// sanitizer too).
TEST(StepHeader, RandomlySpoiledFramesNeverPassTheChecksWrongly) {
  Bytes frame;
  encode_step(good_step(), frame);
  std::mt19937 random(1);
  Step step;
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 100000; ++round) {
    Bytes spoiled = frame;
    for (uint32_t i = random() % 4 + 1; i > 0; --i) {
      spoiled[random() % spoiled.size()] = static_cast<std::byte>(random());
    }
    if (random() % 8 == 0) spoiled.resize(random() % (2 * spoiled.size()));
    const auto kind = decode_header(spoiled, kLimits, step);
    if (!kind || *kind != HeaderKind::kStep || !check(step)) {
      ++refused;
      continue;
    }
    ++accepted;
    ASSERT_LE(step.rows.size(), 8u);
    for (const StepRow& row : step.rows) {
      ASSERT_LT(row.sequence, step.sequences.size());
      ASSERT_TRUE(row.position >= 0 && row.position < 100 && row.token >= 0 && row.token < 50);
      const auto& table = step.sequences[row.sequence][0];
      ASSERT_LT(static_cast<size_t>(row.position / 16), table.size());
      for (const PageId page : table) ASSERT_TRUE(page >= 0 && page < 20);
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 10000);
}

}  // namespace
}  // namespace shoal
