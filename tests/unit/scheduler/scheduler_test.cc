#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace shoal {
namespace {

std::vector<int32_t> tokens(int64_t count) {
  std::vector<int32_t> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(static_cast<int32_t>(i + 100));
  return result;
}

SequenceRequest request(SequenceId id, int64_t prompt, int64_t max_tokens) {
  return {.id = id, .prompt = tokens(prompt), .max_tokens = max_tokens};
}

constexpr SchedulerLimits kLimits{
    .context = 100, .rows_per_step = 8, .sequences = 4, .waiting = 2, .wanted_rows = 6};

TEST(Scheduler, GeneratedRowsGoFirstThenPromptsInOrderOfArrival) {
  Scheduler scheduler(kLimits, KvPages(1, 100, 4));
  ASSERT_TRUE(scheduler.add(request(1, 3, 10)));
  auto step = scheduler.next();
  ASSERT_TRUE(step);
  EXPECT_EQ(step->step.number, 1u);
  ASSERT_EQ(step->step.rows.size(), 3u);
  EXPECT_EQ(step->step.rows[0].want, Want::kNothing);
  EXPECT_EQ(step->step.rows[2].want, Want::kCandidates);
  EXPECT_EQ(step->step.rows[2].token, 102);
  ASSERT_EQ(step->wanted.size(), 1u);
  EXPECT_TRUE(step->wanted[0].sampled);
  EXPECT_EQ(step->wanted[0].position, 2);

  scheduler.accept(1, 555);
  ASSERT_TRUE(scheduler.add(request(2, 10, 10)));
  ASSERT_TRUE(scheduler.add(request(3, 10, 10)));
  step = scheduler.next();
  ASSERT_TRUE(step);
  ASSERT_EQ(step->step.rows.size(), 8u);  // the budget: one generated, seven of the first prompt
  EXPECT_EQ(step->step.rows[0].token, 555);
  EXPECT_EQ(step->step.rows[0].position, 3);
  EXPECT_EQ(step->step.rows[0].role, Role::kGenerated);
  for (size_t row = 1; row < 8; ++row) {
    EXPECT_EQ(step->step.rows[row].sequence, 1u);
    EXPECT_EQ(step->step.rows[row].role, Role::kPrompt);
    EXPECT_EQ(step->step.rows[row].position, static_cast<int32_t>(row - 1));
  }
  scheduler.accept(1, 556);
  step = scheduler.next();
  ASSERT_TRUE(step);
  ASSERT_EQ(step->step.rows.size(), 8u);
  EXPECT_EQ(step->step.rows[0].token, 556);
  EXPECT_EQ(step->step.sequences.size(), 3u);
  EXPECT_EQ(step->step.rows[3].want, Want::kCandidates);  // the end of the second prompt
  EXPECT_EQ(step->step.rows[4].position, 0);              // and the third begins
}

TEST(Scheduler, ClampsToTheContextAndRefusesWithBothNumbers) {
  Scheduler scheduler(kLimits, KvPages(1, 100, 4));
  EXPECT_EQ(*scheduler.add(request(1, 60, 1000)), 40);
  EXPECT_EQ(*scheduler.add(request(2, 99, 5)), 1);
  const auto refused = scheduler.add(request(3, 100, 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kContextLength);
  EXPECT_NE(refused.error().message.find("100 tokens"), std::string::npos);
  EXPECT_NE(refused.error().message.find("context of 100"), std::string::npos);
  // A prompt whose logits alone are asked for may fill the context.
  EXPECT_EQ(
      *scheduler.add({.id = 4, .prompt = tokens(100), .max_tokens = 0, .prompt_logits = true}), 0);
}

TEST(Scheduler, RefusesWhatCannotBeMeant) {
  Scheduler scheduler(kLimits, KvPages(1, 100, 4));
  EXPECT_EQ(scheduler.add(request(1, 0, 5)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(scheduler.add(request(1, 5, 0)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(scheduler.add(request(1, 5, -1)).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(scheduler.add(request(1, 5, 5)));
  EXPECT_EQ(scheduler.add(request(1, 5, 5)).error().code, ErrorCode::kInvalidArgument);
}

TEST(Scheduler, WhatCanNeverFitIsRefusedAndWhatMustWaitWaits) {
  Scheduler scheduler(kLimits, KvPages(1, 10, 4));
  const auto refused = scheduler.add(request(1, 30, 20));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kDoesNotFit);
  EXPECT_NE(refused.error().message.find("13 KV pages"), std::string::npos);
  EXPECT_NE(refused.error().message.find("has 10 (40 tokens)"), std::string::npos);

  ASSERT_TRUE(scheduler.add(request(2, 20, 10)));
  ASSERT_TRUE(scheduler.add(request(3, 20, 10)));
  EXPECT_EQ(scheduler.running(), 1u);
  EXPECT_EQ(scheduler.waiting(), 1u);
  // A small one that would fit does not overtake: the one before it might wait for ever.
  ASSERT_TRUE(scheduler.add(request(4, 2, 2)));
  EXPECT_EQ(scheduler.running(), 1u);
  const auto full = scheduler.add(request(5, 2, 2));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kBusy);
  scheduler.remove(2);
  EXPECT_EQ(scheduler.running(), 2u);
  EXPECT_EQ(scheduler.waiting(), 0u);
}

TEST(Scheduler, RemovedSequencesLeaveNothingBehind) {
  Scheduler scheduler(kLimits, KvPages(1, 10, 4));
  ASSERT_TRUE(scheduler.add(request(1, 20, 10)));
  ASSERT_TRUE(scheduler.add(request(2, 20, 10)));
  scheduler.remove(2);  // still waiting
  EXPECT_EQ(scheduler.waiting(), 0u);
  ASSERT_TRUE(scheduler.next());
  scheduler.remove(1);
  scheduler.accept(1, 5);
  EXPECT_FALSE(scheduler.next());
  EXPECT_EQ(scheduler.pages().free_pages(), 10);
  scheduler.remove(77);
}

TEST(Scheduler, ASequenceWaitsForItsToken) {
  Scheduler scheduler(kLimits, KvPages(1, 10, 4));
  ASSERT_TRUE(scheduler.add(request(1, 2, 3)));
  ASSERT_TRUE(scheduler.next());
  EXPECT_FALSE(scheduler.next());
  scheduler.accept(1, 5);
  ASSERT_TRUE(scheduler.next());
  scheduler.accept(1, 6);
  ASSERT_TRUE(scheduler.next());
  scheduler.accept(1, 7);  // the third and last: it needs no row
  EXPECT_FALSE(scheduler.next());
}

// Four sequences over a pipeline of two: while one step of two is out, the other two have theirs.
TEST(Scheduler, GeneratedRowsAreSpreadOverTheStepsAtOnce) {
  SchedulerLimits limits = kLimits;
  limits.steps_at_once = 2;
  Scheduler scheduler(limits, KvPages(1, 100, 4));
  for (const SequenceId id : {1, 2, 3, 4}) ASSERT_TRUE(scheduler.add(request(id, 1, 10)));
  ASSERT_EQ(scheduler.next()->wanted.size(), 4u);  // the prompts
  EXPECT_FALSE(scheduler.next());                  // every token is missing
  for (const SequenceId id : {1, 2, 3, 4}) scheduler.accept(id, 7);
  const auto first = scheduler.next();
  const auto second = scheduler.next();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(scheduler.next());
  ASSERT_EQ(first->wanted.size(), 2u);
  ASSERT_EQ(second->wanted.size(), 2u);
  EXPECT_EQ(first->wanted[0].sequence, 1u);
  EXPECT_EQ(second->wanted[0].sequence, 3u);
  // The chunks of one prompt follow one another without waiting.
  scheduler.remove(1);
  ASSERT_TRUE(scheduler.add(request(5, 20, 5)));
  EXPECT_EQ(scheduler.next()->step.rows.size(), 8u);
  EXPECT_EQ(scheduler.next()->step.rows.size(), 8u);
  EXPECT_EQ(scheduler.next()->step.rows.size(), 4u);
  EXPECT_FALSE(scheduler.next());
}

TEST(Scheduler, PromptLogitsAreAskedForInPortions) {
  Scheduler scheduler(kLimits, KvPages(1, 100, 4));
  ASSERT_TRUE(
      scheduler.add({.id = 1, .prompt = tokens(14), .max_tokens = 1, .prompt_logits = true}));
  std::vector<int32_t> positions;
  int sampled = 0;
  while (const auto step = scheduler.next()) {
    EXPECT_LE(step->wanted.size(), 6u);
    for (const auto& row : step->step.rows) EXPECT_EQ(row.want, Want::kLogits);
    for (const auto& wanted : step->wanted) {
      positions.push_back(wanted.position);
      sampled += wanted.sampled;
    }
  }
  ASSERT_EQ(positions.size(), 14u);
  for (int32_t i = 0; i < 14; ++i) EXPECT_EQ(positions[static_cast<size_t>(i)], i);
  EXPECT_EQ(sampled, 1);
}

// Random requests, lengths, limits and cancellations: what holds for every step, and that everyone
// is served.
class Play {
 public:
  explicit Play(uint32_t seed)
      : random_(seed),
        limits_{.context = 20 + below(200),
                .rows_per_step = 1 + below(40),
                .sequences = 1 + below(8),
                .waiting = below(10),
                .wanted_rows = 1 + below(12)},
        page_tokens_(static_cast<int>(1 + below(16))),
        page_count_(3 + below(60)),
        scheduler_(limits_, KvPages(2, page_count_, page_tokens_)) {}

  void run() {
    for (int turn = 0; turn < 400; ++turn) {
      if (turn < 300 && below(3) == 0) add();
      if (below(40) == 0 && !alive_.empty()) cancel();
      ASSERT_NO_FATAL_FAILURE(step());
    }
    for (int turn = 0; turn < 20000 && !alive_.empty(); ++turn) ASSERT_NO_FATAL_FAILURE(step());
    EXPECT_TRUE(alive_.empty()) << alive_.size() << " requests never ended";
    EXPECT_EQ(scheduler_.pages().free_pages(), page_count_);
  }

 private:
  struct Alive {
    std::vector<int32_t> prompt;
    int64_t max_tokens;
    bool prompt_logits;
    int64_t computed = 0;
    std::vector<int32_t> generated;
  };
  int64_t below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit));
  }

  void add() {
    SequenceRequest request{.id = next_id_++,
                            .prompt = tokens(1 + below(limits_.context)),
                            .max_tokens = 1 + below(30),
                            .prompt_logits = below(5) == 0};
    if (request.prompt_logits && below(2) == 0) request.max_tokens = 0;
    Alive alive{request.prompt, 0, request.prompt_logits};
    const auto id = request.id;
    const auto added = scheduler_.add(request);
    if (!added) {
      EXPECT_TRUE(added.error().code == ErrorCode::kBusy ||
                  added.error().code == ErrorCode::kDoesNotFit ||
                  added.error().code == ErrorCode::kContextLength);
      return;
    }
    alive.max_tokens = *added;
    alive_.emplace(id, alive);
  }

  void cancel() {
    auto victim = alive_.begin();
    std::advance(victim, below(static_cast<int64_t>(alive_.size())));
    scheduler_.remove(victim->first);
    alive_.erase(victim);
  }

  void step() {
    if (!scheduler_.next(step_)) {
      // Nothing to compute although somebody is there: only if nobody could start.
      ASSERT_TRUE(alive_.empty()) << "idle with " << alive_.size() << " requests";
      return;
    }
    const Step& step = step_.step;
    ASSERT_EQ(step.number, ++number_);
    ASSERT_LE(static_cast<int64_t>(step.rows.size()), limits_.rows_per_step);
    ASSERT_LE(static_cast<int64_t>(step_.wanted.size()), limits_.wanted_rows);
    ASSERT_EQ(step.sequences.size(), step.rows.back().sequence + 1u);
    std::set<PageId> used[2];
    for (const auto& sequence : step.sequences) {
      ASSERT_EQ(sequence.size(), 2u);
      for (size_t group = 0; group < 2; ++group) {
        for (const PageId page : sequence[group]) ASSERT_TRUE(used[group].insert(page).second);
      }
    }
    size_t wanted = 0;
    bool prompts_began = false;
    std::vector<SequenceId> sampled;
    for (size_t row = 0; row < step.rows.size(); ++row) {
      const StepRow& r = step.rows[row];
      const uint32_t before = row > 0 ? step.rows[row - 1].sequence : 0;
      ASSERT_TRUE(r.sequence == before || r.sequence == before + 1);
      prompts_began |= r.role == Role::kPrompt;
      ASSERT_EQ(r.role == Role::kPrompt, prompts_began) << "a generated row after a prompt";
      for (const auto& table : step.sequences[r.sequence]) {
        ASSERT_GE(static_cast<int64_t>(table.size()) * page_tokens_, r.position + 1);
      }
      if (r.want == Want::kNothing) continue;
      ASSERT_LT(wanted, step_.wanted.size());
      const ScheduledRow& w = step_.wanted[wanted++];
      ASSERT_EQ(w.position, r.position);
      auto& alive = alive_.at(w.sequence);
      const auto prompt = static_cast<int64_t>(alive.prompt.size());
      ASSERT_EQ(r.role == Role::kPrompt, r.position < prompt);
      if (r.role == Role::kPrompt) {
        ASSERT_EQ(r.token, alive.prompt[static_cast<size_t>(r.position)]);
        ASSERT_EQ(w.sampled, r.position == prompt - 1 && alive.max_tokens > 0);
      } else {
        ASSERT_EQ(r.token, alive.generated.at(static_cast<size_t>(r.position - prompt)));
        ASSERT_TRUE(w.sampled);
      }
      if (alive.prompt_logits && r.role == Role::kPrompt) {
        ASSERT_EQ(alive.computed++, r.position);
      }
      if (w.sampled) sampled.push_back(w.sequence);
      if (alive.max_tokens == 0 && r.position == prompt - 1) ended_.push_back(w.sequence);
    }
    ASSERT_EQ(wanted, step_.wanted.size());
    for (const SequenceId id : sampled) {
      auto& alive = alive_.at(id);
      const auto token = static_cast<int32_t>(below(1000));
      alive.generated.push_back(token);
      scheduler_.accept(id, token);
      if (static_cast<int64_t>(alive.generated.size()) == alive.max_tokens) ended_.push_back(id);
    }
    for (const SequenceId id : ended_) {
      scheduler_.remove(id);
      alive_.erase(id);
    }
    ended_.clear();
  }

  std::mt19937 random_;
  SchedulerLimits limits_;
  int page_tokens_;
  int64_t page_count_;
  Scheduler scheduler_;
  ScheduledStep step_;
  std::map<SequenceId, Alive> alive_;
  std::vector<SequenceId> ended_;
  SequenceId next_id_ = 1;
  uint64_t number_ = 0;
};

TEST(Scheduler, RandomPlayKeepsItsPromises) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Play play(seed);
    ASSERT_NO_FATAL_FAILURE(play.run());
  }
}

}  // namespace
}  // namespace shoal
