#include "cli/rank_control.h"

#include <unistd.h>

#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>

namespace shoal::cli {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Silence is counted in turns of a timer, not by the clock: one that was itself stopped for a while
// must not take that for the other's silence.
constexpr std::chrono::milliseconds kTick{400};
constexpr int kMostSilentTicks = 4;
static_assert(kTick * (kMostSilentTicks + 1) <= kControlTime);
constexpr size_t kMostQueuedFrames = 1024;
constexpr size_t kHeadBytes = 4;
using Head = std::array<std::byte, kHeadBytes>;

Head head_of(size_t size) {
  Head head;
  for (size_t i = 0; i < head.size(); ++i) head[i] = static_cast<std::byte>(size >> (8 * i));
  return head;
}

Result<size_t> size_in(const Head& head, const Link& link) {
  size_t size = 0;
  for (size_t i = 0; i < head.size(); ++i) size |= std::to_integer<size_t>(head[i]) << (8 * i);
  if (size > 0 && size <= kLargestControlFrame) return size;
  return fail(ErrorCode::kTooLarge, "{} announced a message of {} bytes; 1 to {} are allowed",
              link.peer(), size, kLargestControlFrame);
}

Result<Json> parse_frame(const Bytes& body, const Link& link) {
  auto json = parse_json(as_text(body));
  if (!json) return std::unexpected(json.error().within(link.peer()));
  if (!json->is_object()) {
    return fail(ErrorCode::kCorrupt, "{} sent a message that is no object", link.peer());
  }
  return json;
}

}  // namespace

// --- waiting ---

Status send_frame(Link& link, const Json& frame, Deadline deadline) {
  const std::string text = dump_json(frame);
  SHOAL_CHECK(!text.empty() && text.size() <= kLargestControlFrame);
  SHOAL_TRY(link.send(head_of(text.size()), deadline));
  return link.send(as_bytes(text), deadline);
}

Result<Json> receive_frame(Link& link, Deadline deadline) {
  Link* const one = &link;
  Head head;
  SHOAL_TRY(link.begin_receive_exactly(head));
  SHOAL_TRY(complete({&one, 1}, deadline));
  SHOAL_ASSIGN(const size_t size, size_in(head, link));
  Bytes body(size);
  SHOAL_TRY(link.begin_receive_exactly(body));
  SHOAL_TRY(complete({&one, 1}, deadline));
  return parse_frame(body, link);
}

// --- on a loop ---

struct RankControl::State : std::enable_shared_from_this<State> {
  State(asio::io_context& loop, std::unique_ptr<Link> given, Callbacks called)
      : link(std::move(given)),
        callbacks(std::move(called)),
        watched(loop, ::dup(link->interest().descriptor)),
        timer(loop) {}

  void turn();
  Result<bool> take_turn();
  Status receive_next();
  void wait();
  void tick();
  void queue(const std::string& text);
  void end(const Error& why);
  void close();

  std::unique_ptr<Link> link;
  Callbacks callbacks;
  asio::posix::stream_descriptor watched;  // the link's socket, of which the loop tells
  asio::steady_timer timer;
  Head head{};
  Bytes body;
  bool receiving_head = false;
  bool receiving_body = false;
  std::deque<Bytes> outgoing;  // heads and bodies; the first may be under way
  bool sending = false;
  bool waits_to_read = false;
  bool waits_to_write = false;
  bool ended = false;
  int silent_ticks = 0;
};

void RankControl::State::turn() {
  while (!ended) {
    const auto moved = take_turn();
    if (!moved) return end(moved.error());
    if (!*moved) break;
  }
  wait();
}

// False when there is nothing to do until the socket has or takes bytes.
Result<bool> RankControl::State::take_turn() {
  bool did = false;
  if (!link->receiving()) {
    SHOAL_TRY(receive_next());
    if (ended) return true;
    did = true;
  }
  if (sending && !link->sending()) {
    outgoing.pop_front();
    sending = false;
  }
  if (!sending && !outgoing.empty()) {
    SHOAL_TRY(link->begin_send(outgoing.front()));
    sending = true;
    did = true;
  }
  SHOAL_ASSIGN(const Link::Progress progress, link->advance());
  return did || progress.moved || (sending && !link->sending());
}

