// Small pieces for coroutines on the daemon's one loop: waiting for a change, and sending blocking
// work elsewhere.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace shoal::serve {

namespace asio = boost::asio;
template <typename T>
using Task = asio::awaitable<T>;

// Wakes every coroutine that waits; one that comes later waits for the next notify().
class Signal {
 public:
  explicit Signal(asio::io_context& loop) : loop_(loop) {}

  void notify() {
    const auto waiting = std::exchange(waiting_, {});
    for (const auto& timer : waiting) timer->cancel();
  }

  // Returns at the next notify() or at the deadline, whichever is first.
  Task<void> wait(Deadline deadline) {
    auto timer = std::make_shared<asio::steady_timer>(loop_, deadline);
    waiting_.push_back(timer);
    boost::system::error_code ignored;
    co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    std::erase(waiting_, timer);
  }

 private:
  asio::io_context& loop_;
  std::vector<std::shared_ptr<asio::steady_timer>> waiting_;
};

inline Task<void> sleep_for(asio::io_context& loop, Clock::duration duration) {
  asio::steady_timer timer(loop, duration);
  boost::system::error_code ignored;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

// Runs blocking work on the pool; the caller goes on, on the loop, with its result.
// g++ 12 destroys a lambda twice that is written inside a co_await expression: give it a name
// first, here and in every caller.
template <typename Work>
Task<std::invoke_result_t<Work&>> offload(asio::thread_pool& pool, Work& work) {
  using R = std::invoke_result_t<Work&>;
  auto run = [&work]() -> Task<R> { co_return work(); };
  co_return co_await asio::co_spawn(pool, run, asio::use_awaitable);
}

}  // namespace shoal::serve
