#include "base/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/result.h"

namespace shoal {
namespace {

// Longer than the gaps between the operations of a step, shorter than anyone would notice.
constexpr auto kSpin = std::chrono::microseconds(50);

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` is no longer `seen`: spins for `spin`, then sleeps.
void wait_while(const std::atomic<uint32_t>& value, uint32_t seen, std::chrono::nanoseconds spin) {
  if (spin.count() > 0) {
    const auto start = Clock::now();
    do {
      // The clock costs about 25 ns, a pause 10 to 40.
      for (int i = 0; i < 16; ++i) {
        if (value.load(std::memory_order_acquire) != seen) return;
        pause_briefly();
      }
    } while (Clock::now() - start < spin);
  }
  value.wait(seen, std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::State {
  int count = 1;
  std::chrono::nanoseconds spin{0};
  const std::function<void(int)>* job = nullptr;  // null asks the threads to end
  alignas(64) std::atomic<uint32_t> round = 0;
  alignas(64) std::atomic<uint32_t> running = 0;
  std::vector<std::thread> threads;
  bool caller_pinned = false;
  cpu_set_t caller_mask;

  void serve(int index, bool pin) {
    if (pin) (void)pin_this_thread(usable_cores()[static_cast<size_t>(index)]);
    uint32_t seen = 0;
    while (true) {
      wait_while(round, seen, spin);
      ++seen;  // the caller starts no other round before this one has ended
      if (job == nullptr) return;
      (*job)(index);
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }

  void start_round(const std::function<void(int)>* next) {
    job = next;
    running.store(static_cast<uint32_t>(count - 1), std::memory_order_relaxed);
    round.fetch_add(1, std::memory_order_release);
    round.notify_all();
  }
};

ThreadPool::ThreadPool(int thread_count, bool pin) : state_(std::make_unique<State>()) {
  SHOAL_CHECK(thread_count >= 1);
  state_->count = thread_count;
  // Spinning takes the core from whoever should run when there are more threads than cores.
  if (thread_count <= usable_core_count()) state_->spin = kSpin;
  // A lone thread gains nothing from a pin, and two processes of one thread would share the core.
  pin = pin && thread_count > 1 && thread_count <= usable_core_count();
  if (pin && ::sched_getaffinity(0, sizeof state_->caller_mask, &state_->caller_mask) == 0) {
    state_->caller_pinned = pin_this_thread(usable_cores()[0]).has_value();
  }
  for (int index = 1; index < thread_count; ++index) {
    try {
      state_->threads.emplace_back(
          [state = state_.get(), index, pin] { state->serve(index, pin); });
    } catch (const std::system_error&) {  // the system gives no more: make do with those we have
      state_->count = index;
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  state_->start_round(nullptr);
  for (std::thread& thread : state_->threads) thread.join();
  if (state_->caller_pinned) {
    ::sched_setaffinity(0, sizeof state_->caller_mask, &state_->caller_mask);
  }
}

int ThreadPool::thread_count() const {
  return state_->count;
}

void ThreadPool::run(const std::function<void(int index)>& job) {
  if (state_->count == 1) return job(0);
  state_->start_round(&job);
  job(0);
  for (uint32_t left; (left = state_->running.load(std::memory_order_acquire)) != 0;) {
    wait_while(state_->running, left, state_->spin);
  }
}

}  // namespace shoal
