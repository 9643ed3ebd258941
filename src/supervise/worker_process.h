// WorkerProcess: the daemon's side of a worker. Owns the process; everything here happens on the
// loop's thread, which must outlive the workers (a worker dies with the thread that started it, and
// so with its daemon). A worker parses files of strangers, so nothing that it does may hurt the
// daemon: its frames are bounded and are JSON before a callback sees them, its output is bounded,
// and what breaks the rules is killed, with the reason.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "supervise/worker_exit.h"

namespace shoal {

struct WorkerOptions {
  std::string name = "the worker";  // how reasons and the log call it: "worker of rank 1"
  std::vector<std::string> argv = {"/proc/self/exe",
                                   "worker"};  // argv[0] is the file; never a secret
  std::vector<std::string>
      environment;  // NAME=value beside the few that are passed on; never a secret
  // Private writable memory (RLIMIT_DATA, with 256 MiB of headroom for reserved stacks and heaps);
  // mapped model files do not count. An allocation beyond it fails inside the worker.
  std::optional<uint64_t> memory_limit_bytes;
  std::vector<int> cores;  // to run on; empty: as the daemon
};

struct WorkerCallbacks {
  std::function<void(Json)> on_frame;
  // Once, last, after all frames that the worker sent before it ended.
  std::function<void(WorkerExit)> on_exit;
};

// Destroyed before the loop. Callbacks may call anything here and may destroy the WorkerProcess,
// after which none comes.
class WorkerProcess {
 public:
  // Returns once the program runs: kNotFound and the like when it cannot. Callbacks come from later
  // turns of the loop.
  static Result<std::unique_ptr<WorkerProcess>> spawn(boost::asio::io_context& loop,
                                                      WorkerOptions options,
                                                      WorkerCallbacks callbacks);
  ~WorkerProcess();  // kills what still runs; the loop reaps it

  // Queues a frame. kBusy when the worker does not keep up (128 MiB wait), kTooLarge over 64 MiB,
  // kUnreachable after its end.
  Status send(const Json& frame, UniqueFd descriptor = {}) {
    return send_text(dump_json(frame), std::move(descriptor));
  }
  template <std::same_as<OrderedJson> J>
  Status send(const J& frame, UniqueFd descriptor = {}) {
    return send_text(dump_json(frame), std::move(descriptor));
  }
  // Asks it to end by {"type":"stop"}, and kills it when it has not after `grace`.
  void stop(Clock::duration grace);
  // At once. `why` completes "the worker ...": {kDeadline, "made no progress for 2.1 s"}.
  void kill(Error why);

  pid_t pid() const;
  bool running() const;  // until on_exit
  Clock::time_point started_at() const;
  Clock::time_point last_frame_at() const;  // started_at() before the first; for the watchdog
  std::vector<std::string> last_words() const;

 private:
  struct State;
  explicit WorkerProcess(std::shared_ptr<State> state);
  Status send_text(const std::string& text, UniqueFd descriptor);

  // Shared with the handlers that wait in the loop: a killed process is reaped after this object is
  // gone.
  std::shared_ptr<State> state_;
};

}  // namespace shoal
