#include "supervise/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "supervise/channel.h"

namespace shoal {
namespace {

// RLIMIT_DATA counts every private writable mapping, so also what is only reserved: stacks of
// threads (8 MiB each), heaps.
constexpr uint64_t kMemoryHeadroomBytes = 256 << 20;
// A build for testing, whose shadow memory no limit would admit.
constexpr bool kSanitized = SHOAL_SANITIZED;
// Offered to the kernel's out-of-memory killer before the daemon, after nobody's desktop.
constexpr std::string_view kOomScore = "300";
// Above every number that the child's descriptors are moved to.
constexpr int kOutOfTheWay = 10;

// What a worker may know of the daemon's environment. A list of what is passed, because the rest
// may hold keys.
constexpr std::array<std::string_view, 13> kPassedOn = {
    "PATH=",          "HOME=",         "LANG=",        "LC_ALL=",          "TZ=",
    "TMPDIR=",        "SHOAL_ISA=",    "SHOAL_LOG=",   "LD_LIBRARY_PATH=", "ASAN_OPTIONS=",
    "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "LSAN_OPTIONS="};

std::vector<std::string> environment_for(const WorkerOptions& options) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    for (const std::string_view name : kPassedOn) {
      if (text.starts_with(name)) all.emplace_back(text);
    }
  }
  all.insert(all.end(), options.environment.begin(), options.environment.end());
  return all;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

// All that the child needs, made before fork: after it, only system calls are safe.
struct ChildPlan {
  std::vector<std::string> argv_texts;
  std::vector<std::string> environment_texts;
  std::vector<char*> argv;
  std::vector<char*> environment;
  std::optional<rlim_t> data_limit;
  std::optional<cpu_set_t> cores;
  int null = -1;
  int output = -1;
  int channel = -1;
  int report = -1;
  pid_t parent = -1;
};

// What the child tells when it fails before its program runs.
struct ChildReport {
  const char* step;  // a literal, at the same address in both processes
  int error_number;
};

[[noreturn]] void report_and_end(int report, const char* step) {
  const ChildReport failure{step, errno};
  (void)!::write(report, &failure, sizeof failure);
  ::_exit(127);
}

void reset_signals() {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool limit_resources(const ChildPlan& plan) {
  // A core dump would hold the weights, and the keys of the links.
  const rlimit no_core{0, 0};
  if (::setrlimit(RLIMIT_CORE, &no_core) != 0) return false;
  if (plan.data_limit) {
    const rlimit data{*plan.data_limit, *plan.data_limit};
    if (::setrlimit(RLIMIT_DATA, &data) != 0) return false;
  }
  const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) {
    (void)!::write(score, kOomScore.data(), kOomScore.size());
    ::close(score);
  }
  return !plan.cores || ::sched_setaffinity(0, sizeof *plan.cores, &*plan.cores) == 0;
}

// 0 null, 1 and 2 our pipe, 3 the channel; everything else closes with exec.
bool arrange_descriptors(const ChildPlan& plan) {
  if (::dup2(plan.null, 0) < 0 || ::dup2(plan.output, 1) < 0 || ::dup2(plan.output, 2) < 0 ||
      ::dup2(plan.channel, kChannelDescriptor) < 0) {
    return false;
  }
  constexpr unsigned first = kChannelDescriptor + 1;
  if (::syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return true;
  // Before Linux 5.11.
  for (int number = first; number < static_cast<int>(::sysconf(_SC_OPEN_MAX)); ++number) {
    ::fcntl(number, F_SETFD, FD_CLOEXEC);
  }
  return true;
}

[[noreturn]] void run_child(const ChildPlan& plan) {
  ::setpgid(0, 0);
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
    report_and_end(plan.report, "cannot tie to its daemon");
  if (::getppid() != plan.parent) ::_exit(127);  // the daemon ended before the line above
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    report_and_end(plan.report, "cannot give up privileges for");
  }
  reset_signals();
  if (!limit_resources(plan)) report_and_end(plan.report, "cannot limit");
  if (!arrange_descriptors(plan)) report_and_end(plan.report, "cannot arrange the descriptors of");
  ::execve(plan.argv[0], plan.argv.data(), plan.environment.data());
  report_and_end(plan.report, "cannot execute");
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make", "a pipe");
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

// So that dup2 onto 0 to 3 in the child overwrites none of those that it has yet to move.
Result<UniqueFd> out_of_the_way(UniqueFd from) {
  UniqueFd moved(::fcntl(from.get(), F_DUPFD_CLOEXEC, kOutOfTheWay));
  if (!moved) return system_error("cannot duplicate", "a descriptor");
  return moved;
}

Status set_nonblocking(const UniqueFd& descriptor) {
  if (::fcntl(descriptor.get(), F_SETFL, O_NONBLOCK | ::fcntl(descriptor.get(), F_GETFL)) == 0)
    return {};
  return system_error("cannot prepare", "a descriptor");
}

// Signals wait while there are two of us: a handler of the daemon must not run in the child.
pid_t fork_child(const ChildPlan& plan) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) run_child(plan);
  const int number = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = number;
  return pid;
}

// The pipe closes with exec; anything in it is the reason why there was none.
Status await_start(pid_t pid, const UniqueFd& report, const std::string& program) {
  ChildReport failure{};
  ssize_t got = -1;
  do {
    got = ::read(report.get(), &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return {};
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (got != sizeof failure) return fail(ErrorCode::kIo, "{} did not start", program);
  errno = failure.error_number;
  return system_error(failure.step, program);
}

Status fill_plan(const WorkerOptions& options, ChildPlan& plan) {
  if (options.argv.empty()) return fail(ErrorCode::kInvalidArgument, "a worker needs a program");
  plan.argv_texts = options.argv;
  plan.environment_texts = environment_for(options);
  plan.argv = pointers(plan.argv_texts);
  plan.environment = pointers(plan.environment_texts);
  if (options.memory_limit_bytes && !kSanitized) {
    plan.data_limit = *options.memory_limit_bytes + kMemoryHeadroomBytes;
  }
  if (!options.cores.empty()) {
    CPU_ZERO(&plan.cores.emplace());
    for (const int core : options.cores) {
      if (core < 0 || core >= CPU_SETSIZE) {
        return fail(ErrorCode::kInvalidArgument, "there is no core {}", core);
      }
      CPU_SET(core, &*plan.cores);
    }
  }
  plan.parent = ::getpid();
  return {};
}

}  // namespace

Result<SpawnedWorker> spawn_worker(const WorkerOptions& options) {
  ChildPlan plan;
  SHOAL_TRY(fill_plan(options, plan));
  SHOAL_ASSIGN(auto channel, make_channel_pair());
  SHOAL_ASSIGN(auto output, make_pipe());
  SHOAL_ASSIGN(auto report, make_pipe());
  SHOAL_ASSIGN(const UniqueFd their_channel, out_of_the_way(std::move(channel.second)));
  SHOAL_ASSIGN(const UniqueFd their_output, out_of_the_way(std::move(output.second)));
  SHOAL_ASSIGN(UniqueFd their_report, out_of_the_way(std::move(report.second)));
  SHOAL_ASSIGN(const UniqueFd null,
               out_of_the_way(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))));
  SHOAL_TRY(set_nonblocking(channel.first));
  SHOAL_TRY(set_nonblocking(output.first));
  plan.null = null.get();
  plan.output = their_output.get();
  plan.channel = their_channel.get();
  plan.report = their_report.get();

  SpawnedWorker worker;
  worker.pid = fork_child(plan);
  if (worker.pid < 0) return system_error("cannot start a process for", options.argv[0]);
  their_report.reset();
  SHOAL_TRY(await_start(worker.pid, report.first, options.argv[0]));
  worker.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, worker.pid, 0)));
  if (!worker.process) {
    const auto error = system_error("cannot watch", options.argv[0]);
    ::kill(worker.pid, SIGKILL);
    ::waitpid(worker.pid, nullptr, 0);
    return error;
  }
  worker.channel = std::move(channel.first);
  worker.output = std::move(output.first);
  return worker;
}

}  // namespace shoal
