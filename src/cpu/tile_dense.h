// Products of bf16 weights on AMX tiles (tile_strips.h says what `Tiles` and `Decode` do).
//
// Work    32 features times 48 (or 32) tokens in six (or four) tiles of sums, over all of k. Tiles
// of
//         weights are loaded straight from the matrix: nothing is copied but what hangs over its
//         edges.
// Memory  32 rows of weights stay in L2 beside the groups of tokens that pass by, and the next 32
// are
//         fetched meanwhile, in the order in which they lie but for spread_line
// Cost    six products, 96 cycles, for five tiles from L2 and two from L1
#pragma once

#include <cstdint>

#include "cpu/matmul_kernels.h"
#include "cpu/tile_strips.h"

namespace moxie::cpu {

// Weights times groups of tokens that are x_stride apart: sums[g * sums_stride + f * kGroup]. While
// that is done, `lines_per_step` lines at `ahead` and behind it are fetched with each block of k,
// up to ahead_end. `unused` takes a tile.
struct DenseTask {
  PanelSource weights;  // kStrips * 16 features; a single strip may have fewer
  const uint32_t* x;
  int64_t x_stride;
  float* sums;
  int64_t sums_stride;
  const char* ahead;
  const char* ahead_end;
  int64_t lines_per_step;
  float* unused;
};

template <class Tiles, class Decode, int kStrips, int kGroups>
void multiply_dense_task(Tiles& tiles, const DenseTask& task) {
  const int64_t k = task.weights.k, stride = task.weights.stride;
  const auto* weights = static_cast<const uint16_t*>(task.weights.weights);
  const uint32_t* x = task.x;
  const char* ahead = task.ahead;
  unroll<kStrips * kGroups>([&](auto c) { tiles.template zero<c.value>(); });

  // One block of k, whose weights are tiles at `first` and `second`.
  const auto multiply_block = [&](const uint16_t* first, const uint16_t* second,
                                  int64_t row_bytes) __attribute__((always_inline)) {
    multiply_tiles<kStrips, kGroups>(tiles, first, second, row_bytes, x, task.x_stride,
                                     [](auto) {});
    if (ahead < task.ahead_end)
      for (int64_t line = 0; line < task.lines_per_step; ++line)
        Decode::prefetch(spread_line(ahead + line * 64));
    ahead += task.lines_per_step * 64;
    x += 16 * kGroup;
  };
  int64_t begin = 0;
  if (task.weights.features == kStrips * kStripFeatures)
    for (; begin + 32 <= k; begin += 32) {
      multiply_block(weights + begin, weights + kStripFeatures * stride + begin, stride * 2);
      if (begin % 256 == 0) tiles.template store<6>(task.unused, 64);
    }
  for (; begin < k; begin += 32) {  // over the edge: zeros there
    alignas(64) uint16_t copies[kStrips][kTileElements];
    for (int64_t f = 0; f < kStrips * kStripFeatures; ++f)
      Decode::dense(f < task.weights.features ? weights + f * stride + begin : weights,
                    Decode::mask(f < task.weights.features ? k - begin : 0),
                    copies[f / kStripFeatures] + f % kStripFeatures * 32);
    multiply_block(copies[0], copies[kStrips - 1], 64);
  }

  unroll<kStrips * kGroups>([&](auto c) {
    constexpr int kStrip = c.value / kGroups, kInStrip = c.value % kGroups;
    tiles.template store<c.value>(
        task.sums + kInStrip * task.sums_stride + kStrip * kStripFeatures * kGroup, 64);
  });
}

template <class Tiles, class Decode>
void multiply_dense(const PanelSource& weights, const uint32_t* x, int64_t x_stride, int64_t groups,
                    float* sums) {
  const auto* matrix = static_cast<const uint16_t*>(weights.weights);
  const auto* bytes = static_cast<const char*>(weights.weights);
  const int64_t sums_stride = (weights.features + 15) / 16 * 16 * kGroup;
  const int64_t row_bytes = weights.stride * 2;
  // Rows that many pages apart have their lines in the same few places of L1, where none waits for
  // the second time it is wanted: then two groups at a time, which load every tile once.
  const bool is_narrow = row_bytes % 4096 == 0;
  const int64_t blocks = (weights.k + 31) / 32;
  const int64_t passes = is_narrow ? (groups + 1) / 2 : (groups + 2) / 3;
  const char* const end = bytes + (weights.features + weights.following) * row_bytes + kSpreadBytes;
  if (weights.is_first)
    for (const char* line = bytes; line < bytes + kPairFeatures * row_bytes + kSpreadBytes;
         line += 64)
      Decode::prefetch(spread_line(line));
  alignas(64) float unused[kStripFeatures * kGroup];
  Tiles tiles;
  tiles.configure();
  for (int64_t f = 0; f < weights.features;) {
    const int64_t left = weights.features - f;
    DenseTask task;
    task.weights = weights;
    task.weights.weights = matrix + f * weights.stride;
    task.weights.features = left >= kPairFeatures    ? kPairFeatures
                            : left >= kStripFeatures ? kStripFeatures
                                                     : left;
    const bool two_strips = task.weights.features == kPairFeatures;
    task.x_stride = x_stride;
    task.sums_stride = sums_stride;
    // 32 rows are `stride` lines.
    task.lines_per_step = (weights.stride + passes * blocks - 1) / (passes * blocks);
    task.ahead = bytes + (f + kPairFeatures) * row_bytes + kSpreadBytes;
    task.ahead_end = end;
    task.unused = unused;
    for (int64_t g = 0; g < groups;) {
      task.x = x + g * x_stride;
      task.sums = sums + g * sums_stride + f * kGroup;
      const int64_t count = two_strips && !is_narrow ? groups_of_pass(groups - g)
                            : groups - g < 2         ? 1
                                                     : 2;
      if (two_strips) {
        if (count == 3)
          multiply_dense_task<Tiles, Decode, 2, 3>(tiles, task);
        else if (count == 2)
          multiply_dense_task<Tiles, Decode, 2, 2>(tiles, task);
        else
          multiply_dense_task<Tiles, Decode, 2, 1>(tiles, task);
      } else {
        if (count == 2)
          multiply_dense_task<Tiles, Decode, 1, 2>(tiles, task);
        else
          multiply_dense_task<Tiles, Decode, 1, 1>(tiles, task);
      }
      g += count;
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
