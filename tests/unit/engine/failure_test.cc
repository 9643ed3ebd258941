// What the others see when a rank is lost, hangs, differs or lies; what the lead's own mistakes
// lead to.
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "engine/step_header.h"
#include "ranks.h"

namespace shoal {
namespace {

Step one_row(int32_t position = 0) {
  Step step;
  step.rows = {{0, 5, position, Role::kPrompt, Want::kCandidates}};
  step.sequences = {{{0, 1, 2, 3, 4, 5, 6, 7}}};
  return step;
}

// A backend whose computing or loading goes wrong at a chosen moment: with the how-manieth step, of
// which the first is the one that every rank tries alone, or with the how-manieth weight.
class Faulty final : public Backend {
 public:
  using Fault = std::function<Status(size_t time)>;
  Faulty(std::unique_ptr<Backend> real, Fault on_run, Fault on_load = {})
      : real_(std::move(real)), on_run_(std::move(on_run)), on_load_(std::move(on_load)) {}

  std::string name() const override { return real_->name(); }
  int page_tokens() const override { return real_->page_tokens(); }
  Status prepare(const Program& program, const BackendLimits& limits) override {
    return real_->prepare(program, limits);
  }
  Status load(WeightId weight, const TensorSource& source) override {
    if (on_load_) SHOAL_TRY(on_load_(++loads_));
    return real_->load(weight, source);
  }
  Status allocate_kv(KvType type, std::span<const int64_t> pages) override {
    return real_->allocate_kv(type, pages);
  }
  Status run(size_t segment, const StepBatch& batch,
             const std::function<void()>& meanwhile) override {
    const bool begins = segment == 0 && batch.first_row == 0;
    if (on_run_ && begins) SHOAL_TRY(on_run_(++steps_));
    return real_->run(segment, batch, meanwhile);
  }
  std::span<float> rows(BufferId buffer, int64_t first, int64_t count) override {
    return real_->rows(buffer, first, count);
  }
  BackendMemory memory() const override { return real_->memory(); }

 private:
  std::unique_ptr<Backend> real_;
  Fault on_run_;
  Fault on_load_;
  size_t steps_ = 0;
  size_t loads_ = 0;
};

RanksOptions three_ranks(Faulty::Fault on_run_of_rank_1) {
  RanksOptions options{.shares = {1, 1, 1}};
  options.wrap = [fault = std::move(on_run_of_rank_1)](
                     int rank, std::unique_ptr<Backend> real) -> std::unique_ptr<Backend> {
    if (rank != 1) return real;
    return std::make_unique<Faulty>(std::move(real), fault);
  };
  return options;
}

bool means_a_lost_peer(const Error& error) {
  return error.code == ErrorCode::kUnreachable || error.code == ErrorCode::kDeadline;
}

TEST(Failure, ARankThatDiesInAStepIsAnErrorOnEveryOther) {
  const auto model = make_small_model({});
  auto options = three_ranks([](size_t step) -> Status {
    if (step < 3) return {};
    return fail(ErrorCode::kInternal, "struck by the test");
  });
  Status outcome_of_2;
  options.instead = [&](int rank, std::unique_ptr<Engine>& engine) {
    while (true) {
      const auto followed = engine->follow(Clock::now() + std::chrono::seconds(60));
      if (followed) continue;
      if (rank == 2) outcome_of_2 = std::unexpected(followed.error());
      break;
    }
    engine.reset();  // as a worker that ends
  };
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks) << ranks.error().message;
  Step step = one_row();
  ASSERT_TRUE((*ranks)->run(step));
  step = one_row(1);
  const auto lost = (*ranks)->run(step);
  ASSERT_FALSE(lost);
  EXPECT_TRUE(means_a_lost_peer(lost.error())) << lost.error().message;
  // Rank 1, or rank 2 if that noticed sooner and gave up.
  EXPECT_NE(lost.error().message.find("rank "), std::string::npos) << lost.error().message;
  // The engine is spent: the same error again, at once.
  const Status again = (*ranks)->lead().tick();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message, lost.error().message);
  EXPECT_FALSE((*ranks)->lead().submit(one_row(2)));
  EXPECT_FALSE((*ranks)->lead().poll());
  ranks->reset();
  ASSERT_FALSE(outcome_of_2);
  EXPECT_TRUE(means_a_lost_peer(outcome_of_2.error())) << outcome_of_2.error().message;
}

