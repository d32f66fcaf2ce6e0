// A fixed team of threads that run one parallel loop at a time.
//
// parallel_for() hands out task indices 0 .. num_tasks-1 to the workers and the calling thread,
// each index exactly once, in rising order of claiming, and returns when all have finished. A task
// learns which worker runs it (0 .. num_threads()-1) so that it can use that worker's scratch
// memory. Nothing is allocated per call. Workers spin for a short time between loops, then sleep; a
// loop waits for the tasks that were claimed, not for a worker that had no time to claim one.
//
// Threads: one thread at a time may call parallel_for(); tasks must not call it again.
// An exception thrown by a task is rethrown by parallel_for() after the loop has drained.
#pragma once

#include <memory>

#include "base/function_ref.h"

namespace moxie {

class ThreadPool {
 public:
  // REQUIRES: num_threads >= 1. The calling thread counts as one, so num_threads - 1 are started.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const;
  void parallel_for(int num_tasks, FunctionRef<void(int task, int worker)> body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What this process may use: the smallest of online CPUs, affinity mask and cgroup quota (v1 and
// v2), at least 1.
int available_cpus();

}  // namespace moxie
