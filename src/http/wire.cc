#include "http/wire.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace shoal::http {
namespace {

constexpr size_t kPauseAboveBytes = 256 << 10;
constexpr size_t kReadBytes = 64 << 10;

asio::awaitable<void> sleep_until_cancelled(asio::steady_timer& timer) {
  SystemError ignored;
  timer.expires_at(kNoDeadline);
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace

Wire::Wire(asio::any_io_executor executor, std::unique_ptr<Stream> stream)
    : stream_(std::move(stream)),
      arrived_(executor),
      consumed_(executor),
      deadline_timer_(executor) {}

asio::awaitable<bool> Wire::handshake() {
  sending_ = true;
  SystemError error;
  co_await stream_->handshake(error);
  sending_ = false;
  if (error && !last_error_) last_error_ = error;
  co_return !error && !closed_;
}

void Wire::start_reading() {
  reading_ = true;
  asio::co_spawn(arrived_.get_executor(), read_loop(shared_from_this()), asio::detached);
}

asio::awaitable<void> Wire::read_loop(std::shared_ptr<Wire> self) {
  std::string scratch(kReadBytes, '\0');
  while (!self->closed_) {
    SystemError error;
    const size_t count = co_await self->stream_->read_some(scratch, error);
    if (error || self->closed_) {
      self->end(error);
      co_return;
    }
    if (self->discard_) continue;
    self->input_.append(scratch, 0, count);
    self->received_bytes_ += count;
    self->arrived_.cancel();
    while (self->input().size() > kPauseAboveBytes && !self->closed_ && !self->discard_) {
      co_await sleep_until_cancelled(self->consumed_);
    }
  }
}

void Wire::consume(size_t count) {
  input_begin_ += count;
  if (input_begin_ == input_.size()) {
    input_.clear();
    input_begin_ = 0;
    if (input_.capacity() > kPauseAboveBytes) input_.shrink_to_fit();
  } else if (input_begin_ > kPauseAboveBytes) {
    input_.erase(0, input_begin_);
    input_begin_ = 0;
  }
  if (input().size() <= kPauseAboveBytes) consumed_.cancel();
}

asio::awaitable<bool> Wire::wait_more() {
  const uint64_t before = received_bytes_;
  while (received_bytes_ == before && !ended_ && !timed_out_) {
    co_await sleep_until_cancelled(arrived_);
  }
  co_return received_bytes_ != before;
}

asio::awaitable<bool> Wire::write(std::string_view bytes) {
  if (closed_) co_return false;
  sending_ = true;
  SystemError error;
  co_await stream_->write(bytes, error);
  sending_ = false;
  if (!error) co_return true;
  if (!last_error_) last_error_ = error;
  co_return false;
}

void Wire::set_deadline(Deadline deadline) {
  deadline_ = deadline;
  timed_out_ = false;
  deadline_timer_.cancel();
  if (deadline == kNoDeadline) return;
  deadline_timer_.expires_at(deadline);
  deadline_timer_.async_wait([weak = weak_from_this()](const SystemError& error) {
    const auto self = weak.lock();
    if (error || !self || Clock::now() < self->deadline_) return;
    self->expire();
  });
}

void Wire::expire() {
  timed_out_ = true;
  if (sending_) {
    close();
  } else {
    arrived_.cancel();
  }
}

void Wire::on_end(std::function<void()> callback) {
  on_end_ = std::move(callback);
  if (ended_ && on_end_) std::exchange(on_end_, nullptr)();
}

void Wire::end(const SystemError& error) {
  if (ended_) return;
  ended_ = true;
  if (!last_error_) last_error_ = error;
  arrived_.cancel();
  if (on_end_) std::exchange(on_end_, nullptr)();
}

asio::awaitable<void> Wire::linger(std::chrono::milliseconds most) {
  if (closed_) co_return;
  set_deadline(Clock::now() + most);
  stream_->finish_sending();
  if (reading_) {
    discard_ = true;
    consumed_.cancel();
    while (!ended_ && !timed_out_) co_await sleep_until_cancelled(arrived_);
  } else {
    sending_ = true;  // so that the deadline closes
    co_await stream_->drain();
  }
  close();
}

void Wire::close() {
  if (closed_) return;
  const auto self = shared_from_this();  // the callback may drop the last other owner
  closed_ = true;
  deadline_timer_.cancel();
  stream_->close();
  consumed_.cancel();
  end(asio::error::operation_aborted);
}

}  // namespace shoal::http
