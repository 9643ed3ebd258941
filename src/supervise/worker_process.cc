#include "supervise/worker_process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <charconv>
#include <deque>

#include "base/log.h"
#include "supervise/frame.h"
#include "supervise/last_words.h"
#include "supervise/spawn.h"

namespace shoal {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr size_t kReadBytes =
    256 << 10;  // a turn of the loop: nobody else waits long for a worker that talks much
constexpr uint64_t kMostQueuedBytes = 128 << 20;
constexpr size_t kMostQueuedFrames = 10'000;
constexpr int kLoggedLinesPerSecond = 100;
constexpr int kMostLastReads = 64;  // 1 MiB: a pipe holds less, unless a stray process still writes
constexpr auto kGraceAfterHangUp = std::chrono::seconds(1);

// How many processes the kernel has killed for want of memory since it started; 0 where it does not
// say.
uint64_t oom_kills() {
  const auto text = read_file("/proc/vmstat");
  if (!text) return 0;
  constexpr std::string_view kName = "\noom_kill ";
  const size_t at = text->find(kName);
  if (at == std::string::npos) return 0;
  uint64_t count = 0;
  std::from_chars(text->data() + at + kName.size(), text->data() + text->size(), count);
  return count;
}

void close_quietly(asio::posix::stream_descriptor& descriptor) {
  error_code ignored;
  descriptor.close(ignored);
}

struct QueuedFrame {
  std::string bytes;
  size_t sent = 0;
  UniqueFd descriptor;
};

}  // namespace

struct WorkerProcess::State : std::enable_shared_from_this<State> {
  State(asio::io_context& loop, WorkerOptions given, WorkerCallbacks called, SpawnedWorker spawned)
      : options(std::move(given)),
        callbacks(std::move(called)),
        pid(spawned.pid),
        process(loop, spawned.process.release()),
        channel(loop, spawned.channel.release()),
        output(loop, spawned.output.release()),
        stop_timer(loop),
        hang_up_timer(loop) {}

  void start();
  Status send(const std::string& text, UniqueFd descriptor);
  void stop(Clock::duration grace);
  void kill(Error why);
  void abandon();

  void wait_for_end();
  void wait_for_frames();
  void wait_for_output();
  enum class Turn { kMore, kNothing, kEnd };
  Turn read_frames();
  Turn take_frames();
  void hung_up();
  bool read_output();
  void write_frames();
  void ended();
  void drain();
  void log_line(const std::string& line);
  void log_dropped_lines();

  WorkerOptions options;
  WorkerCallbacks callbacks;
  const pid_t pid;
  asio::posix::stream_descriptor process;
  asio::posix::stream_descriptor channel;
  asio::posix::stream_descriptor output;
  asio::steady_timer stop_timer;
  asio::steady_timer hang_up_timer;
  const uint64_t oom_kills_before = oom_kills();
  const Clock::time_point started = Clock::now();
  Clock::time_point last_frame = started;

  bool running = true;
  bool abandoned = false;  // its owner is gone: no more callbacks
  bool asked = false;
  std::optional<Error> killed_because;

  std::string incoming;
  std::deque<QueuedFrame> queue;
  uint64_t queued_bytes = 0;
  bool writing = false;  // waiting for room in the socket

  LastWords words;
  Clock::time_point log_second = started;
  int logged_lines = 0;
  int dropped_lines = 0;
};

void WorkerProcess::State::start() {
  wait_for_end();
  wait_for_frames();
  wait_for_output();
}

// --- frames from the worker ---

void WorkerProcess::State::wait_for_frames() {
  channel.async_wait(asio::posix::descriptor_base::wait_read,
                     [self = shared_from_this()](error_code error) {
                       if (error || !self->running) return;
                       if (self->read_frames() != Turn::kEnd) self->wait_for_frames();
                     });
}

WorkerProcess::State::Turn WorkerProcess::State::read_frames() {
  if (!channel.is_open() || killed_because) return Turn::kEnd;
  const size_t before = incoming.size();
  incoming.resize(before + kReadBytes);
  UniqueFd unwanted;  // no frame to a daemon carries a descriptor; one that comes is closed here
  const ssize_t got =
      receive_some(channel.native_handle(), incoming.data() + before, kReadBytes, unwanted);
  const int number = errno;
  incoming.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got > 0) return take_frames();
  if (got < 0 && number == EAGAIN) return Turn::kNothing;
  if (got < 0 && number == EPROTO) {
    kill({ErrorCode::kCorrupt, "was killed: it passed descriptors that nobody asked for"});
  } else {
    hung_up();
  }
  return Turn::kEnd;
}

