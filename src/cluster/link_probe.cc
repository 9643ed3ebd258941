#include "cluster/link_probe.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace shoal::cluster {
namespace {

using std::chrono::milliseconds;

constexpr size_t kSmallBytes = kSmallFrameBytes;
constexpr size_t kFirstBytes = 256 << 10;
constexpr size_t kLongBytes = 4 << 20;
constexpr int kWarmUps = 8;
constexpr int kRounds = 64;
constexpr int kLeastRounds = 5;
constexpr milliseconds kRoundsTime{500};
constexpr milliseconds kOneWait{2000};
constexpr milliseconds kAnswerTime{8000};
constexpr milliseconds kTicketTime{3000};
constexpr std::chrono::seconds kOneTimedFrame{10};
constexpr std::chrono::seconds kTimingTime{120};

Result<double> there_and_back(Link& link, const Bytes& frame, Bytes& answer) {
  const auto start = Clock::now();
  SHOAL_TRY(link.send(frame, start + kOneWait));
  SHOAL_TRY(link.receive(answer, start + kOneWait));
  return seconds_since(start);
}

}  // namespace

Result<LinkMeasure> measure_link(Link& link) {
  const auto start = Clock::now();
  const Bytes small(kSmallBytes);
  Bytes answer;
  std::vector<double> trips;
  for (int round = 0; round < kWarmUps + kRounds; ++round) {
    SHOAL_ASSIGN(const double trip_s, there_and_back(link, small, answer));
    if (round >= kWarmUps || trip_s > 1e-3) trips.push_back(trip_s);
    if (static_cast<int>(trips.size()) >= kLeastRounds && Clock::now() - start > kRoundsTime) break;
  }
  // The lower quartile: what the link takes when neither end was waiting for a processor.
  const auto quartile = trips.begin() + static_cast<std::ptrdiff_t>(trips.size() / 4);
  std::ranges::nth_element(trips, quartile);
  LinkMeasure measure;
  measure.round_trip_s = *quartile;
  // A short piece first, so that a slow link is not held up by a long one.
  size_t bytes = kFirstBytes;
  SHOAL_ASSIGN(double took_s, there_and_back(link, Bytes(bytes), answer));
  if (took_s < 20e-3) {
    bytes = kLongBytes;
    SHOAL_ASSIGN(took_s, there_and_back(link, Bytes(bytes), answer));
  }
  const double moving_s = std::max(took_s - measure.round_trip_s, took_s / 10);
  measure.bytes_per_s = static_cast<double>(bytes) / moving_s;
  return measure;
}

void answer_measurement(Link& link) {
  const auto end = Clock::now() + kAnswerTime;
  const Bytes acknowledgement(1);
  Bytes frame;
  while (Clock::now() < end) {
    if (!link.receive(frame, Clock::now() + kOneWait)) return;
    const Bytes& answer = frame.size() <= kSmallBytes ? frame : acknowledgement;
    if (!link.send(answer, Clock::now() + kOneWait)) return;
  }
}

// Shared with the threads; `mutex` guards the duplicate of the socket by which the destructor ends
// a wait.
struct LinkProber::State {
  explicit State(boost::asio::io_context& io) : loop(io) {}

  boost::asio::io_context& loop;
  std::optional<ProbeTicket> awaited;
  Deadline awaited_until;
  bool running = false;  // loop thread only
  std::thread thread;
  std::mutex mutex;
  UniqueFd duplicate;
  bool stopping = false;

  bool adopt(int socket) {
    const std::scoped_lock lock(mutex);
    duplicate = UniqueFd(::dup(socket));
    return !stopping;
  }
  // The link has ended: the other end hears it once nothing holds the socket.
  void let_go() {
    const std::scoped_lock lock(mutex);
    duplicate.reset();
  }
  // Starts `work` on the thread; the one before has ended, for only one runs at a time.
  bool run(std::function<void()> work) {
    if (stopping) return false;
    if (thread.joinable()) thread.join();
    try {
      thread = std::thread(std::move(work));
    } catch (const std::system_error&) {
      return false;
    }
    running = true;
    return true;
  }
};

