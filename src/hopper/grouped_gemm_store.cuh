// From a math warp's registers to memory, for few rows: no other warp has to be waited for.
#pragma once

#include <cuda_bf16.h>

#include "hopper/device/swiglu.cuh"
#include "hopper/grouped_gemm_shared.cuh"

namespace moxie::hopper::grouped {

// Rounds and stores a strip's sums of kTiles * 8 rows: sums[4 * t + 0 .. 3] are, with lane =
// 4 * g + i, features g, g, g + 8, g + 8 of rows 8t + 2i, 8t + 2i + 1, 8t + 2i, 8t + 2i + 1; bias
// of features g and g + 8. Nothing is stored unless `exists`; all lanes take part.
template <int kTiles, class Shape>
__device__ __forceinline__ void store_strip(const GroupedGemmArgs& args,
                                            const GroupedProduct& product, const Tile<Shape>& tile,
                                            int strip, bool exists, const float (&bias)[2],
                                            int lane, const float* sums) {
  constexpr unsigned kAll = 0xffffffffu;
  const int g = lane / 4, i = lane % 4;
  const bool even = g % 2 == 0, low_half = i % 2 == 0;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = sums[4 * t + j] + bias[j / 2];
    const int row = 8 * t + g;
    const bool valid = exists && row < tile.rows;
    bf16* out = static_cast<bf16*>(product.out) + tile.out_row[row] * product.out_stride;
    if (product.swiglu) {
      // Gate and linear part are 4 lanes apart: even g takes the pair of rows below 8, odd g that
      // of rows from 8 on.
      float y[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float other = __shfl_xor_sync(kAll, even ? v[2 + j] : v[j], 4);
        y[j] = swiglu(even ? v[j] : other, even ? other : v[2 + j], args.alpha, args.limit);
      }
      // Of row g now features i and 4 + i; with the neighbour's a pair that lies together.
      const uint32_t mine = transpose(pack(y[0], y[1]));
      const uint32_t other = __shfl_xor_sync(kAll, mine, 1);
      const uint32_t both =
          low_half ? __byte_perm(mine, other, 0x5410) : __byte_perm(other, mine, 0x7632);
      const int feature = strip * (mxfp4::kStripRows / 2) + i + (low_half ? 0 : 3);
      if (valid) *reinterpret_cast<uint32_t*>(out + feature) = both;
      continue;
    }
    const float2 weight = *reinterpret_cast<const float2*>(tile.weight + 8 * t + 2 * i);
    // Of row g features 2i and 2i + 1, and those 8 on. Of the four lanes of a row each stores four
    // features: lanes exchange, so that 8 bytes go out together.
    const uint32_t low = transpose(pack(v[0] * weight.x, v[1] * weight.y)),
                   high = transpose(pack(v[2] * weight.x, v[3] * weight.y));
    const uint32_t sent = __shfl_xor_sync(kAll, low_half ? high : low, 1);
    uint2 four = low_half ? make_uint2(low, sent) : make_uint2(sent, high);
    const int feature = strip * mxfp4::kStripRows + (low_half ? 0 : 8) + i / 2 * 4;
    if (!valid) continue;
    if (product.residual != nullptr) {
      const uint2 r = *reinterpret_cast<const uint2*>(
          product.residual + tile.out_row[row] * product.residual_stride + feature);
      four = make_uint2(add_pairs(r.x, four.x), add_pairs(r.y, four.y));
    }
    *reinterpret_cast<uint2*>(out + feature) = four;
  }
}

}  // namespace moxie::hopper::grouped
