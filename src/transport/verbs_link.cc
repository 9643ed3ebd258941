#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <thread>

#include "transport/frame_length.h"
#include "transport/verbs_frames.h"

namespace shoal {
namespace {

// Where the library has no signals, a wait looks again after so long, of which drive() sleeps half.
constexpr auto kNap = std::chrono::microseconds(200);
// What the peer sent before it ended may still be in the card when its farewell arrives.
constexpr auto kAfterFarewell = std::chrono::milliseconds(5);
// A link that ends in order waits so long for the card to send what it has been given.
constexpr auto kLeaveWithin = std::chrono::milliseconds(500);

class VerbsLink final : public Link {
 public:
  VerbsLink(std::unique_ptr<VerbsEndpoint> endpoint, std::unique_ptr<Link> control, UniqueFd watch,
            const VerbsHello& peer)
      : endpoint_(std::move(endpoint)),
        control_(std::move(control)),
        watch_(std::move(watch)),
        peer_(control_->peer()),
        slabs_(endpoint_->slabs()),
        peer_slabs_(peer.receives),
        piece_bytes_(std::min(endpoint_->hello().slab_bytes, peer.slab_bytes) - kPieceHeaderBytes),
        free_((1u << slabs_) - 1),
        allowed_(peer_slabs_),
        posted_(slabs_),
        told_(slabs_) {}
  ~VerbsLink() override;

  // Watches the control link from now on.
  Status start() { return control_->begin_receive(control_frame_); }

  std::string peer() const override { return peer_; }

  Status begin_send(std::span<const std::byte> frame) override;
  Status begin_receive(Bytes& frame) override;
  Status begin_receive_exactly(std::span<std::byte> frame) override;
  Result<Progress> advance() override;
  bool sending() const override { return out_.active; }
  bool receiving() const override { return in_.active; }
  Interest interest() const override;
  bool before_sleep() override;
  void after_sleep() override;
  Status check_peer() override;
  std::unexpected<Error> overdue() override;
  std::unexpected<Error> reset_by_peer() override;
  void abandon(Error why) override {
    if (!error_) (void)end_with(std::move(why));
  }

 private:
  struct Outgoing {
    bool active = false;
    std::span<const std::byte> payload;
    size_t done = 0;
    bool begun = false;  // an empty frame has a piece too
  };
  struct Incoming {
    bool active = false;
    bool begun = false;
    std::span<std::byte> payload;  // what there is room for
    Bytes* growing = nullptr;      // when the length is the sender's choice
    uint64_t length = 0;           // known from the first piece
    size_t done = 0;
  };
  struct Arrived {
    uint32_t slab;
    uint32_t frame_bytes;
    std::span<const std::byte> payload;
  };

  std::unexpected<Error> by_the_card(const Error& error);
  Status check_idle(bool busy) const;
  std::unexpected<Error> end_with(Error error);
  Result<bool> move();
  Result<bool> take_completions();
  Status take_arrival(const VerbsEndpoint::Completion& completion);
  Result<bool> take_pieces();
  Status begin_frame(uint64_t length);
  Status take_piece(const Arrived& piece);
  Status give_back(uint32_t slab);
  Result<bool> send_pieces();
  Status send_piece(PieceKind kind, uint32_t frame_bytes, std::span<const std::byte> payload);
  Status grant();
  Status look_at_control();

  bool idle() const { return !out_.active && !in_.active; }
  // Numbers wrap; their differences do not.
  uint32_t credit() const { return allowed_ - sent_; }
  uint32_t owed() const { return posted_ - told_; }

  std::unique_ptr<VerbsEndpoint> endpoint_;  // empty once the link has failed, like control_
  std::unique_ptr<Link> control_;
  Bytes control_frame_;
  UniqueFd watch_;
  std::string peer_;
  std::optional<Error> error_;

  const uint32_t slabs_;
  const uint32_t peer_slabs_;
  const uint32_t piece_bytes_;
  uint32_t free_;  // send slabs that are not the card's, a bit each
  uint32_t sent_ = 0;
  uint32_t allowed_;  // receives that the peer has posted, as far as it has said
  uint32_t expected_ = 0;
  uint32_t posted_;
  uint32_t told_;  // of posted_, what the peer knows
  std::array<Arrived, VerbsOptions::kMostSlabs> arrived_{};
  size_t first_arrived_ = 0;
  size_t arrived_count_ = 0;

