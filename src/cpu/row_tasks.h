// Row by row operations over a thread pool.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/thread_pool.h"

namespace moxie::cpu {

// Calls body(row) for rows 0 .. rows - 1. A row costs about a microsecond, which is what waking the
// other threads costs: a few rows stay on the calling thread.
template <class Body>
void for_each_row(ThreadPool& pool, int64_t rows, const Body& body) {
  constexpr int64_t kRowsPerTask = 8;
  const int64_t num_tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
  pool.parallel_for(static_cast<int>(num_tasks), [&](int task, int) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) body(row);
  });
}

}  // namespace moxie::cpu
