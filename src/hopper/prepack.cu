// Prepack and unpack in place on Hopper. Implements prepack.h.
//
// Work    a cluster of 4 CTAs takes a tile of 64 rows, each CTA a strip of 16; every strip is
//         in shared memory before any is written
// Memory  a strip: 17 * k / 2 bytes, up to k = 24 576
// Cost    every byte read once and written once
// Needs   sm_90 (clusters)
#include <cooperative_groups.h>

#include "hopper/prepack.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

namespace cg = cooperative_groups;
using mxfp4::kBlock;
using mxfp4::kPanelBlocks;
using mxfp4::kStripRows;

constexpr int kThreads = 512, kTileStrips = mxfp4::kTileRows / kStripRows;
constexpr int kBlockWords = kStripRows * mxfp4::kBlockBytes / 4;  // of a strip, one block deep
constexpr int64_t kMaxDepth = 24576;

constexpr int shared_bytes(int64_t k) { return static_cast<int>(kStripRows * (k / 2 + k / 32)); }
static_assert(shared_bytes(kMaxDepth) <= 227 * 1024);

// One word of codes, or one scale, of a strip: which it is in the permuted order of its panel.
struct Place {
  int block, row, t;
};
// `idx` counts words (kLanes = 32) or scales (kLanes = 8) in a panel `blocks` deep.
template <int kLanes>
__device__ Place place_in_panel(int idx, int blocks) {
  const int pair_size = 4 * kLanes, first = idx / pair_size * 2, inside = idx % pair_size;
  const int row_lanes = kLanes / 8;
  if (blocks - first >= 2) {
    const int lane = inside / 4;
    return {first + inside % 4 / 2, inside % 2 * 8 + lane / row_lanes, lane % row_lanes};
  }
  const int lane = inside / 2;
  return {first, inside % 2 * 8 + lane / row_lanes, lane % row_lanes};
}

// One thread per word and per scale of the strip in the permuted order: `codes` and `scales` are
// the matrix's, old_ the strip's rows in the checkpoint's order.
__device__ void write_prepacked(const PrepackArgs& args, int64_t strip, const uint8_t* old_codes,
                                const uint8_t* old_scales, uint8_t* codes, uint8_t* scales) {
  const int blocks_of_row = static_cast<int>(args.k / kBlock);
  for (int panel = 0; panel * kPanelBlocks < blocks_of_row; ++panel) {
    const mxfp4::StripPanel part = mxfp4::strip_panel(args.n, args.k, strip, panel);
    uint32_t* words = reinterpret_cast<uint32_t*>(codes + part.begin / 2);
    for (int i = static_cast<int>(threadIdx.x); i < part.blocks * kBlockWords; i += kThreads) {
      const Place from = place_in_panel<32>(i, part.blocks);
      const uint8_t* packed =
          old_codes +
          (from.row * blocks_of_row + panel * kPanelBlocks + from.block) * mxfp4::kBlockBytes;
      uint8_t eight[8];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {  // elements 8 * pair + 2 * t and the next
        const uint8_t both = packed[4 * pair + from.t];
        eight[2 * pair] = both & 15;
        eight[2 * pair + 1] = both >> 4;
      }
      words[i] = mxfp4::join_codes(eight);
    }
    for (int i = static_cast<int>(threadIdx.x); i < part.blocks * kStripRows; i += kThreads) {
      const Place from = place_in_panel<8>(i, part.blocks);
      scales[part.begin / kBlock + i] =
          old_scales[from.row * blocks_of_row + panel * kPanelBlocks + from.block];
    }
  }
}