  Outgoing out_;
  Incoming in_;

  bool armed_ = false;             // the card will signal
  bool look_ = false;              // there was a sleep: perhaps because of the control link
  std::optional<Error> farewell_;  // what the control link ended with, and since when
  Clock::time_point farewell_at_;
};

// The control link is reset at once, so that a failure seen by one rank ends the wait of the
// others.
std::unexpected<Error> VerbsLink::end_with(Error error) {
  error_ = std::move(error);
  control_->abandon(*error_);
  control_.reset();
  endpoint_.reset();
  out_ = {};
  in_ = {};
  arrived_count_ = 0;
  return std::unexpected(*error_);
}

// A card that fails because the peer has gone: that it has gone is the better sentence.
std::unexpected<Error> VerbsLink::by_the_card(const Error& error) {
  if (const auto looked = control_->advance(); !looked) return std::unexpected(looked.error());
  return std::unexpected(error.within(fmt::format("the RDMA link to {}", peer_)));
}

VerbsLink::~VerbsLink() {
  if (error_) return;
  const auto until = Clock::now() + kLeaveWithin;
  const uint32_t all = (1u << slabs_) - 1;
  while (free_ != all && Clock::now() < until) {
    const auto done = endpoint_->poll();
    if (!done) return;
    if (done->what == VerbsEndpoint::Completion::kSent) free_ |= 1u << done->slab;
    if (done->what == VerbsEndpoint::Completion::kNone) std::this_thread::sleep_for(kNap);
  }
}

Status VerbsLink::check_idle(bool busy) const {
  if (error_) return std::unexpected(*error_);
  SHOAL_CHECK(!busy);
  return {};
}

Status VerbsLink::begin_send(std::span<const std::byte> frame) {
  SHOAL_TRY(check_idle(out_.active));
  SHOAL_TRY(check_sent_length(peer_, frame.size()));
  out_ = {true, frame, 0, false};
  return {};
}

Status VerbsLink::begin_receive(Bytes& frame) {
  SHOAL_TRY(check_idle(in_.active));
  frame.clear();
  in_ = {};
  in_.active = true;
  in_.growing = &frame;
  return {};
}

Status VerbsLink::begin_receive_exactly(std::span<std::byte> frame) {
  SHOAL_TRY(check_idle(in_.active));
  in_ = {};
  in_.active = true;
  in_.payload = frame;
  return {};
}

Result<Link::Progress> VerbsLink::advance() {
  if (error_) return std::unexpected(*error_);
  const auto moved = move();
  if (!moved) return end_with(moved.error());
  if (!*moved && !idle() && (look_ || farewell_)) {
    if (const auto looked = look_at_control(); !looked) return end_with(looked.error());
  }
  return Progress{idle(), *moved};
}

// Takes first, so that what is sent carries the newest grant.
Result<bool> VerbsLink::move() {
  SHOAL_ASSIGN(bool moved, take_completions());
  SHOAL_ASSIGN(const bool took, take_pieces());
  SHOAL_ASSIGN(const bool sent, send_pieces());
  SHOAL_TRY(grant());
  return moved || took || sent;
}

Result<bool> VerbsLink::take_completions() {
  bool moved = false;
  // At most so many requests are under way; a card that completes more is caught by its ids.
  for (uint32_t i = 0; i < 2 * slabs_; ++i) {
    const auto done = endpoint_->poll();
    if (!done) return by_the_card(done.error());
    if (done->what == VerbsEndpoint::Completion::kNone) break;
    moved = true;
    if (done->what == VerbsEndpoint::Completion::kSent) {
      free_ |= 1u << done->slab;
    } else {
      SHOAL_TRY(take_arrival(*done));
    }
  }
  return moved;
}

Status VerbsLink::take_arrival(const VerbsEndpoint::Completion& completion) {
  const auto bytes = endpoint_->receive_slab(completion.slab).first(completion.bytes);
  if (bytes.size() < kPieceHeaderBytes || bytes.size() > kPieceHeaderBytes + piece_bytes_) {
    return fail(ErrorCode::kCorrupt, "{} sent a piece of {} bytes over RDMA", peer_, bytes.size());
  }
  counters_.bytes_received += bytes.size();
  const auto decoded = decode_piece_header(bytes.first<kPieceHeaderBytes>());
  if (!decoded) return std::unexpected(decoded.error().within(peer_));
  const PieceHeader& header = *decoded;
  if (header.sequence != expected_) {
    return fail(ErrorCode::kUnreachable,
                "piece {} of {} arrived over RDMA where {} was due: one was lost on the way",
                header.sequence, peer_, expected_);
  }
  ++expected_;
  // More than forward by what we sent since, or more than it has slabs, no peer can mean.
  if (header.granted - allowed_ > peer_slabs_ || header.granted - sent_ > peer_slabs_) {
    return fail(ErrorCode::kCorrupt, "{} granted {} receives over RDMA after {}, with {} sent",
                peer_, header.granted, allowed_, sent_);
  }
  allowed_ = header.granted;
  const auto payload = bytes.subspan(kPieceHeaderBytes);
  if (header.kind == PieceKind::kGrant) {
    if (!payload.empty())
      return fail(ErrorCode::kCorrupt, "{} sent a grant of {} bytes over RDMA", peer_,
                  bytes.size());
    return give_back(completion.slab);
  }
  if (arrived_count_ == slabs_) {
    return fail(ErrorCode::kIo, "the card filled more slabs than it was given");
  }
  arrived_[(first_arrived_ + arrived_count_++) % arrived_.size()] = {completion.slab,
                                                                     header.frame_bytes, payload};
  return {};
}

Status VerbsLink::give_back(uint32_t slab) {
  if (const auto given = endpoint_->receive(slab); !given) return by_the_card(given.error());
  ++posted_;
  return {};
}

Result<bool> VerbsLink::take_pieces() {
  bool moved = false;
  while (in_.active && arrived_count_ > 0) {
    const Arrived piece = arrived_[first_arrived_];
    first_arrived_ = (first_arrived_ + 1) % arrived_.size();
    --arrived_count_;
    if (!in_.begun) SHOAL_TRY(begin_frame(piece.frame_bytes));
    SHOAL_TRY(take_piece(piece));
    SHOAL_TRY(give_back(piece.slab));
    moved = true;
  }
  return moved;
}

Status VerbsLink::begin_frame(uint64_t length) {
  in_.begun = true;
  in_.length = length;
  const auto due =
      in_.growing != nullptr ? std::nullopt : std::optional<uint64_t>(in_.payload.size());
  return check_announced_length(peer_, length, due);
}

Status VerbsLink::take_piece(const Arrived& piece) {
  const uint64_t due = std::min<uint64_t>(piece_bytes_, in_.length - in_.done);
  if (piece.frame_bytes != in_.length || piece.payload.size() != due) {
    return fail(ErrorCode::kCorrupt,
                "{} sent a piece of {} bytes of a frame of {} over RDMA where {} of {} were due",
                peer_, piece.payload.size(), piece.frame_bytes, due, in_.length);
  }
  if (in_.payload.size() < in_.done + due) {  // only a growing frame
    in_.growing->resize(next_room(in_.length, in_.payload.size(), in_.done + due));
    in_.payload = *in_.growing;
  }
  std::ranges::copy(piece.payload, in_.payload.begin() + static_cast<std::ptrdiff_t>(in_.done));
  in_.done += due;
  if (in_.done == in_.length) in_.active = false;
  return {};
}

// The last receive of the peer is left to a grant, so that two ends that both send never wait for
// each other's.
Result<bool> VerbsLink::send_pieces() {
  bool moved = false;
  while (out_.active && free_ != 0 && credit() >= 2) {
    const auto payload = out_.payload.subspan(
        out_.done, std::min<size_t>(piece_bytes_, out_.payload.size() - out_.done));
    SHOAL_TRY(send_piece(PieceKind::kFrame, static_cast<uint32_t>(out_.payload.size()), payload));
    out_.done += payload.size();
    if (out_.done == out_.payload.size()) out_.active = false;
    moved = true;
  }
  return moved;
}

Status VerbsLink::send_piece(PieceKind kind, uint32_t frame_bytes,
                             std::span<const std::byte> payload) {
  const auto index = static_cast<uint32_t>(std::countr_zero(free_));
  const auto slab = endpoint_->send_slab(index);
  encode(PieceHeader{kind, sent_, posted_, frame_bytes}, slab.first<kPieceHeaderBytes>());
  std::ranges::copy(payload, slab.begin() + kPieceHeaderBytes);
  const size_t bytes = kPieceHeaderBytes + payload.size();
  if (const auto queued = endpoint_->send(index, bytes); !queued)
    return by_the_card(queued.error());
  free_ &= ~(1u << index);
  ++sent_;
  told_ = posted_;
  counters_.bytes_sent += bytes;
  return {};
}

// Half of the slabs is often enough that the peer never stops, and so rarely that grants do not
// answer grants.
Status VerbsLink::grant() {
  if (owed() < slabs_ / 2 || free_ == 0 || credit() == 0) return {};
  return send_piece(PieceKind::kGrant, 0, {});
}

// A system call, so only after a sleep: whoever waits for a peer that has gone sleeps soon.
Status VerbsLink::look_at_control() {
  look_ = false;
  const auto now = Clock::now();
  if (farewell_) {
    if (now - farewell_at_ >= kAfterFarewell) return std::unexpected(*farewell_);
    return {};
  }
  const auto looked = control_->advance();
  if (!looked) {
    farewell_ = looked.error();
    farewell_at_ = now;
  } else if (looked->done) {
    return fail(ErrorCode::kCorrupt, "{} sent a frame beside RDMA, where none is due", peer_);
  }
  return {};
}

// With nothing under way only a reset is of interest, and that the socket itself shows best.
Link::Interest VerbsLink::interest() const {
  if (error_) return {-1, false, false};
  if (idle()) return {control_->interest().descriptor, false, false};
  Interest interest{watch_.get(), true, false};
  if (endpoint_->channel_descriptor() < 0) interest.wake_at = Clock::now() + kNap;
  if (farewell_) interest.wake_at = std::min(interest.wake_at, farewell_at_ + kAfterFarewell);
  return interest;
}

bool VerbsLink::before_sleep() {
  if (error_ || idle() || armed_ || endpoint_->channel_descriptor() < 0) return true;
  if (const auto asked = endpoint_->arm(); !asked) {
    (void)end_with(by_the_card(asked.error()).error());
    return false;
  }
  armed_ = true;
  // What was completed before the card was asked gives no signal.
  const auto progress = advance();
  return progress && !progress->moved;
}

void VerbsLink::after_sleep() {
  look_ = true;
  if (error_ || !armed_) return;
  const auto signalled = endpoint_->disarmed();
  if (!signalled) {
    (void)end_with(by_the_card(signalled.error()).error());
  } else if (*signalled) {
    armed_ = false;
  }
}

Status VerbsLink::check_peer() {
  if (error_) return std::unexpected(*error_);
  if (const auto checked = control_->check_peer(); !checked) return end_with(checked.error());
  return {};
}

std::unexpected<Error> VerbsLink::overdue() {
  if (error_) return std::unexpected(*error_);
  std::string missing;
  if (in_.active) {
    missing = in_.begun ? fmt::format("{} of {} bytes received", in_.done, in_.length)
                        : "nothing received";
  }
  if (out_.active) {
    missing += fmt::format("{}{} of {} bytes sent", missing.empty() ? "" : ", ", out_.done,
                           out_.payload.size());
  }
  return end_with({ErrorCode::kDeadline,
                   fmt::format("{} did not answer in time over RDMA ({}): it may be stopped, "
                               "overloaded or cut off",
                               peer_, missing)});
}

std::unexpected<Error> VerbsLink::reset_by_peer() {
  if (error_) return std::unexpected(*error_);
  return end_with(control_->reset_by_peer().error());
}

}  // namespace

Result<std::unique_ptr<Link>> link_over(std::unique_ptr<VerbsEndpoint> endpoint,
                                        std::unique_ptr<Link> control, UniqueFd watch,
                                        const VerbsHello& peer) {
  auto link =
      std::make_unique<VerbsLink>(std::move(endpoint), std::move(control), std::move(watch), peer);
  SHOAL_TRY(link->start());
  return link;
}

}  // namespace shoal