// Begins with what comes after what has come.
Status RankControl::State::receive_next() {
  if (receiving_head) {
    SHOAL_ASSIGN(const size_t size, size_in(head, *link));
    body.resize(size);
    receiving_head = false;
    receiving_body = true;
    return link->begin_receive_exactly(body);
  }
  if (receiving_body) {
    receiving_body = false;
    silent_ticks = 0;
    SHOAL_ASSIGN(const Json frame, parse_frame(body, *link));
    body = {};
    const auto tell = callbacks.on_frame;  // which may replace the callbacks, or end all this
    if (tell && frame.value("type", Json()) != "alive") tell(frame);
    if (ended) return {};
  }
  receiving_head = true;
  return link->begin_receive_exactly(head);
}

void RankControl::State::wait() {
  if (ended) return;
  const auto wait_for = [this](auto direction, bool State::* waits) {
    if (std::exchange(this->*waits, true)) return;
    watched.async_wait(direction, [self = shared_from_this(), waits](error_code error) {
      self.get()->*waits = false;
      if (!error && !self->ended) self->turn();
    });
  };
  wait_for(asio::posix::descriptor_base::wait_read, &State::waits_to_read);
  if (link->interest().to_write)
    wait_for(asio::posix::descriptor_base::wait_write, &State::waits_to_write);
}

void RankControl::State::tick() {
  timer.expires_after(kTick);
  timer.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->ended) return;
    if (++self->silent_ticks > kMostSilentTicks) {
      return self->end({ErrorCode::kUnreachable,
                        fmt::format("{} has said nothing for {} s: it is cut off, or stopped",
                                    self->link->peer(), kControlTime.count())});
    }
    self->queue(dump_json(Json{{"type", "alive"}}));
    self->turn();
    if (!self->ended) self->tick();
  });
}

void RankControl::State::queue(const std::string& text) {
  const Head size = head_of(text.size());
  const auto bytes = as_bytes(text);
  outgoing.emplace_back(size.begin(), size.end());
  outgoing.emplace_back(bytes.begin(), bytes.end());
}

void RankControl::State::end(const Error& why) {
  if (ended) return;
  const auto told = callbacks.on_end;
  close();
  if (told) told(why);
}

void RankControl::State::close() {
  ended = true;
  error_code ignored;
  timer.cancel();
  watched.close(ignored);
  link.reset();
}

RankControl::RankControl(asio::io_context& loop, std::unique_ptr<Link> link, Callbacks callbacks)
    : state_(std::make_shared<State>(loop, std::move(link), std::move(callbacks))) {
  asio::post(loop, [state = state_] {
    if (state->ended) return;
    state->tick();
    state->turn();
  });
}

RankControl::~RankControl() {
  state_->callbacks = {};
  if (!state_->ended) state_->close();
}

void RankControl::set_callbacks(Callbacks callbacks) {
  state_->callbacks = std::move(callbacks);
}

void RankControl::send(const Json& frame) {
  State& state = *state_;
  if (state.ended || state.outgoing.size() >= kMostQueuedFrames) return;
  const std::string text = dump_json(frame);
  if (text.size() > kLargestControlFrame) return;
  state.queue(text);
  asio::post(state.watched.get_executor(), [state = state_] {
    if (!state->ended) state->turn();
  });
}

std::string printable(std::string_view text, size_t longest) {
  std::string line;
  for (const char c : text.substr(0, longest)) {
    const auto code = static_cast<unsigned char>(c);
    line += code < 0x20 || code == 0x7f ? ' ' : c;
  }
  return line;
}

std::string this_machine() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "this machine";
  return name.data();
}

}  // namespace shoal::cli