// One thread per pair of words and per scale of the strip's rows in the checkpoint's order: old_
// hold the strip's panels one after another.
__device__ void write_unpacked(const PrepackArgs& args, int64_t strip, const uint8_t* old_codes,
                               const uint8_t* old_scales, uint8_t* codes, uint8_t* scales) {
  const int blocks_of_row = static_cast<int>(args.k / kBlock);
  uint8_t* strip_codes = codes + strip * kStripRows * (args.k / 2);
  uint8_t* strip_scales = scales + strip * kStripRows * (args.k / kBlock);
  // As a matrix of one strip, so that its panels follow each other.
  for (int i = static_cast<int>(threadIdx.x); i < kStripRows * blocks_of_row; i += kThreads) {
    const int row = i / blocks_of_row, block = i % blocks_of_row;
    uint32_t packed[4] = {};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      uint8_t eight[8];
      mxfp4::split_codes(reinterpret_cast<const uint32_t*>(
                             old_codes)[mxfp4::code_word(kStripRows, args.k, row, block, t)],
                         eight);
#pragma unroll
      for (int pair = 0; pair < 4; ++pair)
        packed[pair] |= static_cast<uint32_t>(eight[2 * pair] | eight[2 * pair + 1] << 4) << 8 * t;
    }
    reinterpret_cast<uint4*>(strip_codes)[i] =
        make_uint4(packed[0], packed[1], packed[2], packed[3]);
    strip_scales[i] = old_scales[mxfp4::scale_byte(kStripRows, args.k, row, block)];
  }
}

// Copies in units of 16 bytes.
__device__ void copy(uint8_t* to, const uint8_t* from, int64_t bytes) {
  for (int64_t i = threadIdx.x; i < bytes / 16; i += kThreads)
    reinterpret_cast<uint4*>(to)[i] = __ldcs(reinterpret_cast<const uint4*>(from) + i);
}

__global__ void __cluster_dims__(kTileStrips) __launch_bounds__(kThreads)
    sm90_mxfp4_prepack(const __grid_constant__ PrepackArgs args) {
  extern __shared__ __align__(16) uint8_t old_codes[];
  uint8_t* old_scales = old_codes + kStripRows * (args.k / 2);
  const int64_t strip = blockIdx.x, matrix = blockIdx.y;
  uint8_t* codes = args.codes + matrix * args.n * (args.k / 2);
  uint8_t* scales = args.scales + matrix * args.n * (args.k / kBlock);
  const bool exists = strip < args.n / kStripRows;  // the last tile may have fewer than 4 strips
  if (exists && args.direction == PrepackDirection::kPrepack) {
    copy(old_codes, codes + strip * kStripRows * (args.k / 2), kStripRows * (args.k / 2));
    copy(old_scales, scales + strip * kStripRows * (args.k / kBlock),
         kStripRows * (args.k / kBlock));
  } else if (exists) {
    for (int panel = 0; panel * kPanelBlocks < args.k / kBlock; ++panel) {
      const mxfp4::StripPanel part = mxfp4::strip_panel(args.n, args.k, strip, panel);
      const int before = panel * kPanelBlocks * kStripRows;  // scales of earlier panels
      copy(old_codes + before * mxfp4::kBlockBytes, codes + part.begin / 2,
           part.blocks * kStripRows * mxfp4::kBlockBytes);
      copy(old_scales + before, scales + part.begin / kBlock, part.blocks * kStripRows);
    }
  }
  // No CTA overwrites the tile before all four have read their strips.
  cg::this_cluster().sync();
  if (!exists) return;
  if (args.direction == PrepackDirection::kPrepack)
    write_prepacked(args, strip, old_codes, old_scales, codes, scales);
  else
    write_unpacked(args, strip, old_codes, old_scales, codes, scales);
}

}  // namespace

bool supports_prepack(int64_t n, int64_t k) {
  return mxfp4::has_weight_layout(n, k) && k <= kMaxDepth && n < (int64_t{1} << 31);
}

cudaError_t launch_prepack(const PrepackArgs& args, cudaStream_t stream) {
  if (args.matrices == 0 || args.n == 0 || args.k == 0) return cudaSuccess;
  const int bytes = shared_bytes(args.k);
  const cudaError_t error = cudaFuncSetAttribute(
      sm90_mxfp4_prepack, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes(kMaxDepth));
  if (error != cudaSuccess) return error;
  const int64_t tiles = (args.n + mxfp4::kTileRows - 1) / mxfp4::kTileRows;
  const dim3 grid(static_cast<unsigned>(tiles * kTileStrips), static_cast<unsigned>(args.matrices));
  sm90_mxfp4_prepack<<<grid, kThreads, static_cast<size_t>(bytes), stream>>>(args);
  return cudaGetLastError();
}

}  // namespace moxie::hopper
