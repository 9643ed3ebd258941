#include "cli/rank_namespaces.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sstream>

namespace shoal::cli {
namespace {

constexpr std::string_view kPrefix = "shoal-bench";
constexpr const char* kFolder = "/run/netns";
constexpr int kNoSuchProgram = 127;
constexpr size_t kMostWords = 4096;

std::unexpected<Error> system_failure(std::string_view what) {
  return fail(ErrorCode::kIo, "{}: {}", what, std::strerror(errno));
}

// Signals that end this command are for it to answer; what it runs to clean up must not die of
// them.
[[noreturn]] void run_child(int output, char* const* argv) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execvp(argv[0], argv);
  ::_exit(kNoSuchProgram);
}

std::string read_to_the_end(const UniqueFd& descriptor) {
  std::string words;
  std::array<char, 1024> bytes;
  while (true) {
    const ssize_t got = ::read(descriptor.get(), bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return words;
    const size_t room = kMostWords - words.size();
    words.append(bytes.data(), std::min(static_cast<size_t>(got), room));
  }
}

// Runs a program and waits; its own words on failure.
Status run_program(const std::vector<std::string>& arguments) {
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0) return system_failure("cannot make a pipe");
  const UniqueFd reading(output[0]);
  UniqueFd writing(output[1]);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return system_failure("cannot start a process");
  if (child == 0) run_child(writing.get(), argv.data());
  writing.reset();
  std::string words = read_to_the_end(reading);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const bool absent = WIFEXITED(status) && WEXITSTATUS(status) == kNoSuchProgram;
  return fail(ErrorCode::kUnsupported, "`{}` failed: {}", fmt::join(arguments, " "),
              absent ? "the program is not installed" : words);
}

// When a process started, in the kernel's ticks since boot: field 22 of /proc/PID/stat (proc(5)),
// counted from after the name, which may hold anything. With its number it tells a process from
// every other one since boot.
std::optional<uint64_t> start_of(int64_t pid) {
  const auto stat = read_file(fmt::format("/proc/{}/stat", pid));
  if (!stat) return std::nullopt;
  std::istringstream fields(stat->substr(std::min(stat->rfind(')') + 1, stat->size())));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  uint64_t ticks = 0;
  if (!(fields >> ticks)) return std::nullopt;
  return ticks;
}

// Whose a namespace is: "shoal-bench-PID-START-...". Nothing for names that are not of ours.
struct Owner {
  int64_t pid = 0;
  uint64_t start = 0;
};
std::optional<Owner> owner_of(const std::string& name) {
  Owner owner;
  int used = 0;
  const std::string format = std::string(kPrefix) + "-%" SCNd64 "-%" SCNu64 "-%n";
  const int read = std::sscanf(name.c_str(), format.c_str(), &owner.pid, &owner.start, &used);
  if (read != 2 || used == 0) return std::nullopt;
  return owner;
}

// Namespaces outlive a process that is killed: whoever comes next removes them.
void remove_stale() {
  std::error_code none;
  std::vector<std::string> stale;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder, none)) {
    const std::string name = entry.path().filename();
    const auto owner = owner_of(name);
    if (owner && start_of(owner->pid) != owner->start) stale.push_back(name);
  }
  for (const std::string& name : stale) (void)run_program({"ip", "netns", "delete", name});
}

}  // namespace

Result<std::unique_ptr<NetworkNamespaces>> NetworkNamespaces::create(int count,
                                                                     const std::string& rate) {
  if (::geteuid() != 0) {
    return fail(ErrorCode::kPermission,
                "--netns makes network namespaces, which takes root; run this as root, or without");
  }
  std::unique_ptr<NetworkNamespaces> spaces(new NetworkNamespaces);
  remove_stale();
  const auto start = start_of(::getpid());
  if (!start) return fail(ErrorCode::kIo, "--netns: /proc does not say when this process started");
  spaces->prefix_ = fmt::format("{}-{}-{}", kPrefix, ::getpid(), *start);
  // The bridge lives in a space of its own, so that the machine's own network is not touched.
  spaces->names_.push_back(spaces->prefix_ + "-hub");
  SHOAL_TRY(run_program({"ip", "netns", "add", spaces->names_.front()}));
  SHOAL_TRY(
      run_program({"ip", "-n", spaces->names_.front(), "link", "add", "hub", "type", "bridge"}));
  SHOAL_TRY(run_program({"ip", "-n", spaces->names_.front(), "link", "set", "hub", "up"}));
  for (int rank = 0; rank < count; ++rank) SHOAL_TRY(spaces->add(rank, rate));
  return spaces;
}

Status NetworkNamespaces::add(int rank, const std::string& rate) {
  const std::string hub = names_.front();
  const std::string name = fmt::format("{}-{}", prefix_, rank);
  const std::string port = fmt::format("port{}", rank);
  names_.push_back(name);
  SHOAL_TRY(run_program({"ip", "netns", "add", name}));
  SHOAL_TRY(run_program({"ip", "-n", hub, "link", "add", port, "mtu", "9000", "type", "veth",
                         "peer", "name", "eth0", "mtu", "9000", "netns", name}));
  SHOAL_TRY(run_program({"ip", "-n", hub, "link", "set", port, "master", "hub", "up"}));
  SHOAL_TRY(run_program({"ip", "-n", name, "addr", "add", address(rank) + "/16", "dev", "eth0"}));
  SHOAL_TRY(run_program({"ip", "-n", name, "link", "set", "eth0", "up"}));
  // Large frames and bursts: the limiter sets a timer for each, which a real card does not.
  if (!rate.empty()) {
    SHOAL_TRY(run_program({"tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "tbf", "rate",
                           rate, "burst", "64kb", "latency", "50ms"}));
  }
  spaces_.emplace_back(::open(fmt::format("{}/{}", kFolder, name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!spaces_.back()) return system_failure("cannot open the network namespace " + name);
  return {};
}

std::string NetworkNamespaces::address(int rank) const {
  return fmt::format("10.77.{}.{}", rank / 200, rank % 200 + 1);
}

NetworkNamespaces::~NetworkNamespaces() {
  for (const std::string& name : names_) (void)run_program({"ip", "netns", "delete", name});
}

}  // namespace shoal::cli
