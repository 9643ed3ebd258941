#include "cli/rank_links.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <future>

#include "transport/link_model.h"
#include "transport/shm.h"

namespace shoal::cli {
namespace {

constexpr std::string_view kEmulated = "emulated:";
constexpr std::chrono::seconds kConnectTimeout{10};

std::unexpected<Error> system_failure(std::string_view what) {
  return fail(ErrorCode::kIo, "{}: {}", what, std::strerror(errno));
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
  if (child == 0) {
    ::dup2(writing.get(), STDOUT_FILENO);
    ::dup2(writing.get(), STDERR_FILENO);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  writing.reset();
  std::string words(4096, '\0');
  size_t size = 0;
  for (ssize_t got = 1; got > 0 && size < words.size(); size += static_cast<size_t>(got)) {
    got = ::read(reading.get(), words.data() + size, words.size() - size);
    if (got < 0) break;
  }
  words.resize(size);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const bool absent = WIFEXITED(status) && WEXITSTATUS(status) == 127;
  std::string command;
  for (const std::string& argument : arguments) command += (command.empty() ? "" : " ") + argument;
  return fail(ErrorCode::kUnsupported, "`{}` failed: {}", command,
              absent ? "the program is not installed" : words);
}

sockaddr_in address_of(const std::string& text, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  SHOAL_CHECK(::inet_pton(AF_INET, text.c_str(), &address.sin_addr) == 1);
  return address;
}

// On a thread of its own, which may move to another network namespace and ends there.
template <typename Work>
auto within(int space, Work work) {
  using Value = std::invoke_result_t<Work>;
  return std::async(std::launch::async,
                    [space, work = std::move(work)]() -> Value {
                      if (::setns(space, CLONE_NEWNET) != 0)
                        return system_failure("cannot enter a network namespace");
                      return work();
                    })
      .get();
}

Result<UniqueFd> listen_on(const std::string& ip) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = address_of(ip, 0);
  if (!socket ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), 1) != 0) {
    return system_failure("cannot listen on " + ip);
  }
  return socket;
}

Result<std::pair<UniqueFd, UniqueFd>> connect_spaces(const NetworkNamespaces& spaces, int a,
                                                     int b) {
  SHOAL_ASSIGN(const UniqueFd listening,
               within(spaces.descriptor(a), [&] { return listen_on(spaces.address(a)); }));
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return system_failure("cannot read a port");
  const std::string address = fmt::format("{}:{}", spaces.address(a), ntohs(bound.sin_port));
  SHOAL_ASSIGN(UniqueFd dialled, within(spaces.descriptor(b), [&] {
                 return dial_tcp(address, Clock::now() + kConnectTimeout);
               }));
  UniqueFd accepted(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!accepted) return system_failure("cannot accept a connection");
  return std::pair(std::move(accepted), std::move(dialled));
}

}  // namespace

Result<LinkChoice> parse_link_choice(std::string_view text) {
  LinkChoice choice{.text = std::string(text)};
  if (text == "shm") return choice;
  if (text == "verbs") {
    choice.kind = LinkChoice::Kind::kVerbs;
    choice.mode = LinkMode::kTls;
    return choice;
  }
  if (text == "tcp" || text == "tls" || text == "plain") {
    choice.kind = LinkChoice::Kind::kTcp;
    choice.mode = text == "plain" ? LinkMode::kPlain : LinkMode::kTls;
    return choice;
  }
  if (text.starts_with(kEmulated)) {
    choice.emulated = text.substr(kEmulated.size());
    SHOAL_TRY(parse_link_model(choice.emulated));
    return choice;
  }
  return fail(ErrorCode::kInvalidArgument,
              "--link '{}' is not known; shm, tcp (with TLS), plain (TCP without), verbs and "
              "emulated:NAME are",
              text);
}

// --- network namespaces ---

Result<std::unique_ptr<NetworkNamespaces>> NetworkNamespaces::create(int count,
                                                                     const std::string& rate) {
  if (::geteuid() != 0) {
    return fail(ErrorCode::kPermission,
                "--netns makes network namespaces, which takes root; run this as root, or without");
  }
  std::unique_ptr<NetworkNamespaces> spaces(new NetworkNamespaces);
  spaces->prefix_ = fmt::format("shoal{}", ::getpid());
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
  SHOAL_TRY(run_program({"ip", "netns", "add", name}));
  names_.push_back(name);
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
  spaces_.emplace_back(::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!spaces_.back()) return system_failure("cannot open the network namespace " + name);
  return {};
}

std::string NetworkNamespaces::address(int rank) const {
  return fmt::format("10.77.{}.{}", rank / 200, rank % 200 + 1);
}

NetworkNamespaces::~NetworkNamespaces() {
  for (const std::string& name : names_) (void)run_program({"ip", "netns", "delete", name});
}

// --- links ---

Result<std::vector<std::vector<LinkEnd>>> make_link_ends(int ranks, const LinkChoice& choice,
                                                         const NetworkNamespaces* spaces) {
  const auto count = static_cast<size_t>(ranks);
  std::vector<std::vector<LinkEnd>> ends(count);
  for (auto& row : ends) row.resize(count);
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = a + 1; b < count; ++b) {
      if (choice.kind == LinkChoice::Kind::kShm) {
        SHOAL_ASSIGN(auto pair, make_shm_pair());
        ends[a][b] = {std::move(pair.first.socket), std::move(pair.first.memory)};
        ends[b][a] = {std::move(pair.second.socket), std::move(pair.second.memory)};
        continue;
      }
      auto sockets = spaces == nullptr
                         ? connected_tcp_pair()
                         : connect_spaces(*spaces, static_cast<int>(a), static_cast<int>(b));
      if (!sockets) return std::unexpected(sockets.error());
      ends[a][b].socket = std::move(sockets->first);
      ends[b][a].socket = std::move(sockets->second);
    }
  }
  return ends;
}

}  // namespace shoal::cli
