// What linear and moe share in prefill: per-thread memory and the loop over the reduction.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/matmul_kernels.h"
#include "cpu/scratch.h"

namespace moxie::cpu {

inline constexpr int64_t kRangesPerTask = 45;  // see MatmulKernels::multiply_weights

// Panels hold a multiple of this many features, the last ones zero.
int64_t feature_padding(const MatmulKernels& kernels);

// Groups of tokens per task: fewer than `most` where threads would otherwise be left without work.
// Sums do not depend on it.
int64_t groups_per_task(int64_t most, int64_t groups, int64_t feature_chunks, int num_threads);

// Features of a task, a multiple of features_per_task, where each is multiplied with `blocks`
// blocks of groups.
int64_t task_features(const MatmulKernels& kernels, int64_t n, int64_t blocks, int num_threads);

// Each thread's panel of weights, sums, and rows to transpose into. With multiply_rows only its
// memory, and sums.
class PanelScratch {
 public:
  PanelScratch(Scratch& scratch, const MatmulKernels& kernels, int num_threads);

  void* panel(int worker) const { return panels_ + worker * panel_bytes_; }
  float* sums(int worker) const { return sums_ + worker * sums_count_; }
  float* rows(int worker) const { return rows_ + worker * rows_count_; }

 private:
  int64_t panel_bytes_, sums_count_, rows_count_;
  uint8_t* panels_;
  float* sums_;
  float* rows_;
};

// Bytes of one packed group of tokens with k elements each, as 32-bit pairs.
inline int64_t group_pairs(int64_t k) { return round_up(k, kDepth) / 2 * kGroup; }

// Zeros the panel's features [from, to), before it is filled.
inline void clear_features(void* panel, const MatmulKernels& kernels, int64_t from, int64_t to) {
  const int64_t bytes = kernels.k_chunk * kernels.panel_element_bytes;
  if (from == to) return;
  std::memset(static_cast<char*>(panel) + from * bytes, 0,
              static_cast<size_t>((to - from) * bytes));
}

// sums[g][f][token] over the whole reduction; weights.features <= features_per_task, padded to
// feature_padding() in sums.
inline void multiply_range(const MatmulKernels& kernels, const PanelSource& weights,
                           const uint32_t* groups, int64_t num_groups, void* panel, float* sums) {
  const int64_t stride = group_pairs(weights.k);
  if (kernels.multiply_weights)
    return kernels.multiply_weights(weights, groups, stride, num_groups, sums);
  const int64_t features = weights.features, panel_stride = kernels.k_chunk;
  const int64_t padded = round_up(features, feature_padding(kernels));
  clear_features(panel, kernels, features, padded);
  for (int64_t begin = 0; begin == 0 || begin < weights.k; begin += kernels.k_chunk) {
    const int64_t count = std::min(kernels.k_chunk, weights.k - begin);
    if (weights.scales)
      kernels.panel_mxfp4(static_cast<const uint8_t*>(weights.weights) + begin / 2,
                          weights.scales + begin / 32, weights.stride, features, count, panel,
                          panel_stride);
    else
      kernels.panel_dense(static_cast<const uint16_t*>(weights.weights) + begin, weights.stride,
                          features, count, panel, panel_stride);
    kernels.multiply(panel, panel_stride, padded, groups + begin / 2 * kGroup, stride, num_groups,
                     round_up(count, kDepth), sums, begin == 0);
  }
}

}  // namespace moxie::cpu