TEST(Failure, ARankThatHangsIsADeadlineOnEveryOther) {
  const auto model = make_small_model({});
  std::mutex mutex;
  std::condition_variable released;
  bool over = false;
  auto options = three_ranks([&](size_t step) -> Status {
    if (step < 3) return {};
    std::unique_lock lock(mutex);
    released.wait(lock, [&] { return over; });
    return fail(ErrorCode::kInternal, "hung by the test");
  });
  options.engine.collective_timeout = std::chrono::milliseconds(700);
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks);
  Step step = one_row();
  ASSERT_TRUE((*ranks)->run(step));
  step = one_row(1);
  const auto lost = (*ranks)->run(step);
  ASSERT_FALSE(lost);
  EXPECT_TRUE(means_a_lost_peer(lost.error())) << lost.error().message;
  {
    const std::lock_guard lock(mutex);
    over = true;
  }
  released.notify_all();
  const auto outcomes = (*ranks)->join();
  ASSERT_FALSE(outcomes[2]);
  EXPECT_TRUE(means_a_lost_peer(outcomes[2].error())) << outcomes[2].error().message;
}

// The lead waits for the last stage, which waits for the one that hangs: whoever is nearest names
// it, and nobody waits for each stage in turn.
TEST(Failure, AStageThatHangsIsNamedByTheNext) {
  const auto model = make_small_model({.layers = 3});
  std::mutex mutex;
  std::condition_variable released;
  bool over = false;
  auto options = three_ranks([&](size_t step) -> Status {
    if (step < 5) return {};
    std::unique_lock lock(mutex);
    released.wait(lock, [&] { return over; });
    return fail(ErrorCode::kInternal, "hung by the test");
  });
  options.stages = {{1}, {1}, {1}};
  options.engine.collective_timeout = std::chrono::milliseconds(700);
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks);
  Status status;
  for (int32_t position = 0; position < 8 && status; ++position) {
    Step step = one_row(position);
    const auto result = (*ranks)->run(step);
    if (!result) status = std::unexpected(result.error());
  }
  ASSERT_FALSE(status);
  EXPECT_TRUE(means_a_lost_peer(status.error())) << status.error().message;
  {
    const std::lock_guard lock(mutex);
    over = true;
  }
  released.notify_all();
  const auto outcomes = (*ranks)->join();
  ASSERT_FALSE(outcomes[2]);
  EXPECT_EQ(outcomes[2].error().message.substr(0, 32), "rank 1 did not answer in time (n");
}

// The next stage has computed nothing of it, and of no step before.
TEST(Failure, ALeadThatHangsInItsFirstStepIsNamedSoon) {
  const auto model = make_small_model({});
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Error> seen;
  RanksOptions options{.stages = {{1}, {1}}};
  options.engine.collective_timeout = std::chrono::milliseconds(700);
  options.wrap = [&](int rank, std::unique_ptr<Backend> real) -> std::unique_ptr<Backend> {
    if (rank != 0) return real;
    return std::make_unique<Faulty>(std::move(real), [&](size_t step) -> Status {
      if (step < 2) return {};
      std::unique_lock lock(mutex);
      changed.wait_for(lock, std::chrono::seconds(20), [&] { return seen.has_value(); });
      return fail(ErrorCode::kInternal, "hung by the test");
    });
  };
  options.instead = [&](int, std::unique_ptr<Engine>& engine) {
    const auto followed = engine->follow(Clock::now() + std::chrono::seconds(60));
    const std::lock_guard lock(mutex);
    if (!followed) seen = followed.error();
    changed.notify_all();
  };
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks) << ranks.error().message;
  Step step = one_row();
  EXPECT_FALSE((*ranks)->run(step));
  (*ranks)->join();
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->code, ErrorCode::kDeadline);
  EXPECT_EQ(seen->message.substr(0, 32), "rank 0 did not answer in time (n");
}

