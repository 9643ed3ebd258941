// A worker for tests: argv[1] says how it behaves. Most modes end with the daemon's
// {"type":"stop"}.
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <thread>

#include "supervise/channel.h"
#include "supervise/worker_process.h"

using namespace shoal;  // NOLINT(google-build-using-namespace): a main

namespace {

Channel& channel() {
  static Channel only{UniqueFd(kChannelDescriptor)};
  return only;
}

void say(const Json& json) {
  if (!channel().send(json)) std::exit(5);
}

void write_raw(std::string_view bytes) {
  if (::write(kChannelDescriptor, bytes.data(), bytes.size()) < 0) std::exit(6);
}

int wait_for_stop() {
  while (true) {
    auto frame = channel().receive(kNoDeadline);
    if (!frame) return 0;
    if (frame->json.value("type", "") == "stop") return 0;
  }
}

// Sends back what comes; a descriptor's text in the place of the descriptor.
int echo() {
  while (true) {
    auto frame = channel().receive(kNoDeadline);
    if (!frame) return 0;
    if (frame->json.value("type", "") == "stop") return 0;
    OrderedJson answer = {{"echo", frame->json}};
    if (frame->json.contains("show")) answer["text"] = frame->json.dump();
    if (frame->descriptor) {
      char text[100];
      const ssize_t got = ::read(frame->descriptor.get(), text, sizeof text);
      answer["file"] = std::string(text, static_cast<size_t>(std::max<ssize_t>(got, 0)));
    }
    if (!channel().send(answer)) return 5;
  }
}

// What the process finds around itself.
int facts() {
  Json json;
  json["descriptors"] = Json::array();
  DIR* folder = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(folder)) {
    const int number = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && number != ::dirfd(folder)) json["descriptors"].push_back(number);
  }
  ::closedir(folder);
  json["environment"] = Json::array();
  for (char** entry = environ; *entry != nullptr; ++entry) json["environment"].push_back(*entry);
  char target[200] = {};
  if (::readlink("/proc/self/fd/0", target, sizeof target - 1) > 0) json["stdin"] = target;
  json["own_group"] = ::getpgrp() == ::getpid();
  json["no_new_privs"] = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  rlimit core{};
  ::getrlimit(RLIMIT_CORE, &core);
  json["core_bytes"] = core.rlim_cur;
  cpu_set_t cores;
  ::sched_getaffinity(0, sizeof cores, &cores);
  json["core_count"] = CPU_COUNT(&cores);
  struct sigaction pipe_action{};
  ::sigaction(SIGPIPE, nullptr, &pipe_action);
  json["sigpipe_default"] = pipe_action.sa_handler == SIG_DFL;
  say(json);
  return wait_for_stop();
}

int use_memory() {
  for (size_t i = 0; i < 200; ++i) {
    char* block = new char[16 << 20];
    std::memset(block, 1, 16 << 20);
  }
  return 0;
}

// A daemon of its own: starts a worker, tells its number, and waits to be killed.
int daemon(const char* self) {
  boost::asio::io_context loop;
  WorkerOptions options;
  options.argv = {self, "echo"};
  auto worker = WorkerProcess::spawn(loop, options, {});
  if (!worker) return 7;
  std::printf("%d\n", (*worker)->pid());
  std::fflush(stdout);
  loop.run();
  return 0;
}

int print_much() {
  for (int i = 0; i < 1000; ++i) std::fprintf(stderr, "line %d\n", i);
  std::fprintf(stderr, "\x1b[2Jescape\a\nunfinished");
  return 3;
}

int talk_then_die() {
  for (int i = 0; i < 500; ++i) say({{"number", i}});
  return 4;
}

int nested() {
  std::string text(100'000, '[');
  std::string frame(4, '\0');
  for (size_t i = 0; i < 4; ++i) frame[i] = static_cast<char>(text.size() >> (8 * i));
  write_raw(frame + text);
  return wait_for_stop();
}

int grandchild() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    while (true) ::pause();
  }
  say({{"grandchild", pid}});
  std::fprintf(stderr, "leaving a child behind\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const std::map<std::string, std::function<int()>> modes = {
      {"echo", echo},
      {"facts", facts},
      {"memory", use_memory},
      {"print", print_much},
      {"talk", talk_then_die},
      {"nested", nested},
      {"grandchild", grandchild},
      {"daemon", [&] { return daemon(argv[0]); }},
      {"leave", [] { return 0; }},
      {"abort",
       []() -> int {
         std::fprintf(stderr, "shoal: bug: something does not hold\n");
         std::abort();
       }},
      {"deaf",
       []() -> int {
         while (true) ::pause();
       }},
      {"hang-up",
       []() -> int {
         ::close(kChannelDescriptor);
         while (true) ::pause();
       }},
      {"garbage",
       [] {
         write_raw(std::string_view("\x05\0\0\0{oops", 9));
         return wait_for_stop();
       }},
      {"too-long",
       [] {
         write_raw("\xff\xff\xff\x7f");
         return wait_for_stop();
       }},
      {"descriptor",
       [] {
         if (!channel().send(Json{{"gift", 1}}, 0)) return 5;
         return wait_for_stop();
       }},
  };
  const auto found = modes.find(mode);
  return found == modes.end() ? 2 : found->second();
}