WorkerProcess::State::Turn WorkerProcess::State::take_frames() {
  size_t at = 0;
  while (incoming.size() - at >= kFrameHeaderBytes) {
    const uint64_t length = decode_frame_length(std::string_view(incoming).substr(at));
    if (length > kLargestWorkerFrame) {
      kill({ErrorCode::kCorrupt,
            fmt::format("was killed: it announced a message of {} bytes, over the limit of {}",
                        length, kLargestWorkerFrame)});
      return Turn::kEnd;
    }
    if (incoming.size() - at - kFrameHeaderBytes < length) break;
    auto json = parse_json(std::string_view(incoming).substr(at + kFrameHeaderBytes, length));
    if (!json) {
      kill({ErrorCode::kCorrupt,
            fmt::format("was killed: it sent a message that is {}", json.error().message)});
      return Turn::kEnd;
    }
    at += kFrameHeaderBytes + length;
    last_frame = Clock::now();
    if (!abandoned && callbacks.on_frame) callbacks.on_frame(std::move(*json));
    if (abandoned) return Turn::kEnd;
  }
  incoming.erase(0, at);
  if (incoming.empty() && incoming.capacity() > 4 * kReadBytes) incoming = {};
  return Turn::kMore;
}

// A worker that ends closes its channel a moment before it can be reaped; one that only closes it
// is of no use.
void WorkerProcess::State::hung_up() {
  close_quietly(channel);
  queue.clear();
  queued_bytes = 0;
  hang_up_timer.expires_after(kGraceAfterHangUp);
  hang_up_timer.async_wait([self = shared_from_this()](error_code error) {
    if (!error)
      self->kill({ErrorCode::kInternal, "closed its channel without ending, and was killed"});
  });
}

// --- what it prints ---

void WorkerProcess::State::wait_for_output() {
  output.async_wait(asio::posix::descriptor_base::wait_read,
                    [self = shared_from_this()](error_code error) {
                      if (error || !self->running) return;
                      if (self->read_output()) self->wait_for_output();
                    });
}

bool WorkerProcess::State::read_output() {
  std::array<char, 16384> bytes;
  const ssize_t got = ::read(output.native_handle(), bytes.data(), bytes.size());
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  const auto log = [this](const std::string& line) { log_line(line); };
  if (got == 0) return false;
  words.add({bytes.data(), static_cast<size_t>(got)}, log);
  return true;
}

void WorkerProcess::State::log_dropped_lines() {
  if (dropped_lines > 0) {
    log::warn("{}: {} more lines were not logged", options.name, dropped_lines);
  }
  dropped_lines = 0;
}

// A worker in a loop must not fill the log's disk.
void WorkerProcess::State::log_line(const std::string& line) {
  const auto now = Clock::now();
  if (now - log_second >= std::chrono::seconds(1)) {
    log_dropped_lines();
    log_second = now;
    logged_lines = 0;
  }
  if (++logged_lines > kLoggedLinesPerSecond) {
    ++dropped_lines;
  } else {
    log::info("{}: {}", options.name, line);
  }
}

// --- frames to the worker ---

Status WorkerProcess::State::send(const std::string& text, UniqueFd descriptor) {
  if (!running || !channel.is_open()) {
    return fail(ErrorCode::kUnreachable, "{} has ended", options.name);
  }
  SHOAL_ASSIGN(std::string bytes, encode_frame(text));
  if (queued_bytes + bytes.size() > kMostQueuedBytes || queue.size() >= kMostQueuedFrames) {
    return fail(ErrorCode::kBusy, "{} does not read its messages: {} wait", options.name,
                queue.size());
  }
  queued_bytes += bytes.size();
  queue.push_back({std::move(bytes), 0, std::move(descriptor)});
  if (!writing) write_frames();
  return {};
}

void WorkerProcess::State::write_frames() {
  while (!queue.empty() && channel.is_open()) {
    QueuedFrame& frame = queue.front();
    const ssize_t sent =
        send_some(channel.native_handle(), std::string_view(frame.bytes).substr(frame.sent),
                  frame.descriptor.get());
    if (sent >= 0) {
      frame.descriptor.reset();
      frame.sent += static_cast<size_t>(sent);
      if (frame.sent < frame.bytes.size()) continue;
      queued_bytes -= frame.bytes.size();
      queue.pop_front();
    } else if (errno == EAGAIN) {
      writing = true;
      channel.async_wait(asio::posix::descriptor_base::wait_write,
                         [self = shared_from_this()](error_code error) {
                           self->writing = false;
                           if (!error && self->running) self->write_frames();
                         });
      return;
    } else {
      // It ended or closed its channel; reading finds that out and says why.
      queue.clear();
      queued_bytes = 0;
    }
  }
}

