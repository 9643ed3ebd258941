#include "serve/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

extern char** environ;

namespace shoal::serve {
namespace {

constexpr size_t kMostOutput = 4 << 20;
constexpr std::chrono::seconds kInspectTimeout{60};

Result<pid_t> spawn(const std::vector<std::string>& arguments, int output) {
  std::vector<std::string> words = {"/proc/self/exe"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    errno = error;
    return system_error("cannot start", words[0]);
  }
  return pid;
}

// Reads to the end, the limit or the deadline.
Status read_all(int input, std::string& text, Deadline deadline) {
  char buffer[65536];
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait{input, POLLIN, 0};
    const int ready = left > 0 ? ::poll(&wait, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return fail(ErrorCode::kDeadline, "a child process took too long");
    const ssize_t got = ::read(input, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {};
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > kMostOutput)
      return fail(ErrorCode::kTooLarge, "a child process printed too much");
  }
}

}  // namespace

Result<std::string> run_child(const std::vector<std::string>& arguments,
                              std::chrono::seconds timeout) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make", "a pipe");
  UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  SHOAL_ASSIGN(const pid_t pid, spawn(arguments, writing.get()));
  writing.reset();
  std::string text;
  const Status read = read_all(reading.get(), text, Clock::now() + timeout);
  if (!read) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  SHOAL_TRY(read);
  if (WIFSIGNALED(status)) {
    return fail(
        ErrorCode::kCorrupt,
        "reading the model's file ended with signal {}; the file is damaged, or this is a bug",
        WTERMSIG(status));
  }
  if (WEXITSTATUS(status) == 0) return text;
  const Result<Json> said = parse_json(text);
  if (const std::optional<Error> error = said ? error_from_json(*said) : std::nullopt)
    return std::unexpected(*error);
  return fail(ErrorCode::kInternal, "reading the model's file failed with exit code {}",
              WEXITSTATUS(status));
}

Result<ModelCard> inspect_card(const std::string& path) {
  SHOAL_ASSIGN(const std::string text,
               run_child({"inspect", "--card", "--json", "--quiet", path}, kInspectTimeout));
  SHOAL_ASSIGN(const Json json, parse_json(text));
  return model_card_from_json(json);
}

}  // namespace shoal::serve
