#include "store/child_output.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/file.h"

extern char** environ;

namespace shoal {
namespace {

constexpr size_t kMostOutputBytes = 4 << 20;

Result<pid_t> start(const std::vector<std::string>& arguments, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions,
                                           3);  // sockets and keys of a daemon are nothing to it
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);  // its own group, so that what it starts ends with it
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> words;
  for (const std::string& argument : arguments)
    words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  pid_t child = -1;
  const int failed = ::posix_spawnp(&child, words[0], &actions, &attributes, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0)
    return fail(ErrorCode::kNotFound, "cannot start {}: {}", arguments[0], std::strerror(failed));
  return child;
}

// True at the end of the output, false when the time is over.
bool read_all(int input, Deadline deadline, CancelFlag cancel, std::string& text) {
  char buffer[4096];
  while (Clock::now() < deadline && !is_cancelled(cancel) && text.size() < kMostOutputBytes) {
    pollfd ready{input, POLLIN, 0};
    if (::poll(&ready, 1, 100) <= 0) continue;
    const ssize_t got = ::read(input, buffer, sizeof buffer);
    if (got == 0) return true;
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
    if (got < 0 && errno != EINTR) return true;
  }
  return false;
}

}  // namespace

Result<std::string> output_of(const std::vector<std::string>& arguments, int timeout_ms,
                              CancelFlag cancel) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make", "a pipe");
  UniqueFd input(ends[0]);
  UniqueFd output(ends[1]);
  SHOAL_ASSIGN(const pid_t child, start(arguments, output.get()));
  output.reset();
  std::string text;
  const bool complete =
      read_all(input.get(), Clock::now() + std::chrono::milliseconds(timeout_ms), cancel, text);
  if (!complete) ::kill(-child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!complete)
    return fail(ErrorCode::kDeadline, "{} was not done in {} ms", arguments[0], timeout_ms);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return fail(ErrorCode::kIo, "{} failed (status {})", arguments[0], status);
  }
  return text;
}

}  // namespace shoal
