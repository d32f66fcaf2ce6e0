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

// Long enough to bridge the serial parts of a decode step, short enough not to burn a core while a
// user types.
constexpr int kSpins = 20000;

}  // namespace

struct ThreadPool::State {
  explicit State(int count) : num_threads(count) {}

  const int num_threads;
  std::vector<std::thread> threads;

  // The loop in progress. `generation` is published last (release) and read first (acquire).
  alignas(64) std::atomic<uint64_t> generation{0};
  alignas(64) std::atomic<int> next_task{0};
  alignas(64) std::atomic<int> busy_workers{0};
  FunctionRef<void(int, int)>* body = nullptr;
  int num_tasks = 0;
  std::atomic<bool> stopping{false};

  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<int> sleepers{0};
  std::mutex failure_mutex;
  std::exception_ptr failure;

  void run_tasks(int worker) {
    for (;;) {
      const int task = next_task.fetch_add(1, std::memory_order_relaxed);
      if (task >= num_tasks) return;
      try {
        (*body)(task, worker);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        next_task.store(num_tasks, std::memory_order_relaxed);
      }
    }
  }

  void work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      uint64_t current = generation.load(std::memory_order_acquire);
      for (int spin = 0; current == seen && spin < kSpins; ++spin) {
        pause_cpu();
        current = generation.load(std::memory_order_acquire);
      }
      if (current == seen) {
        std::unique_lock lock(mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
        sleepers.fetch_sub(1);
        current = generation.load(std::memory_order_acquire);
      }
      seen = current;
      if (stopping.load(std::memory_order_relaxed)) return;
      run_tasks(worker);
      // Release: the caller sees everything the tasks wrote.
      busy_workers.fetch_sub(1, std::memory_order_release);
    }
  }

  void publish() {
    generation.fetch_add(1);  // sequentially consistent: ordered against `sleepers` below
    if (sleepers.load() > 0) {
      // Under the mutex, so that no worker is between its test and its sleep.
      {
        const std::lock_guard lock(mutex);
      }
      wake.notify_all();
    }
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
  state_->publish();
  {
    // A worker may have tested `generation` before the increment and be about to sleep.
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
  state.next_task.store(0, std::memory_order_relaxed);
  state.busy_workers.store(state.num_threads - 1, std::memory_order_relaxed);
  state.publish();
  state.run_tasks(0);
  // With more threads than CPUs the last worker may not be running at all: let it.
  for (int spin = 0; state.busy_workers.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins)
      pause_cpu();
    else
      std::this_thread::yield();
  }
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
