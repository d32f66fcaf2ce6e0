#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace moxie {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int tasks : {0, 1, 2, 3, 100, 1000}) {
      std::vector<std::atomic<int>> count(tasks);
      pool.parallel_for(tasks, [&](int task, int worker) {
        ASSERT_LT(worker, threads);
        count[task].fetch_add(1);
      });
      for (const auto& c : count) EXPECT_EQ(c.load(), 1);
    }
  }
}

TEST(ThreadPool, LoopsFollowEachOtherWithoutLosingWrites) {
  ThreadPool pool(3);
  std::vector<int> values(64, 0);
  for (int round = 0; round < 20000; ++round) {
    pool.parallel_for(64, [&](int task, int) { values[task] += 1; });
  }
  for (const int value : values) EXPECT_EQ(value, 20000);
}

TEST(ThreadPool, WakesUpAfterSleeping) {
  ThreadPool pool(2);
  std::atomic<int> sum{0};
  pool.parallel_for(8, [&](int, int) { sum.fetch_add(1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  pool.parallel_for(8, [&](int, int) { sum.fetch_add(1); });
  EXPECT_EQ(sum.load(), 16);
}

TEST(ThreadPool, RethrowsWhatATaskThrewAndGoesOn) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.parallel_for(10,
                                 [](int task, int) {
                                   if (task == 3) throw std::runtime_error("three");
                                 }),
               std::runtime_error);
  std::atomic<int> sum{0};
  pool.parallel_for(10, [&](int, int) { sum.fetch_add(1); });
  EXPECT_EQ(sum.load(), 10);
}

// Threads that have to share a CPU: each loop costs some context switches and no time slices.
TEST(ThreadPool, MoreThreadsThanCpus) {
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  {
    ThreadPool pool(4);
    std::vector<int> values(16, 0);
    for (int round = 0; round < 2000; ++round)
      pool.parallel_for(16, [&](int task, int) { values[static_cast<size_t>(task)] += 1; });
    for (const int value : values) EXPECT_EQ(value, 2000);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

TEST(ThreadPool, FailuresOfManyLoops) {
  ThreadPool pool(3);
  for (int round = 0; round < 2000; ++round) {
    std::atomic<int> ran{0};
    EXPECT_THROW(pool.parallel_for(20,
                                   [&](int task, int) {
                                     ran.fetch_add(1);
                                     if (task % 5 == 1) throw std::runtime_error("one of them");
                                   }),
                 std::runtime_error);
    EXPECT_LE(ran.load(), 20);
    ran = 0;
    pool.parallel_for(20, [&](int, int) { ran.fetch_add(1); });
    EXPECT_EQ(ran.load(), 20);
  }
}

TEST(ThreadPool, SeesAtLeastOneCpu) { EXPECT_GE(available_cpus(), 1); }

}  // namespace
}  // namespace moxie
