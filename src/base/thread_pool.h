// A pool of threads for data-parallel work inside one step. Owned by one thread, which takes part as index 0.
// Workers spin for about 50 us after a job, then sleep; a call that finds them spinning costs about 0.2 us.
#pragma once

#include <functional>
#include <memory>

namespace shoal {

class ThreadPool {
 public:
  // thread_count >= 1 counts the caller. Threads are pinned to the process's usable cores in order when `pin`.
  explicit ThreadPool(int thread_count, bool pin = true);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int thread_count() const;
  // Runs job(index) for every index in [0, thread_count) at once, and returns when all have returned. Not reentrant.
  void run(const std::function<void(int index)>& job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
