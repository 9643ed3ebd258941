// A pool of threads for data-parallel work inside one step. Owned by one thread, which takes part
// as index 0. Workers spin for about 50 us after a job, then sleep; a call that finds them spinning
// costs about 0.2 us.
#pragma once

#include <functional>
#include <memory>

namespace shoal {

class ThreadPool {
 public:
  // thread_count >= 1 counts the caller. When `pin`, threads (the caller too, until the pool ends)
  // are pinned to the process's usable cores in order, unless there is one thread only or more
  // threads than cores.
  explicit ThreadPool(int thread_count, bool pin = true);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int thread_count() const;  // fewer than asked for when the system refuses threads
  // Runs job(index) for every index in [0, thread_count) at once, and returns when all have
  // returned. Not reentrant. What the caller wrote before is seen by every index, what they wrote
  // is seen by the caller. A job given as std::ref(callable) costs no allocation.
  void run(const std::function<void(int index)>& job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal
