#include <algorithm>
#include <deque>
#include <optional>

#include "transport/emulated.h"

namespace shoal {
namespace {

constexpr size_t kHeaderBytes = 8;  // as a real link would count them

class Phantom final : public PhantomLink {
 public:
  Phantom(LinkModel model, std::string peer, uint64_t seed)
      : schedule_(std::move(model), seed), peer_(std::move(peer)) {}

  void feed(Bytes frame) override { fed_.push_back({Clock::now(), std::move(frame)}); }

  std::string peer() const override { return peer_; }

  Status begin_send(std::span<const std::byte> frame) override;
  Status begin_receive(Bytes& frame) override;
  Status begin_receive_exactly(std::span<std::byte> frame) override;
  Result<Progress> advance() override;
  bool sending() const override { return false; }
  bool receiving() const override { return due_ || awaited_ != nullptr; }
  Interest interest() const override { return {-1, false, false, due_.value_or(kNoDeadline)}; }
  std::unexpected<Error> overdue() override;
  std::unexpected<Error> reset_by_peer() override { return std::unexpected(*error_); }
  void abandon(Error why) override {
    if (!error_) error_ = std::move(why);
    due_.reset();
    awaited_ = nullptr;
  }

 private:
  struct Fed {
    Clock::time_point when;
    Bytes frame;
  };
  Status check_idle() const {
    if (error_) return std::unexpected(*error_);
    SHOAL_CHECK(!due_ && awaited_ == nullptr);
    return {};
  }
  void take_fed();

  LinkSchedule schedule_;
  std::string peer_;
  std::deque<Fed> fed_;
  Bytes* awaited_ = nullptr;  // nothing was fed for it yet
  Clock::time_point asked_{};
  std::optional<Clock::time_point> due_;  // of a frame that is already in place
  std::optional<Error> error_;
};

Status Phantom::begin_send(std::span<const std::byte> frame) {
  if (error_) return std::unexpected(*error_);
  if (frame.size() > kLargestFrame) {
    return fail(ErrorCode::kTooLarge, "a frame of {} bytes to {} is over the limit of {}",
                frame.size(), peer_, kLargestFrame);
  }
  counters_.bytes_sent += kHeaderBytes + frame.size();
  return {};
}

Status Phantom::begin_receive(Bytes& frame) {
  SHOAL_TRY(check_idle());
  frame.clear();
  awaited_ = &frame;
  asked_ = Clock::now();
  take_fed();
  return {};
}

Status Phantom::begin_receive_exactly(std::span<std::byte> frame) {
  SHOAL_TRY(check_idle());
  const auto now = Clock::now();
  std::ranges::fill(frame, std::byte{0});
  due_ = schedule_.arrival(now, frame.size());
  counters_.bytes_received += kHeaderBytes + frame.size();
  return {};
}

void Phantom::take_fed() {
  if (awaited_ == nullptr || fed_.empty()) return;
  *awaited_ = std::move(fed_.front().frame);
  due_ = schedule_.arrival(std::max(asked_, fed_.front().when), awaited_->size());
  counters_.bytes_received += kHeaderBytes + awaited_->size();
  awaited_ = nullptr;
  fed_.pop_front();
}

Result<Link::Progress> Phantom::advance() {
  if (error_) return std::unexpected(*error_);
  take_fed();
  if (awaited_ != nullptr) return Progress{false, false};
  if (!due_) return Progress{true, false};
  if (Clock::now() < *due_) return Progress{false, false};
  due_.reset();
  return Progress{true, true};
}

std::unexpected<Error> Phantom::overdue() {
  if (error_) return std::unexpected(*error_);
  abandon({ErrorCode::kDeadline,
           awaited_ != nullptr
               ? fmt::format("{} is imagined, and nobody said what it sends", peer_)
               : fmt::format("the emulated link to {} is too slow for the deadline", peer_)});
  return std::unexpected(*error_);
}

}  // namespace

std::unique_ptr<PhantomLink> make_phantom_link(LinkModel model, std::string peer, uint64_t seed) {
  return std::make_unique<Phantom>(std::move(model), std::move(peer), seed);
}

}  // namespace shoal
