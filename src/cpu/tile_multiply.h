// The prefill product on AMX tiles, written once for real and for emulated tiles.
//
// Work    32 features x 32 tokens in four tiles of sums; per 32 elements of the reduction two tiles
//         of weights and two of activations are loaded for four products
// Memory  a panel (tile_panel.h) and the activations of a task stay in L2; sums stay in tiles for
//         the whole depth of the panel
// Cost    4 KiB loaded for 64 cycles of multiplying
//
// `Tiles` is what AMX is, reduced to what the kernel needs. Eight tiles of 16 rows by 64 bytes:
// 0 .. 3 hold float32 sums (tile 2 * i + j), 4 + i weights, 6 + j activations.
//   configure(), release()            once around each use, on the thread that uses the tiles
//   zero<T>(), load<T>(p, stride), store<T>(p, stride)    rows `stride` bytes apart, no alignment
//   dot<S>()                          tile S += tile 4 + S / 2 times tile 6 + S % 2, as TDPBF16PS
#pragma once

#include <cstdint>

#include "cpu/matmul_kernels.h"
#include "cpu/tile_panel.h"

namespace moxie::cpu {

// Template arguments come from anonymous namespaces, so each instance belongs to its file alone.
template <class Tiles, int kTokenTiles>
void multiply_tiles(Tiles& tiles, const uint16_t* a, int64_t a_stride, const uint32_t* x,
                    int64_t x_stride, int64_t depth, float* sums, int64_t sums_stride, bool first) {
  constexpr int64_t kRowBytes = 64;
  constexpr int64_t kTileFloats = 16 * kGroup;
  if (first) {
    tiles.template zero<0>();
    tiles.template zero<2>();
    if constexpr (kTokenTiles == 2) {
      tiles.template zero<1>();
      tiles.template zero<3>();
    }
  } else {
    tiles.template load<0>(sums, kRowBytes);
    tiles.template load<2>(sums + kTileFloats, kRowBytes);
    if constexpr (kTokenTiles == 2) {
      tiles.template load<1>(sums + sums_stride, kRowBytes);
      tiles.template load<3>(sums + sums_stride + kTileFloats, kRowBytes);
    }
  }
  for (int64_t k = 0; k < depth; k += kDepth) {
    tiles.template load<6>(x + k / 2 * kGroup, kRowBytes);
    tiles.template load<4>(a + tile_panel_offset(0, k / kDepth, a_stride), kRowBytes);
    tiles.template dot<0>();
    tiles.template load<5>(a + tile_panel_offset(kTileFeatures, k / kDepth, a_stride), kRowBytes);
    tiles.template dot<2>();
    if constexpr (kTokenTiles == 2) {
      tiles.template load<7>(x + x_stride + k / 2 * kGroup, kRowBytes);
      tiles.template dot<1>();
      tiles.template dot<3>();
    }
  }
  tiles.template store<0>(sums, kRowBytes);
  tiles.template store<2>(sums + kTileFloats, kRowBytes);
  if constexpr (kTokenTiles == 2) {
    tiles.template store<1>(sums + sums_stride, kRowBytes);
    tiles.template store<3>(sums + sums_stride + kTileFloats, kRowBytes);
  }
}

// MatmulKernels::multiply.
template <class Tiles>
void multiply_with_tiles(const void* panel, int64_t panel_stride, int64_t features,
                         const uint32_t* x, int64_t x_stride, int64_t groups, int64_t depth,
                         float* sums, bool first) {
  const auto* weights = static_cast<const uint16_t*>(panel);
  const int64_t sums_stride = features * kGroup;
  Tiles tiles;
  tiles.configure();
  for (int64_t g = 0; g < groups; g += 2) {
    for (int64_t f = 0; f < features; f += 32) {
      const uint16_t* a = weights + f * panel_stride;
      float* c = sums + g * sums_stride + f * kGroup;
      const uint32_t* b = x + g * x_stride;
      if (g + 2 <= groups)
        multiply_tiles<Tiles, 2>(tiles, a, panel_stride, b, x_stride, depth, c, sums_stride, first);
      else
        multiply_tiles<Tiles, 1>(tiles, a, panel_stride, b, x_stride, depth, c, sums_stride, first);
    }
  }
  tiles.release();
}

}  // namespace moxie::cpu