TEST(Failure, ALeadThatIsGoneEndsTheFollowersWait) {
  const auto model = make_small_model({});
  Status outcome;
  RanksOptions options{.shares = {1, 1}};
  options.instead = [&](int, std::unique_ptr<Engine>& engine) {
    const auto followed = engine->follow(Clock::now() + std::chrono::milliseconds(50));
    if (!followed) outcome = std::unexpected(followed.error());
  };
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks);
  (*ranks)->join();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kDeadline);
}

TEST(Signals, TicksAndStopsReachTheFollowers) {
  const auto model = make_small_model({});
  std::vector<Engine::Followed> seen;
  RanksOptions options{.shares = {1, 1}};
  options.instead = [&](int, std::unique_ptr<Engine>& engine) {
    while (seen.empty() || seen.back() != Engine::Followed::kStop) {
      const auto followed = engine->follow(Clock::now() + std::chrono::seconds(60));
      if (!followed) return;
      seen.push_back(*followed);
    }
  };
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks);
  ASSERT_TRUE((*ranks)->lead().tick());
  Step step = one_row();
  ASSERT_TRUE((*ranks)->run(step));
  ASSERT_TRUE((*ranks)->lead().stop());
  (*ranks)->join();
  EXPECT_EQ(seen, (std::vector{Engine::Followed::kTick, Engine::Followed::kStep,
                               Engine::Followed::kStop}));
}

TEST(Forming, ARankThatDiffersIsNamed) {
  const auto model = make_small_model({});
  const auto other = make_small_model({.seed = 2});
  const auto refused = [&](RanksOptions options) {
    options.shares = {1, 1};
    const auto ranks = Ranks::start(*model, options);
    EXPECT_FALSE(ranks);
    if (ranks) return std::string("formed");
    EXPECT_EQ(ranks.error().code, ErrorCode::kConflict);
    return ranks.error().message;
  };
  EXPECT_EQ(refused({.change = [](int rank, EngineOptions& o, RankCut&) { o.kv_pages += rank; }}),
            "rank 1 differs from rank 0 in its number of KV pages: 65 against 64");
  EXPECT_EQ(refused({.change = [](int rank, EngineOptions& o,
                                  RankCut&) { o.max_positions = 100 + rank; }}),
            "rank 1 differs from rank 0 in its context: 101 against 100");
  EXPECT_EQ(refused({.change =
                         [](int rank, EngineOptions& o, RankCut&) {
                           if (rank == 1) o.kv_type = KvType::kF16;
                         }}),
            "rank 1 differs from rank 0 in its type of KV cache: \"f16\" against \"f32\"");
  EXPECT_EQ(refused({.change =
                         [](int rank, EngineOptions&, RankCut& cut) {
                           if (rank == 1) cut[CutKind::kVocabulary].begin += 32;
                         }})
                .substr(0, 34),
            "rank 1 was given vocabulary rows 1");
  EXPECT_EQ(refused({.model_of = [&](int rank) { return rank == 1 ? other.get() : model.get(); }})
                .substr(0, 54),
            "rank 1 differs from rank 0 in its model file (pull the");
}

