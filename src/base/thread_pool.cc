#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"

namespace moxie {
namespace {

inline void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Who waits spins, then leaves its CPU to whoever wants it between looks, then (a worker without
// work) sleeps. Spinning bridges the serial parts of a decode step; leaving lets a thread that this
// one waits for, or another program, run where there are fewer CPUs than threads; sleeping comes
// soon enough not to burn a core while a user types.
constexpr int kSpins = 1000;   // some 20 to 40 us
constexpr int kYields = 1500;  // some 400 us, if nobody else wants the CPU

inline void wait_a_little(int turn) {
  if (turn < kSpins)
    pause_cpu();
  else
    std::this_thread::yield();
}

}  // namespace

struct ThreadPool::State {
  explicit State(int count) : num_threads(count) {}

  const int num_threads;
  std::vector<std::thread> threads;

  // Tasks of the loop in progress that nobody has claimed. A claim takes the last of them, so that
  // a worker that comes too late finds 0, or a task of the next loop, which is as good to it: no
  // loop waits for a worker that has claimed nothing.
  alignas(64) std::atomic<int> unclaimed{0};
  alignas(64) std::atomic<int> unfinished{0};  // claimed or not; 0: no loop is in progress
  // Written between loops, read by who has claimed a task, for which the loop waits.
  FunctionRef<void(int, int)>* body = nullptr;
  int num_tasks = 0;
  std::atomic<bool> stopping{false};

  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<int> sleepers{0};
  std::mutex failure_mutex;
  std::exception_ptr failure;

  bool has_work() const { return unclaimed.load() > 0 || stopping.load(std::memory_order_relaxed); }

  // Takes up to `most` tasks; returns how many there were before. Acquire: what publish() wrote.
  int claim(int most) {
    int left = unclaimed.load(std::memory_order_relaxed);
    while (left > 0 &&
           !unclaimed.compare_exchange_weak(left, left - std::min(most, left),
                                            std::memory_order_acquire, std::memory_order_relaxed)) {
    }
    return left;
  }

  void run_tasks(int worker) {
    int done = 0;
    while (const int left = claim(1)) {
      try {
        (*body)(num_tasks - left, worker);
      } catch (...) {
        {
          const std::lock_guard lock(failure_mutex);
          if (!failure) failure = std::current_exception();
        }
        done += claim(num_tasks);  // of the rest nobody needs the results
      }
      ++done;
    }
    // Release: the caller sees everything the tasks wrote.
    if (done > 0) unfinished.fetch_sub(done, std::memory_order_release);
  }

  void work(int worker) {
    while (!stopping.load(std::memory_order_relaxed)) {
      for (int turn = 0; turn < kSpins + kYields && !has_work(); ++turn) wait_a_little(turn);
      if (!has_work()) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return has_work(); });
        sleepers.fetch_sub(1);
      }
      run_tasks(worker);
    }
  }

  // Wakes who sleeps. What has_work() looks at has been changed before, in the one order of
  // sequentially consistent operations that also has `sleepers`.
  void wake_sleepers() {
    if (sleepers.load() == 0) return;
    // Under the mutex, so that no worker is between its test and its sleep.
    {
      const std::lock_guard lock(mutex);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>(num_threads)) {
  MOXIE_CHECK(num_threads >= 1 && num_threads <= 4096, kInvalidArgument,
              "number of threads must be 1 to 4096, got ", num_threads);
  for (int worker = 1; worker < num_threads; ++worker) {
    state_->threads.emplace_back([state = state_.get(), worker] { state->work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true);
  {
    // A worker may have looked before and be about to sleep.
    const std::lock_guard lock(state_->mutex);
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::num_threads() const { return state_->num_threads; }

void ThreadPool::parallel_for(int num_tasks, FunctionRef<void(int, int)> body) {
  if (num_tasks <= 0) return;
  State& state = *state_;
  if (state.num_threads == 1 || num_tasks == 1) {
    for (int task = 0; task < num_tasks; ++task) body(task, 0);
    return;
  }
  state.body = &body;
  state.num_tasks = num_tasks;
  state.unfinished.store(num_tasks, std::memory_order_relaxed);
  state.unclaimed.store(num_tasks);
  state.wake_sleepers();
  state.run_tasks(0);
  for (int turn = 0; state.unfinished.load(std::memory_order_acquire) != 0; ++turn)
    wait_a_little(std::min(turn, kSpins));
  if (state.failure) {
    std::exception_ptr failure;
    std::swap(failure, state.failure);
    std::rethrow_exception(failure);
  }
}

namespace {

// CPUs granted by a cgroup: quota over period, rounded up; 0 when there is no limit.
int cgroup_cpus() {
  const auto ceil_div = [](double quota, double period) {
    return static_cast<int>((quota + period - 1) / period);
  };
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0)
    return ceil_div(std::stod(quota), period);
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
      v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double microseconds = 0;
  if (v1_quota >> microseconds && v1_period >> period && microseconds > 0 && period > 0)
    return ceil_div(microseconds, period);
  return 0;
}

}  // namespace

int available_cpus() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  const int granted = cgroup_cpus();
  if (granted > 0) count = std::min(count, granted);
  return std::max(count, 1);
}

}  // namespace moxie
