#include "transport/emulated.h"

#include <algorithm>

namespace shoal {
namespace {

using std::chrono::nanoseconds;

// In front of every payload: when it was sent, in nanoseconds of the machine's monotonic clock,
// little endian. Counted as the header of an ordinary link.
constexpr size_t kStampBytes = 8;

void put_stamp(std::span<std::byte> to, Clock::time_point when) {
  const auto ticks = static_cast<uint64_t>(
      std::chrono::duration_cast<nanoseconds>(when.time_since_epoch()).count());
  for (size_t i = 0; i < kStampBytes; ++i) to[i] = static_cast<std::byte>(ticks >> (8 * i));
}

// A time that is still to come is another machine's, or nonsense: taken for `now`.
Clock::time_point get_stamp(std::span<const std::byte> from, Clock::time_point now) {
  uint64_t ticks = 0;
  for (size_t i = 0; i < kStampBytes; ++i) ticks |= std::to_integer<uint64_t>(from[i]) << (8 * i);
  const auto latest = static_cast<uint64_t>(
      std::chrono::duration_cast<nanoseconds>(now.time_since_epoch()).count());
  const nanoseconds since_epoch(static_cast<int64_t>(std::min(ticks, latest)));
  return Clock::time_point(std::chrono::duration_cast<Clock::duration>(since_epoch));
}

class EmulatedLink final : public Link {
 public:
  EmulatedLink(std::unique_ptr<Link> inner, LinkModel model, uint64_t seed)
      : inner_(std::move(inner)), schedule_(std::move(model), seed) {}

  std::string peer() const override { return inner_->peer(); }

  Status begin_send(std::span<const std::byte> frame) override;
  Status begin_receive(Bytes& frame) override {
    growing_ = &frame;
    return begin_receiving();
  }
  Status begin_receive_exactly(std::span<std::byte> frame) override {
    growing_ = nullptr;
    exact_ = frame;
    return begin_receiving();
  }
  Result<Progress> advance() override;
  bool sending() const override { return inner_->sending(); }
  bool receiving() const override { return receiving_ != Receiving::kNothing; }
  Interest interest() const override;
  bool before_sleep() override { return inner_->before_sleep(); }
  void after_sleep() override { inner_->after_sleep(); }
  Status check_peer() override {
    return receiving_ == Receiving::kHeld ? Status() : inner_->check_peer();
  }
  std::unexpected<Error> overdue() override;
  std::unexpected<Error> reset_by_peer() override { return inner_->reset_by_peer(); }
  void abandon(Error why) override {
    receiving_ = Receiving::kNothing;
    inner_->abandon(std::move(why));
  }

 private:
  enum class Receiving { kNothing, kAwaited, kHeld };

  Status begin_receiving() {
    SHOAL_TRY(inner_->begin_receive(arrived_));
    receiving_ = Receiving::kAwaited;
    return {};
  }
  Status take_frame();

  std::unique_ptr<Link> inner_;
  LinkSchedule schedule_;
  Bytes leaving_;  // the stamp and the payload, as they go over the inner link
  Bytes arrived_;
  Receiving receiving_ = Receiving::kNothing;
  Bytes* growing_ = nullptr;
  std::span<std::byte> exact_;
  Clock::time_point due_{};
};

// The copy, like that of an arriving frame, hides behind the time for which the frame is held.
Status EmulatedLink::begin_send(std::span<const std::byte> frame) {
  const auto now = Clock::now();
  if (frame.size() > kLargestFrame - kStampBytes) {
    return fail(ErrorCode::kTooLarge,
                "a frame of {} bytes to {} is over the limit of {} of an emulated link",
                frame.size(), peer(), kLargestFrame - kStampBytes);
  }
  leaving_.resize(kStampBytes + frame.size());
  put_stamp(leaving_, now);
  std::ranges::copy(frame, leaving_.begin() + kStampBytes);
  SHOAL_TRY(inner_->begin_send(leaving_));
  counters_.bytes_sent += leaving_.size();
  return {};
}

Result<Link::Progress> EmulatedLink::advance() {
  Progress progress{false, false};
  if (receiving_ != Receiving::kHeld || inner_->sending()) {
    SHOAL_ASSIGN(progress, inner_->advance());
  }
  if (receiving_ == Receiving::kAwaited && !inner_->receiving()) {
    SHOAL_TRY(take_frame());
    progress.moved = true;
  }
  if (receiving_ == Receiving::kHeld && Clock::now() >= due_) {
    receiving_ = Receiving::kNothing;
    progress.moved = true;
  }
  progress.done = !sending() && !receiving();
  return progress;
}

Status EmulatedLink::take_frame() {
  const size_t size = arrived_.size();
  if (size < kStampBytes || (growing_ == nullptr && size - kStampBytes != exact_.size())) {
    const auto sentence =
        size < kStampBytes
            ? fmt::format("{} sent a frame without a time: it does not emulate a link", peer())
            : fmt::format(
                  "{} sent a frame of {} bytes where {} were due: the ranks do not run the "
                  "same plan",
                  peer(), size - kStampBytes, exact_.size());
    abandon({ErrorCode::kCorrupt, sentence});
    return std::unexpected(Error{ErrorCode::kCorrupt, sentence});
  }
  counters_.bytes_received += size;
  const auto payload = std::span<const std::byte>(arrived_).subspan(kStampBytes);
  due_ = schedule_.arrival(get_stamp(arrived_, Clock::now()), payload.size());
  if (growing_ != nullptr) {
    growing_->assign(payload.begin(), payload.end());
  } else {
    std::ranges::copy(payload, exact_.begin());
  }
  receiving_ = Receiving::kHeld;
  return {};
}

Link::Interest EmulatedLink::interest() const {
  Interest interest = inner_->interest();
  if (receiving_ == Receiving::kHeld) interest.wake_at = due_;
  return interest;
}

std::unexpected<Error> EmulatedLink::overdue() {
  if (receiving_ != Receiving::kHeld) return inner_->overdue();
  const Error late{ErrorCode::kDeadline,
                   fmt::format("the emulated link to {} is too slow for the deadline", peer())};
  abandon(late);
  return std::unexpected(late);
}

}  // namespace

std::unique_ptr<Link> make_emulated_link(std::unique_ptr<Link> inner, LinkModel model,
                                         uint64_t seed) {
  return std::make_unique<EmulatedLink>(std::move(inner), std::move(model), seed);
}

}  // namespace shoal
