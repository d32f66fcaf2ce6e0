#include "cpu/matmul_kernels.h"

#include <algorithm>
#include <numeric>

#include "cpu/matmul_prefill.h"
#include "cpu/scratch.h"

namespace moxie::cpu {

int64_t feature_padding(const MatmulKernels& kernels) {
  return std::lcm(kernels.feature_tile, int64_t{16});
}

PanelScratch::PanelScratch(Scratch& scratch, const MatmulKernels& kernels, int num_threads)
    : panel_bytes_(kernels.multiply_rows
                       ? kernels.rows_memory_bytes
                       : kernels.features_per_task * kernels.k_chunk * kernels.panel_element_bytes),
      sums_count_(kernels.features_per_task * kMaxTaskRows),
      rows_count_(kernels.multiply_rows ? 0 : kernels.features_per_task * kGroup),
      panels_(scratch.take<uint8_t>(panel_bytes_ * num_threads)),
      sums_(scratch.take<float>(sums_count_ * num_threads)),
      rows_(scratch.take<float>(rows_count_ * num_threads)) {}

int64_t task_features(const MatmulKernels& kernels, int64_t n, int64_t blocks, int num_threads) {
  const int64_t range = kernels.features_per_task, all = ceil_div(n, range);
  int64_t ranges = kernels.multiply_weights ? std::min(all, kRangesPerTask) : 1;
  while (ranges > 1 && ceil_div(all, ranges) * blocks < 8 * num_threads) --ranges;
  return ceil_div(all, ceil_div(all, ranges)) * range;
}

int64_t groups_per_task(int64_t most, int64_t groups, int64_t feature_chunks, int num_threads) {
  int64_t per_task = most;
  while (per_task > 4 && feature_chunks * ceil_div(groups, per_task) < 4 * num_threads)
    per_task /= 2;
  return per_task;
}

}  // namespace moxie::cpu
