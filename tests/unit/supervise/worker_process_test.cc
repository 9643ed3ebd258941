#include "supervise/worker_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <cstdlib>

#include "base/cpu.h"

namespace shoal {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using namespace std::chrono_literals;

// One worker at a time, and what came from it.
class WorkerProcessTest : public ::testing::Test {
 protected:
  void start(const std::string& mode, WorkerOptions options = {}) {
    options.name = "worker of rank 1";
    options.argv = {SUPERVISE_CHILD, mode};
    auto spawned = WorkerProcess::spawn(loop_, options,
                                        {.on_frame =
                                             [this](Json frame) {
                                               frames_.push_back(std::move(frame));
                                               if (on_frame_) on_frame_();
                                             },
                                         .on_exit =
                                             [this](WorkerExit end) {
                                               EXPECT_FALSE(end_) << "told twice";
                                               end_ = std::move(end);
                                             }});
    ASSERT_TRUE(spawned) << spawned.error().message;
    worker_ = std::move(*spawned);
  }

  // Turns of the loop until `done`.
  void run_until(const std::function<bool()>& done) {
    const auto limit = Clock::now() + 30s;
    while (!done() && Clock::now() < limit) {
      loop_.restart();
      loop_.run_one_for(100ms);
    }
    ASSERT_TRUE(done());
  }
  void run_until_end() {
    run_until([this] { return end_.has_value(); });
    EXPECT_FALSE(worker_ && worker_->running());
  }
  void run_until_frames(size_t count) {
    run_until([&] { return frames_.size() >= count; });
  }