// --- the end ---

void WorkerProcess::State::stop(Clock::duration grace) {
  if (!running || asked) return;
  asked = true;
  if (auto sent = send(R"({"type":"stop"})", {}); !sent) {
    kill({ErrorCode::kCancelled, "was stopped"});
    return;
  }
  stop_timer.expires_after(grace);
  stop_timer.async_wait([self = shared_from_this()](error_code error) {
    if (!error) self->kill({ErrorCode::kCancelled, "did not stop when asked, and was killed"});
  });
}

void WorkerProcess::State::kill(Error why) {
  if (!running) return;
  if (!killed_because) killed_because = std::move(why);
  ::kill(pid, SIGKILL);  // not reaped yet, so the number is still its own
}

void WorkerProcess::State::abandon() {
  if (abandoned) return;
  abandoned = true;
  kill({ErrorCode::kCancelled, "is no longer needed"});
  // Not destroyed here: one of them may be running.
  asio::post(process.get_executor(), [self = shared_from_this()] { self->callbacks = {}; });
}

void WorkerProcess::State::wait_for_end() {
  process.async_wait(asio::posix::descriptor_base::wait_read,
                     [self = shared_from_this()](error_code error) {
                       if (!error) self->ended();
                     });
}

// What the dead process left in its socket and its pipe: bounded, because nobody writes any more.
void WorkerProcess::State::drain() {
  while (!abandoned && read_frames() == Turn::kMore) {
  }
  for (int turn = 0; turn < kMostLastReads && read_output(); ++turn) {
  }
  words.finish([this](const std::string& line) { log_line(line); });
  log_dropped_lines();
}

void WorkerProcess::State::ended() {
  ExitFacts facts;
  facts.name = options.name;
  siginfo_t info{};
  const auto id = static_cast<id_t>(pid);
  // First only looked at: while the process is not reaped, its group's number cannot be another's.
  if (::waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0) {
    wait_for_end();
    return;
  }
  ::kill(-pid, SIGKILL);  // what it may have started itself
  drain();
  if (::waitid(P_PID, id, &info, WEXITED | WNOHANG) != 0) facts.known = false;
  running = false;
  for (auto* descriptor : {&process, &channel, &output}) close_quietly(*descriptor);
  stop_timer.cancel();
  hang_up_timer.cancel();
  queue.clear();

  facts.signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
  facts.status = info.si_code == CLD_EXITED ? info.si_status : 0;
  facts.asked = asked;
  facts.kernel_killed_for_memory = oom_kills() > oom_kills_before;
  facts.memory_limit_bytes = options.memory_limit_bytes;
  facts.killed_because = killed_because;
  facts.last_words = words.lines();
  WorkerExit end = classify_exit(std::move(facts));
  if (!abandoned && callbacks.on_exit) callbacks.on_exit(std::move(end));
  asio::post(stop_timer.get_executor(), [self = shared_from_this()] { self->callbacks = {}; });
}

// --- the handle ---

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::spawn(asio::io_context& loop,
                                                            WorkerOptions options,
                                                            WorkerCallbacks callbacks) {
  auto spawned = spawn_worker(options);
  if (!spawned) return std::unexpected(spawned.error().within("cannot start " + options.name));
  const pid_t pid = spawned->pid;
  try {
    auto state = std::make_shared<State>(loop, std::move(options), std::move(callbacks),
                                         std::move(*spawned));
    state->start();
    return std::unique_ptr<WorkerProcess>(new WorkerProcess(std::move(state)));
  } catch (const std::exception& error) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(ErrorCode::kIo, "cannot watch a new worker: {}", error.what());
  }
}

WorkerProcess::WorkerProcess(std::shared_ptr<State> state) : state_(std::move(state)) {}
WorkerProcess::~WorkerProcess() {
  state_->abandon();
}

Status WorkerProcess::send_text(const std::string& text, UniqueFd descriptor) {
  return state_->send(text, std::move(descriptor));
}
void WorkerProcess::stop(Clock::duration grace) {
  state_->stop(grace);
}
void WorkerProcess::kill(Error why) {
  state_->kill(std::move(why));
}
pid_t WorkerProcess::pid() const {
  return state_->pid;
}
bool WorkerProcess::running() const {
  return state_->running;
}
Clock::time_point WorkerProcess::started_at() const {
  return state_->started;
}
Clock::time_point WorkerProcess::last_frame_at() const {
  return state_->last_frame;
}
std::vector<std::string> WorkerProcess::last_words() const {
  return state_->words.lines();
}

}  // namespace shoal