TEST(Forming, FilesThatDifferInMetadataAloneAreToldApart) {
  const auto model = make_small_model({});
  const auto other = make_small_model({});
  const std::string_view name = other->file.string("general.name").value_or("");
  const auto first = static_cast<size_t>(name.data() - other->bytes.data());
  ASSERT_LT(first, other->bytes.size());
  other->bytes[first] ^= 0x20;  // a capital letter
  auto reopened = gguf::File::parse(as_bytes(other->bytes), "other small model");
  ASSERT_TRUE(reopened) << reopened.error().message;
  other->file = std::move(*reopened);
  const auto ranks = Ranks::start(*model, {.shares = {1, 1}, .model_of = [&](int rank) {
                                             return rank == 1 ? other.get() : model.get();
                                           }});
  ASSERT_FALSE(ranks);
  EXPECT_EQ(ranks.error().message.substr(0, 54),
            "rank 1 differs from rank 0 in its model file (pull the");
}

TEST(Forming, ALoadThatFailsEndsItForAllWithItsSentence) {
  const auto model = make_small_model({});
  RanksOptions options{.shares = {1, 1, 1}};
  options.wrap = [](int rank, std::unique_ptr<Backend> real) -> std::unique_ptr<Backend> {
    if (rank != 2) return real;
    return std::make_unique<Faulty>(std::move(real), Faulty::Fault{}, [](size_t call) -> Status {
      if (call < 5) return {};
      return fail(ErrorCode::kDoesNotFit, "no memory is left for the test");
    });
  };
  const auto ranks = Ranks::start(*model, options);
  ASSERT_FALSE(ranks);
  EXPECT_EQ(ranks.error().message,
            "rank 2 could not load its part: small model: no memory is left for the test");
}

TEST(Forming, OptionsThatCannotBeAreRefused) {
  const auto model = make_small_model({});
  for (const auto& change : std::vector<std::function<void(EngineOptions&)>>{
           [](EngineOptions& o) { o.kv_pages = 0; }, [](EngineOptions& o) { o.max_rows = 0; },
           [](EngineOptions& o) { o.max_wanted_rows = o.max_rows + 1; },
           [](EngineOptions& o) { o.max_positions = -1; }}) {
    RanksOptions options;
    change(options.engine);
    const auto ranks = Ranks::start(*model, options);
    ASSERT_FALSE(ranks);
    EXPECT_EQ(ranks.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(Context, IsEnforcedAndTheEngineGoesOn) {
  const auto model = make_small_model({});
  RanksOptions options{.shares = {1, 1}};
  options.engine.max_positions = 60;
  auto ranks = Ranks::start(*model, options);
  ASSERT_TRUE(ranks);
  Step step = one_row(60);
  step.sequences = {{{0, 1}}};
  const auto refused = (*ranks)->run(step);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message, "row 0 is at position 60; the context has 60");
  step.rows[0].position = 0;
  EXPECT_TRUE((*ranks)->run(step));
  EXPECT_FALSE((*ranks)->lead().submit(step));  // its number has been
  step.rows[0].position = 1;
  EXPECT_TRUE((*ranks)->run(step));
}

TEST(Totals, CountStepsAndTheirTimes) {
  const auto model = make_small_model({});
  auto ranks = Ranks::start(*model, {.shares = {1, 1}});
  ASSERT_TRUE(ranks);
  ASSERT_TRUE(serve(**ranks, {{some_tokens(10, 320, 1), 5}}, 4));
  const Engine::Totals totals = (*ranks)->lead().totals();
  EXPECT_EQ(totals.steps, 7u);  // three chunks of the prompt, four generated rows
  EXPECT_EQ(totals.rows, 14u);
  EXPECT_EQ(totals.decode_steps, 4u);
  EXPECT_GT(totals.compute_s, totals.decode_compute_s);
  EXPECT_GT(totals.decode_compute_s, 0);
  EXPECT_GT(totals.wait_s, totals.decode_wait_s);
  EXPECT_GT(totals.decode_wait_s, 0);
  EXPECT_GT(totals.links.bytes_sent, 0u);
}

}  // namespace
}  // namespace shoal
