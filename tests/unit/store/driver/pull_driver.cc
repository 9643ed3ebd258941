// Drives a Store from a test: one command per start, events and the result as JSON lines on
// standard output.
//   pull_driver HOME pull|resolve|remove|add MODEL      pull_driver HOME list
//   pull_driver HOME peer SHA256 NAME URL FINGERPRINT CERTIFICATE_FILE KEY_FILE
// SHOAL_TEST_FILE_LIMIT_BYTES limits what may be written to one file, as a full disk would.
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "store/store.h"

namespace {

std::atomic<bool> g_cancel = false;

void print(const shoal::OrderedJson& line) {
  std::printf("%s\n", shoal::dump_json(line).c_str());
  std::fflush(stdout);
}

const char* phase_name(shoal::PullEvent::Phase phase) {
  switch (phase) {
    case shoal::PullEvent::Phase::kWaiting:
      return "waiting";
    case shoal::PullEvent::Phase::kChecking:
      return "checking";
    case shoal::PullEvent::Phase::kDownloading:
      return "downloading";
    case shoal::PullEvent::Phase::kUnpacking:
      return "unpacking";
    case shoal::PullEvent::Phase::kNote:
      return "note";
  }
  return "?";
}

void on_event(const shoal::PullEvent& event) {
  print({{"event", phase_name(event.phase)},
         {"source", event.source},
         {"done_bytes", event.done_bytes},
         {"total_bytes", event.total_bytes},
         {"bytes_per_s", event.bytes_per_s},
         {"note", event.note}});
}

shoal::OrderedJson as_json(const shoal::ModelFile& file) {
  return {{"name", file.name},      {"path", file.path},
          {"sha256", file.sha256},  {"size_bytes", file.size_bytes},
          {"source", file.source},  {"part_count", file.part_count},
          {"kept_by", file.kept_by}};
}

int finish(const shoal::Error& error) {
  print({{"error", std::string(shoal::error_name(error.code))}, {"message", error.message}});
  return shoal::exit_code(error.code);
}

int finish(const shoal::Result<shoal::ModelFile>& file) {
  if (!file) return finish(file.error());
  print({{"file", as_json(*file)}});
  return 0;
}

void set_limits() {
  ::signal(SIGINT, [](int) { g_cancel = true; });
  const char* limit = std::getenv("SHOAL_TEST_FILE_LIMIT_BYTES");
  if (limit == nullptr) return;
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit bytes{std::strtoull(limit, nullptr, 10), RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &bytes);
}

shoal::NetworkPatience test_patience() {
  shoal::NetworkPatience patience;
  patience.connect_timeout_ms = 3000;
  patience.slow_bytes_per_s = 2000;
  patience.slow_after_s = 2;
  patience.attempts = 4;
  patience.first_pause_ms = 50;
  patience.longest_pause_ms = 400;
  return patience;
}

int peer(shoal::Store& store, char** words) {
  const auto certificate = shoal::read_file(words[4]);
  const auto key = shoal::read_file(words[5]);
  if (!certificate || !key) return finish(certificate ? key.error() : certificate.error());
  const shoal::PeerSource source{words[2], words[3], *certificate, *key};
  return finish(store.pull_from_peer(words[0], words[1], source, 0, on_event, &g_cancel));
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) return 2;
  set_limits();
  shoal::start_logging("store", false);
  const bool patient = std::getenv("SHOAL_TEST_PATIENT") != nullptr;
  auto store = shoal::Store::open(words[1], patient ? shoal::NetworkPatience{} : test_patience());
  if (!store) return finish(store.error());
  const std::string command = words[2];
  if (command == "list") {
    const auto files = (*store)->list();
    if (!files) return finish(files.error());
    for (const shoal::ModelFile& file : *files) print({{"file", as_json(file)}});
    return 0;
  }
  if (count < 4) return 2;
  if (command == "pull") return finish((*store)->pull(words[3], on_event, &g_cancel));
  if (command == "resolve") return finish((*store)->resolve(words[3]));
  if (command == "add") return finish((*store)->add_path(words[3], on_event, &g_cancel));
  if (command == "peer" && count == 9) return peer(**store, words + 3);
  if (command == "remove") {
    const shoal::Status done = (*store)->remove(words[3]);
    return done ? 0 : finish(done.error());
  }
  return 2;
}
