#include "cpu/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

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
  // Tasks of about 0.2 ms: long against the handing out, short enough to share evenly.
  int64_t steps = 64;
  for (;; steps *= 2) {
    const double begin = seconds();
    sum = sum + kernels.multiply(steps);
    if (seconds() - begin > 2e-4) break;
  }
  const int num_tasks = 64 * pool.num_threads();
  double best = 0;
  const double start = seconds();
  do {
    const double begin = seconds();
    pool.parallel_for(num_tasks, [&](int, int) { sum = sum + kernels.multiply(steps); });
    best = std::max(best, static_cast<double>(num_tasks * steps * kernels.flops_per_step) /
                              (seconds() - begin));
  } while (seconds() - start < 0.25);
  return best;
}

}  // namespace moxie::cpu