  boost::asio::io_context loop_;
  std::unique_ptr<WorkerProcess> worker_;
  std::vector<Json> frames_;
  std::function<void()> on_frame_;
  std::optional<WorkerExit> end_;
};

TEST_F(WorkerProcessTest, FramesGoBothWaysAndKeepTheirOrder) {
  start("echo");
  const auto before = worker_->last_frame_at();
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(worker_->send({{"number", i}, {"text", "äöü"}}));
  run_until_frames(300);
  for (int i = 0; i < 300; ++i) EXPECT_EQ(frames_[i]["echo"]["number"], i);
  EXPECT_EQ(frames_[0]["echo"]["text"], "äöü");
  EXPECT_GT(worker_->last_frame_at(), before);
  worker_->stop(20s);
  run_until_end();
  EXPECT_EQ(end_->code, ErrorCode::kCancelled);
  EXPECT_TRUE(end_->asked);
  EXPECT_THAT(end_->reason, HasSubstr("worker of rank 1 was stopped"));
}

TEST_F(WorkerProcessTest, TheOrderOfKeysReachesTheWorker) {
  start("echo");
  const OrderedJson frame = {{"z", 1}, {"show", {{"y", 2}, {"b", 3}}}};
  ASSERT_TRUE(worker_->send(frame));
  run_until_frames(1);
  EXPECT_EQ(frames_[0]["text"], frame.dump()) << "as the worker saw it";
}

TEST_F(WorkerProcessTest, LargeFramesPass) {
  start("echo");
  const std::string text(20 << 20, 'x');
  ASSERT_TRUE(worker_->send({{"text", text}}));
  ASSERT_TRUE(worker_->send({{"text", "after"}}));
  run_until_frames(2);
  EXPECT_EQ(frames_[0]["echo"]["text"], text);
  EXPECT_EQ(frames_[1]["echo"]["text"], "after");
}

TEST_F(WorkerProcessTest, ADescriptorTravelsWithItsFrame) {
  start("echo");
  ASSERT_TRUE(worker_->send({{"first", 1}}));
  for (const char* text : {"secret one", "secret two"}) {
    UniqueFd file(::memfd_create("secret", MFD_CLOEXEC));
    ASSERT_EQ(::write(file.get(), text, 10), 10);
    ASSERT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
    ASSERT_TRUE(worker_->send({{"with", text}}, std::move(file)));
  }
  ASSERT_TRUE(worker_->send({{"last", 1}}));
  run_until_frames(4);
  EXPECT_FALSE(frames_[0].contains("file"));
  EXPECT_EQ(frames_[1]["file"], "secret one");
  EXPECT_EQ(frames_[2]["file"], "secret two");
  EXPECT_FALSE(frames_[3].contains("file"));
}

TEST_F(WorkerProcessTest, FindsItselfAloneAndWithoutSecrets) {
  ::setenv("SHOAL_API_KEY", "sk-secret", 1);
  ::setenv("SHOAL_LOG", "debug", 1);
  const UniqueFd open_file(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC
  ::signal(SIGPIPE, SIG_IGN);
  start("facts", {.environment = {"EXTRA=1"}, .cores = {usable_cores()[0]}});
  run_until_frames(1);
  const Json& facts = frames_[0];
  EXPECT_EQ(facts["descriptors"], Json({0, 1, 2, 3}));
  EXPECT_EQ(facts["stdin"], "/dev/null");
  EXPECT_EQ(facts["own_group"], true);
  EXPECT_EQ(facts["no_new_privs"], 1);
  EXPECT_EQ(facts["core_bytes"], 0);
  EXPECT_EQ(facts["core_count"], 1);
  EXPECT_EQ(facts["sigpipe_default"], true);
  const std::string environment = facts["environment"].dump();
  EXPECT_THAT(environment, Not(HasSubstr("sk-secret")));
  EXPECT_THAT(environment, AllOf(HasSubstr("SHOAL_LOG=debug"), HasSubstr("EXTRA=1")));
  ::unsetenv("SHOAL_API_KEY");
  ::unsetenv("SHOAL_LOG");
}

TEST_F(WorkerProcessTest, AProgramThatIsNotThereIsAnErrorAtOnce) {
  WorkerOptions options;
  options.argv = {"/no/such/program"};
  const auto spawned = WorkerProcess::spawn(loop_, options, {});
  ASSERT_FALSE(spawned);
  EXPECT_EQ(spawned.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(spawned.error().message, HasSubstr("/no/such/program"));
}

TEST_F(WorkerProcessTest, KilledFromOutside) {
  start("echo");
  ::kill(worker_->pid(), SIGKILL);
  run_until_end();
  EXPECT_EQ(end_->signal, SIGKILL);
  EXPECT_THAT(end_->reason, StartsWith("worker of rank 1 was killed"));
  EXPECT_FALSE(end_->asked);
  EXPECT_EQ(worker_->send({{"a", 1}}).error().code, ErrorCode::kUnreachable);
}

TEST_F(WorkerProcessTest, AnAbortIsOurBugAndBringsItsLastWords) {
  start("abort");
  run_until_end();
  EXPECT_EQ(end_->signal, SIGABRT);
  EXPECT_EQ(end_->code, ErrorCode::kInternal);
  EXPECT_THAT(end_->reason, AllOf(HasSubstr("SIGABRT"), HasSubstr("something does not hold")));
}

TEST_F(WorkerProcessTest, AnExitStatusIsRead) {
  start("print");
  run_until_end();
  EXPECT_EQ(end_->status, 3);
  EXPECT_EQ(end_->code, ErrorCode::kNotFound);
  ASSERT_EQ(end_->last_words.size(), 20u);
  EXPECT_EQ(end_->last_words[17], "line 999");
  EXPECT_EQ(end_->last_words[18], " [2Jescape ");
  EXPECT_EQ(end_->last_words[19], "unfinished");
}

TEST_F(WorkerProcessTest, AnUnaskedEndIsSaidSo) {
  start("leave");
  run_until_end();
  EXPECT_EQ(end_->code, ErrorCode::kInternal);
  EXPECT_THAT(end_->reason, HasSubstr("ended without being asked"));
}

TEST_F(WorkerProcessTest, TheMemoryLimitIsNamed) {
  if (SHOAL_SANITIZED) GTEST_SKIP() << "limits do not go with a sanitizer's shadow memory";
  start("memory", {.memory_limit_bytes = 300'000'000});
  run_until_end();
  EXPECT_EQ(end_->code, ErrorCode::kDoesNotFit) << end_->reason;
  EXPECT_THAT(end_->reason, HasSubstr("memory limit of 300.0 MB"));
}

TEST_F(WorkerProcessTest, WhatWasSentBeforeTheEndArrivesBeforeIt) {
  on_frame_ = [this] { EXPECT_FALSE(end_); };
  start("talk");
  run_until_end();
  EXPECT_EQ(frames_.size(), 500u);
  EXPECT_EQ(end_->code, ErrorCode::kDoesNotFit);
}

TEST_F(WorkerProcessTest, OneThatDoesNotStopIsKilledAfterTheGrace) {
  start("deaf");
  worker_->stop(50ms);
  run_until_end();
  EXPECT_EQ(end_->signal, SIGKILL);
  EXPECT_TRUE(end_->asked);
  EXPECT_THAT(end_->reason, HasSubstr("did not stop when asked"));
}

TEST_F(WorkerProcessTest, TheDaemonsReasonIsKept) {
  start("deaf");
  worker_->kill({ErrorCode::kDeadline, "made no progress for 2.1 s"});
  run_until_end();
  EXPECT_EQ(end_->code, ErrorCode::kDeadline);
  EXPECT_EQ(end_->reason, "worker of rank 1 made no progress for 2.1 s");
}

TEST_F(WorkerProcessTest, BrokenFramesKillTheWorkerWithTheReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"garbage", "not valid JSON"}, {"too-long", "2147483647"}, {"nested", "nested"}};
  for (const auto& [mode, reason] : cases) {
    start(mode);
    run_until_end();
    EXPECT_EQ(end_->code, ErrorCode::kCorrupt) << mode;
    EXPECT_THAT(end_->reason, HasSubstr(reason));
    EXPECT_TRUE(frames_.empty());
    end_.reset();
  }
}

TEST_F(WorkerProcessTest, AClosedChannelEndsTheWorker) {
  start("hang-up");
  run_until_end();
  EXPECT_EQ(end_->signal, SIGKILL);
  EXPECT_THAT(end_->reason, HasSubstr("closed its channel"));
}

TEST_F(WorkerProcessTest, ADescriptorFromAWorkerIsDropped) {
  start("descriptor");
  run_until_frames(1);
  EXPECT_EQ(frames_[0], Json({{"gift", 1}}));
  worker_->stop(20s);
  run_until_end();
}

TEST_F(WorkerProcessTest, WhatTheWorkerStartedEndsWithIt) {
  start("grandchild");
  run_until_end();
  ASSERT_EQ(frames_.size(), 1u);
  const auto pid = frames_[0]["grandchild"].get<pid_t>();
  // An orphan's zombie may stay where nobody reaps orphans; running it must not be.
  const auto limit = Clock::now() + 20s;
  const auto runs = [&] {
    const auto stat = read_file(fmt::format("/proc/{}/stat", pid));
    return stat && stat->find(") Z") == std::string::npos && stat->find(") X") == std::string::npos;
  };
  while (runs() && Clock::now() < limit) std::this_thread::sleep_for(5ms);
  EXPECT_FALSE(runs());
}

TEST_F(WorkerProcessTest, OneThatDoesNotReadIsRefusedMoreWork) {
  start("deaf");
  const std::string text(8 << 20, 'x');
  Status sent;
  for (int i = 0; i < 100 && sent; ++i) sent = worker_->send({{"text", text}});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::kBusy);
  const auto huge = worker_->send({{"text", std::string(65 << 20, 'x')}});
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::kTooLarge);
}

