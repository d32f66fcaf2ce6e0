// What linear and moe share in prefill: per-thread memory and the loop over the reduction.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/matmul_kernels.h"
#include "cpu/scratch.h"

namespace moxie::cpu {

inline constexpr int64_t kMaxTaskGroups = 16;  // groups of tokens a task multiplies with its panels

// Panels hold a multiple of this many features, the last ones zero.
int64_t feature_padding(const MatmulKernels& kernels);

// Groups of tokens per task: fewer where threads would otherwise be left without work. Sums do not
// depend on it.
int64_t groups_per_task(int64_t groups, int64_t feature_chunks, int num_threads);

// Each thread's panel of weights, sums, and rows to transpose into.
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

// sums[g][f][token] over the whole reduction. panel_of(begin, count, panel) provides the weights of
// [begin, begin + count) and returns where they are and their stride.
struct Panel {
  const void* data;
  int64_t stride;
};
template <class PanelOf>
void multiply_panels(const MatmulKernels& kernels, int64_t k, int64_t features,
                     const uint32_t* groups, int64_t num_groups, float* sums,
                     const PanelOf& panel_of) {
  const int64_t stride = group_pairs(k);
  for (int64_t begin = 0; begin == 0 || begin < k; begin += kernels.k_chunk) {
    const int64_t count = std::min(kernels.k_chunk, k - begin);
    const Panel panel = panel_of(begin, count);
    kernels.multiply(panel.data, panel.stride, features, groups + begin / 2 * kGroup, stride,
                     num_groups, round_up(count, kDepth), sums, begin == 0);
  }
}

// Zeros the panel's features [from, to), before it is filled. Whole groups of 16, because a panel
// for AMX mixes the rows of such a group.
inline void clear_features(void* panel, const MatmulKernels& kernels, int64_t from, int64_t to) {
  const int64_t bytes = kernels.k_chunk * kernels.panel_element_bytes;
  if (from == to) return;
  from = from / kGroup * kGroup;
  std::memset(static_cast<char*>(panel) + from * bytes, 0,
              static_cast<size_t>((to - from) * bytes));
}

}  // namespace moxie::cpu