LinkProber::LinkProber(boost::asio::io_context& loop) : state_(std::make_shared<State>(loop)) {}

LinkProber::~LinkProber() {
  stop();
}

void LinkProber::stop() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
    if (state_->duplicate) ::shutdown(state_->duplicate.get(), SHUT_RDWR);
  }
  if (state_->thread.joinable()) state_->thread.join();
}

bool LinkProber::is_busy() const {
  return state_->running || (state_->awaited && Clock::now() < state_->awaited_until);
}

// Dials, and works over the link on the thread; tells of the result on the loop.
template <typename R>
void LinkProber::start(std::string address, ProbeTicket ticket,
                       std::function<Result<R>(Link&)> work, std::function<void(Result<R>)> done) {
  const auto attempt = [address, ticket, work](State& state) -> Result<R> {
    const Deadline deadline = Clock::now() + milliseconds(1000);
    SHOAL_ASSIGN(UniqueFd socket, dial_tcp(address, deadline));
    if (!state.adopt(socket.get())) return fail(ErrorCode::kCancelled, "this node is stopping");
    LinkPreamble preamble;
    preamble.instance = ticket.id;
    preamble.from_rank = 1;
    SHOAL_TRY(send_all(socket.get(), encode(preamble), deadline));
    SHOAL_ASSIGN(auto link, make_tcp_link(std::move(socket), ticket.mode, true, ticket.key, address,
                                          Clock::now() + kOneWait));
    return work(*link);
  };
  const std::weak_ptr weak(state_);
  // The loop outlives the thread, because the destructor joins it.
  const bool started = state_->run([attempt, weak, done, state = state_.get()] {
    auto result = attempt(*state);
    state->let_go();
    boost::asio::post(state->loop, [weak, done, result = std::move(result)] {
      const auto self = weak.lock();
      if (!self) return;
      self->running = false;
      done(result);
    });
  });
  if (!started) done(fail(ErrorCode::kBusy, "cannot start a thread to measure the link"));
}

void LinkProber::measure(std::string address, ProbeTicket ticket,
                         std::function<void(Result<LinkMeasure>)> done) {
  start<LinkMeasure>(std::move(address), std::move(ticket), measure_link, std::move(done));
}

void LinkProber::time(std::string address, ProbeTicket ticket, std::vector<uint64_t> sizes,
                      double seconds, std::function<void(Result<LinkTimes>)> done) {
  const TimingPatience patience{.seconds = seconds, .one_frame = kOneTimedFrame};
  start<LinkTimes>(
      std::move(address), std::move(ticket),
      [sizes = std::move(sizes), patience](Link& link) { return time_link(link, sizes, patience); },
      std::move(done));
}

Status LinkProber::expect(ProbeTicket ticket) {
  if (is_busy()) return fail(ErrorCode::kBusy, "another link is being measured; try again later");
  state_->awaited = std::move(ticket);
  state_->awaited_until = Clock::now() + kTicketTime;
  return {};
}

bool LinkProber::offer(const LinkPreamble& preamble, UniqueFd& socket) {
  const bool meant = state_->awaited && Clock::now() < state_->awaited_until && !state_->running &&
                     equal_in_constant_time(state_->awaited->id, preamble.instance);
  if (!meant) return false;
  const ProbeTicket ticket = *std::exchange(state_->awaited, std::nullopt);
  const auto shared = std::make_shared<UniqueFd>(std::move(socket));
  const std::weak_ptr weak(state_);
  state_->run([ticket, shared, weak, state = state_.get()] {
    if (state->adopt(shared->get())) {
      auto link = make_tcp_link(std::move(*shared), ticket.mode, false, ticket.key,
                                "a measuring peer", Clock::now() + kOneWait);
      if (link && ticket.timing) follow_timing(**link, kMostTimedBytes, Clock::now() + kTimingTime);
      if (link && !ticket.timing) answer_measurement(**link);
    }
    state->let_go();
    boost::asio::post(state->loop, [weak] {
      if (const auto self = weak.lock()) self->running = false;
    });
  });
  return true;
}

}  // namespace shoal::cluster
