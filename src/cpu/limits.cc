#include "cpu/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/memory.h"
#include "cpu/limits_kernel.h"

namespace moxie::cpu {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

constexpr int64_t kReadBytes = int64_t{5} << 28;  // 1.25 GiB
constexpr int64_t kTaskBytes = int64_t{1} << 22;
constexpr int kReadTasks = static_cast<int>(kReadBytes / kTaskBytes);

struct ReadWay {
  int streams;
  int64_t prefetch_bytes;
};
constexpr ReadWay kReadWays[] = {{1, 0}, {4, 0}, {1, 1024}, {4, 1024}};

}  // namespace

double measure_read_bandwidth(ThreadPool& pool) {
  const PageBuffer memory(static_cast<size_t>(kReadBytes + 4096));  // prefetches run past the end
  // Written, so that every page is a page of its own and not the zero page.
  pool.parallel_for(kReadTasks, [&](int task, int) {
    std::memset(memory.data() + task * kTaskBytes, task & 255, static_cast<size_t>(kTaskBytes));
  });
  const LimitKernels kernels = limit_kernels(best_isa());
  std::atomic<uint64_t> sum = 0;
  double best = 0;
  for (int repeat = 0; repeat < 2; ++repeat) {
    for (const ReadWay way : kReadWays) {
      const double begin = seconds();
      pool.parallel_for(kReadTasks, [&](int task, int) {
        sum += kernels.read(memory.data() + task * kTaskBytes, kTaskBytes, way.streams,
                            way.prefetch_bytes);
      });
      best = std::max(best, static_cast<double>(kReadBytes) / (seconds() - begin));
    }
  }
  return best;
}

double measure_peak_flops(ThreadPool& pool, Isa isa) {
  const LimitKernels kernels = limit_kernels(isa);
  std::atomic<float> sum = 0;
  // Tasks of about half a millisecond: long against the handing out of tasks.
  int64_t steps = 64;
  for (;; steps *= 2) {
    const double begin = seconds();
    sum = sum + kernels.multiply(steps);
    if (seconds() - begin > 5e-4) break;
  }
  // A neighbour on the same machine slows single threads for a while, so each thread's best task
  // counts. Tasks at both ends of a loop do not: there other threads may be idle, and leave their
  // share of a core or of the power to this one.
  const int threads = pool.num_threads();
  const int num_tasks = 24 * threads;
  std::vector<double> best(static_cast<size_t>(threads));
  const double start = seconds();
  do {
    pool.parallel_for(num_tasks, [&](int task, int worker) {
      const double begin = seconds();
      sum = sum + kernels.multiply(steps);
      const double rate = static_cast<double>(steps * kernels.flops_per_step) / (seconds() - begin);
      if (task < 2 * threads || task >= num_tasks - 2 * threads) return;
      double& mine = best[static_cast<size_t>(worker)];
      mine = std::max(mine, rate);
    });
  } while (seconds() - start < 0.4);
  return std::accumulate(best.begin(), best.end(), 0.0);
}

}  // namespace moxie::cpu