TEST_F(WorkerProcessTest, DestroyingItInACallbackEndsTheProcessAndTheCallbacks) {
  start("talk");
  const pid_t pid = worker_->pid();
  on_frame_ = [this] { worker_.reset(); };
  run_until_frames(1);
  run_until([&] { return ::kill(pid, 0) != 0; });  // reaped by the loop
  EXPECT_EQ(frames_.size(), 1u);
  EXPECT_FALSE(end_);
}

// The loop's process is killed with SIGKILL, so that it can do nothing more: its worker must not
// outlive it.
TEST(WorkerProcess, AWorkerDiesWithItsDaemon) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t daemon = ::fork();
  if (daemon == 0) {
    ::dup2(ends[1], 1);
    ::execl(SUPERVISE_CHILD, SUPERVISE_CHILD, "daemon", nullptr);
    ::_exit(1);
  }
  ::close(ends[1]);
  char text[32] = {};
  ASSERT_GT(::read(ends[0], text, sizeof text - 1), 0);
  ::close(ends[0]);
  const pid_t worker = std::atoi(text);
  ASSERT_GT(worker, 0);
  const UniqueFd watch(static_cast<int>(::syscall(SYS_pidfd_open, worker, 0)));
  ASSERT_TRUE(watch);
  pollfd ended{watch.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 0) << "it ran";
  ::kill(daemon, SIGKILL);
  ::waitpid(daemon, nullptr, 0);
  EXPECT_EQ(::poll(&ended, 1, 20'000), 1);
}

}  // namespace
}  // namespace shoal
