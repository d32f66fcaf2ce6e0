// Products of bf16 weights on AMX tiles (tile_strips.h says what `Tiles` and `Decode` do).
//
// Work    32 features times 32 tokens in four tiles of sums, over all of k. Tiles of weights are
//         loaded straight from the matrix: nothing is copied but what hangs over its edges.
// Memory  32 rows of weights stay in L2 while all groups of tokens pass by, and the next 32 are
//         fetched meanwhile, in the order in which they lie
// Cost    four products, 64 cycles, for four tiles from L2
#pragma once

#include <cstdint>

#include "cpu/matmul_kernels.h"
#include "cpu/tile_strips.h"

namespace moxie::cpu {

// Weights times groups of tokens that are x_stride apart: sums[g * sums_stride + f * kGroup]. While
// that is done, `lines_per_step` lines at `ahead` and behind it are fetched with each block of k.
struct DenseTask {
  PanelSource weights;  // kStrips * 16 features; a single strip may have fewer
  const uint32_t* x;
  int64_t x_stride;
  float* sums;
  int64_t sums_stride;
  const char* ahead;
  int64_t lines_per_step;
};

template <class Tiles, class Decode, int kStrips, int kGroups>
void multiply_dense_task(Tiles& tiles, const DenseTask& task) {
  static_assert(kStrips <= 2 && kGroups <= 2);
  const int64_t k = task.weights.k, stride = task.weights.stride;
  const auto* weights = static_cast<const uint16_t*>(task.weights.weights);
  const uint32_t* x = task.x;
  const char* ahead = task.ahead;
  tiles.template zero<0>();
  if constexpr (kGroups == 2) tiles.template zero<1>();
  if constexpr (kStrips == 2) tiles.template zero<2>();
  if constexpr (kStrips == 2 && kGroups == 2) tiles.template zero<3>();

  // One block of k, whose weights are tiles at `first` and `second`.
  const auto multiply_block = [&](const uint16_t* first, const uint16_t* second, int64_t row_bytes)
                                  __attribute__((always_inline)) {
                                    tiles.template load<4>(first, row_bytes);
                                    tiles.template load_passing<6>(x, 64);
                                    tiles.template dot<0, 4, 6>();
                                    if constexpr (kGroups == 2) {
                                      tiles.template load_passing<7>(x + task.x_stride, 64);
                                      tiles.template dot<1, 4, 7>();
                                    }
                                    if constexpr (kStrips == 2) {
                                      tiles.template load<5>(second, row_bytes);
                                      tiles.template dot<2, 5, 6>();
                                      if constexpr (kGroups == 2) tiles.template dot<3, 5, 7>();
                                    }
                                    for (int64_t line = 0; line < task.lines_per_step; ++line)
                                      Decode::prefetch(ahead + line * 64);
                                    ahead += task.lines_per_step * 64;
                                    x += 16 * kGroup;
                                  };
  int64_t begin = 0;
  if (task.weights.features == kStrips * kStripFeatures)
    for (; begin + 32 <= k; begin += 32)
      multiply_block(weights + begin, weights + kStripFeatures * stride + begin, stride * 2);
  for (; begin < k; begin += 32) {  // over the edge: zeros there
    alignas(64) uint16_t copies[kStrips][kTileElements];
    for (int64_t f = 0; f < kStrips * kStripFeatures; ++f)
      Decode::dense(f < task.weights.features ? weights + f * stride + begin : weights,
                    Decode::mask(f < task.weights.features ? k - begin : 0),
                    copies[f / kStripFeatures] + f % kStripFeatures * 32);
    multiply_block(copies[0], copies[kStrips - 1], 64);
  }

  float* sums = task.sums;
  tiles.template store<0>(sums, 64);
  if constexpr (kGroups == 2) tiles.template store<1>(sums + task.sums_stride, 64);
  if constexpr (kStrips == 2) {
    sums += kStripFeatures * kGroup;
    tiles.template store<2>(sums, 64);
    if constexpr (kGroups == 2) tiles.template store<3>(sums + task.sums_stride, 64);
  }
}

template <class Tiles, class Decode>
void multiply_dense(const PanelSource& weights, const uint32_t* x, int64_t x_stride, int64_t groups,
                    float* sums) {
  const auto* matrix = static_cast<const uint16_t*>(weights.weights);
  const int64_t blocks = (weights.k + 31) / 32, passes = (groups + 1) / 2;
  const int64_t sums_stride = (weights.features + 15) / 16 * 16 * kGroup;
  Tiles tiles;
  tiles.configure();
  for (int64_t f = 0; f < weights.features;) {
    const int64_t left = weights.features - f;
    DenseTask task;
    task.weights = weights;
    task.weights.weights = matrix + f * weights.stride;
    task.weights.features = left >= 2 * kStripFeatures ? 2 * kStripFeatures
                            : left >= kStripFeatures   ? kStripFeatures
                                                       : left;
    const bool two_strips = task.weights.features == 2 * kStripFeatures;
    task.x_stride = x_stride;
    task.sums_stride = sums_stride;
    // 32 rows are `stride` lines.
    task.lines_per_step = (weights.stride + passes * blocks - 1) / (passes * blocks);
    task.ahead = reinterpret_cast<const char*>(matrix + (f + 2 * kStripFeatures) * weights.stride);
    for (int64_t g = 0; g < groups; g += 2) {
      task.x = x + g * x_stride;
      task.sums = sums + g * sums_stride + f * kGroup;
      if (g + 1 < groups) {
        if (two_strips)
          multiply_dense_task<Tiles, Decode, 2, 2>(tiles, task);
        else
          multiply_dense_task<Tiles, Decode, 1, 2>(tiles, task);
      } else {
        if (two_strips)
          multiply_dense_task<Tiles, Decode, 2, 1>(tiles, task);
        else
          multiply_dense_task<Tiles, Decode, 1, 1>(tiles, task);
      }
      task.ahead += blocks * task.lines_per_step * 64;
    }
    f += task.weights.features;
  }
  tiles.release();
}

// MatmulKernels::multiply_weights.
template <class Tiles, class Decode>
void multiply_weights_with_tiles(const PanelSource& weights, const uint32_t* x, int64_t x_stride,
                                 int64_t groups, float* sums) {
  if (weights.k == 0)
    for (int64_t i = 0; i < groups * ((weights.features + 15) / 16 * 16) * kGroup; ++i) sums[i] = 0;
  if (weights.k == 0 || groups == 0 || weights.features == 0) return;
  if (weights.scales)
    multiply_strips<Tiles, Decode>(weights, x, x_stride, groups, sums);
  else
    multiply_dense<Tiles, Decode>(weights, x, x_stride, groups, sums);
}

}  // namespace moxie::cpu
