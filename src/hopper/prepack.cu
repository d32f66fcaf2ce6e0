// Prepack and unpack in place on Hopper. Implements prepack.h.
//
// Work    a cluster of 4 CTAs takes a tile of 64 rows, each CTA a strip of 16; every strip is
//         in shared memory before any is written
// Warps   alike: a warp turns 64 columns of the strip at a time, 512 bytes of codes. A lane has the
//         16 bytes of one row and block on the checkpoint's side, the 16 bytes of one lane of the
//         tensor core on the other; between them lie a transposition of the lane's bytes and one of
//         the words of four lanes
// Memory  a strip, 17 * k / 2 bytes, and its scales once more, up to k = 24 576; read by bulk
//         copies, written 16 bytes a lane
// Cost    every byte read once and written once; some 80 instructions for 512 bytes
// Needs   sm_90 (clusters, bulk copies)
#include "hopper/device/cluster.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/prepack.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

using mxfp4::kBlock;
using mxfp4::kBlockBytes;
using mxfp4::kPanelBlocks;
using mxfp4::kStripRows;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kTileStrips = mxfp4::kTileRows / kStripRows;
constexpr int kStepBlocks = mxfp4::kPairBlocks, kPanelSteps = kPanelBlocks / kStepBlocks;
constexpr int kStripBlockCodes = kStripRows * kBlockBytes;  // of a strip, one block deep
constexpr int kStepCodes = kStepBlocks * kStripBlockCodes;
constexpr int kStepScales = kStepBlocks * kStripRows;
constexpr int kMaxDepth = 24576;

// Dynamic shared memory. Rows of codes lie so that the 16 bytes that 8 lanes read together, of rows
// g, g + 8, g + 1, g + 9 and two blocks each, are in different banks.
struct Places {
  int pitch, scales, new_scales, barrier, end;
};
MOXIE_HOST_DEVICE constexpr Places places(int k) {
  Places p{};
  p.pitch = (k / 2 + 63) / 128 * 128 + 64;
  p.scales = kStripRows * p.pitch + 32;
  p.new_scales = p.scales + kStripRows * (k / kBlock);
  p.barrier = p.new_scales + kStripRows * (k / kBlock);
  p.end = p.barrier + 8;
  return p;
}
MOXIE_HOST_DEVICE constexpr int row_place(int row, int pitch) {
  return row * pitch + (row >= 8 ? 32 : 0);
}
static_assert(places(kMaxDepth).end <= 227 * 1024);

// The matrix and strip that a CTA works on. Blocks are counted in the permuted order, 16 rows each.
struct Strip {
  uint8_t *codes, *scales;  // of the matrix
  int blocks;               // of a row
  int first_row, in_tile, tile_strips;

  __device__ int block_of_panel(int panel) const {
    const int panel_blocks = min(kPanelBlocks, blocks - panel * kPanelBlocks);
    return (first_row / kStripRows - in_tile) * blocks + panel * kPanelBlocks * tile_strips +
           in_tile * panel_blocks;
  }
  __device__ int block_of_step(int step) const {
    const int panel = step / kPanelSteps;
    return block_of_panel(panel) + (step - panel * kPanelSteps) * kStepBlocks;
  }
  __device__ uint8_t* packed_codes(int block) const {
    return codes + static_cast<int64_t>(block) * kStripBlockCodes;
  }
  __device__ uint8_t* packed_scales(int block) const {
    return scales + static_cast<int64_t>(block) * kStripRows;
  }
  __device__ uint8_t* row_codes(int row) const {
    return codes + (static_cast<int64_t>(first_row) + row) * blocks * kBlockBytes;
  }
  __device__ uint8_t* row_scales() const {
    return scales + static_cast<int64_t>(first_row) * blocks;
  }
};

// A word's eight codes in the order of their elements' pairs, even ones below odd ones, to and from
// the order of mxfp4::code_bits.
__device__ __forceinline__ uint32_t to_word(uint32_t v) {
  return (v & 0x80778077u) | ((v << 6) & 0x22002200u) | ((v << 2) & 0x5c005c00u) |
         (__funnelshift_l(v, v, 8) & 0x00080008u) | ((v >> 6) & 0x01800180u);
}
__device__ __forceinline__ uint32_t from_word(uint32_t w) {
  return (w & 0x80778077u) | ((w >> 6) & 0x00880088u) | ((w >> 2) & 0x17001700u) |
         (__funnelshift_r(w, w, 8) & 0x08000800u) | ((w << 6) & 0x60006000u);
}

constexpr uint32_t kLow = 0x0f0f0f0fu, kHigh = 0xf0f0f0f0u;

// Byte t of words 0 .. 3 is word t, and back: the transposition of 4 x 4 bytes.
__device__ __forceinline__ void transpose_bytes(uint32_t (&w)[4]) {
  const uint32_t a = __byte_perm(w[0], w[1], 0x5140), b = __byte_perm(w[2], w[3], 0x5140);
  const uint32_t c = __byte_perm(w[0], w[1], 0x7362), d = __byte_perm(w[2], w[3], 0x7362);
  w[0] = __byte_perm(a, b, 0x5410), w[1] = __byte_perm(a, b, 0x7632);
  w[2] = __byte_perm(c, d, 0x5410), w[3] = __byte_perm(c, d, 0x7632);
}

// The 16 bytes of a block, a word for each 8 elements, become the words for t = 0 .. 3, and back.
__device__ __forceinline__ void block_to_words(uint32_t (&w)[4]) {
  // Codes of two pairs share a byte: even ones, odd ones.
  uint32_t v[4] = {(w[0] & kLow) | ((w[1] << 4) & kHigh), (w[2] & kLow) | ((w[3] << 4) & kHigh),
                   ((w[0] >> 4) & kLow) | (w[1] & kHigh), ((w[2] >> 4) & kLow) | (w[3] & kHigh)};
  transpose_bytes(v);
#pragma unroll
  for (int t = 0; t < 4; ++t) w[t] = to_word(v[t]);
}
__device__ __forceinline__ void words_to_block(uint32_t (&w)[4]) {
  uint32_t v[4];
#pragma unroll
  for (int t = 0; t < 4; ++t) v[t] = from_word(w[t]);
  transpose_bytes(v);
  w[0] = (v[0] & kLow) | ((v[2] << 4) & kHigh), w[1] = ((v[0] >> 4) & kLow) | (v[2] & kHigh);
  w[2] = (v[1] & kLow) | ((v[3] << 4) & kHigh), w[3] = ((v[1] >> 4) & kLow) | (v[3] & kHigh);
}

// Word j of lane i of four becomes word i of lane j. All lanes of the warp call.
__device__ __forceinline__ void transpose_lanes(uint32_t (&w)[4], int lane) {
#pragma unroll
  for (int d = 1; d < 4; d *= 2) {
    const bool upper = (lane & d) != 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t& low = w[d == 1 ? 2 * i : i];
      uint32_t& high = w[d == 1 ? 2 * i + 1 : i + 2];
      const uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? low : high, d);
      if (upper)
        low = other;
      else
        high = other;
    }
  }
}

// In shared memory: the strip's rows. Lane 4 * g + t has row g + 8 * (t % 2), block t / 2 of a
// step.
__device__ void write_prepacked(const Strip& strip, const uint8_t* shared, const Places& at,
                                int warp, int lane) {
  const int row = lane / 4 + 8 * (lane % 2), block_of_lane = lane % 4 / 2;
  const uint8_t* codes = shared + row_place(row, at.pitch);
  const int steps = strip.blocks / kStepBlocks;
  for (int step = warp; step < steps; step += kWarps) {
    const uint4 v =
        *reinterpret_cast<const uint4*>(codes + (step * kStepBlocks + block_of_lane) * kBlockBytes);
    uint32_t w[4] = {v.x, v.y, v.z, v.w};
    block_to_words(w);
    transpose_lanes(w, lane);
    __stcs(reinterpret_cast<uint4*>(strip.packed_codes(strip.block_of_step(step))) + lane,
           make_uint4(w[0], w[1], w[2], w[3]));
  }
  if (strip.blocks % kStepBlocks != 0 && warp == 0) {  // a block without partner
    const uint4 v = *reinterpret_cast<const uint4*>(codes + steps * kStepBlocks * kBlockBytes);
    uint32_t w[4] = {v.x, v.y, v.z, v.w};
    block_to_words(w);
    transpose_lanes(w, lane);
    reinterpret_cast<uint2*>(strip.packed_codes(strip.block_of_step(steps)))[lane] =
        make_uint2(w[0], w[1]);
  }
  const uint8_t* scales = shared + at.scales;
  for (int i = static_cast<int>(threadIdx.x); i < strip.blocks * 8; i += kThreads) {
    // Rows g and g + 8 of one block.
    const int g = i % 8, block = i / 8, step = block / kStepBlocks;
    const bool alone = block + 1 == strip.blocks && block % kStepBlocks == 0;
    uint8_t* to = strip.packed_scales(strip.block_of_step(step)) +
                  (alone ? 2 * g : 4 * g + 2 * (block % kStepBlocks));
    const uint32_t low = scales[g * strip.blocks + block];
    const uint32_t high = scales[(g + 8) * strip.blocks + block];
    *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(low | high << 8);
  }
}

// In shared memory: the strip's panels one after another, and room for its rows of scales.
__device__ void write_unpacked(const Strip& strip, uint8_t* shared, const Places& at, int warp,
                               int lane) {
  const int row = lane / 4 + 8 * (lane % 2), block_of_lane = lane % 4 / 2;
  uint8_t* codes = strip.row_codes(row);
  const int steps = strip.blocks / kStepBlocks;
  for (int step = warp; step < steps; step += kWarps) {
    const uint4 v = reinterpret_cast<const uint4*>(shared + step * kStepCodes)[lane];
    uint32_t w[4] = {v.x, v.y, v.z, v.w};
    transpose_lanes(w, lane);
    words_to_block(w);
    *reinterpret_cast<uint4*>(codes + (step * kStepBlocks + block_of_lane) * kBlockBytes) =
        make_uint4(w[0], w[1], w[2], w[3]);
  }
  if (strip.blocks % kStepBlocks != 0 && warp == 0) {
    const uint2 v = reinterpret_cast<const uint2*>(shared + steps * kStepCodes)[lane];
    uint32_t w[4] = {v.x, v.y, 0, 0};
    transpose_lanes(w, lane);
    words_to_block(w);
    if (block_of_lane == 0)
      *reinterpret_cast<uint4*>(codes + steps * kStepBlocks * kBlockBytes) =
          make_uint4(w[0], w[1], w[2], w[3]);
  }
  const uint8_t* scales = shared + at.scales;
  uint8_t* new_scales = shared + at.new_scales;
  for (int i = static_cast<int>(threadIdx.x); i < strip.blocks * 8; i += kThreads) {
    const int g = i % 8, block = i / 8;
    const bool alone = block + 1 == strip.blocks && block % kStepBlocks == 0;
    const uint32_t both =
        *reinterpret_cast<const uint16_t*>(scales + block / kStepBlocks * kStepScales +
                                           (alone ? 2 * g : 4 * g + 2 * (block % kStepBlocks)));
    new_scales[g * strip.blocks + block] = static_cast<uint8_t>(both);
    new_scales[(g + 8) * strip.blocks + block] = static_cast<uint8_t>(both >> 8);
  }
  __syncthreads();  // the rows of scales are written
  for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += kThreads)
    reinterpret_cast<uint4*>(strip.row_scales())[i] = reinterpret_cast<const uint4*>(new_scales)[i];
}

// One warp calls.
__device__ void request_rows(const Strip& strip, uint8_t* shared, const Places& at, int lane,
                             uint64_t* barrier) {
  const uint32_t row_bytes = static_cast<uint32_t>(strip.blocks) * kBlockBytes;
  const uint32_t scale_bytes = static_cast<uint32_t>(strip.blocks) * kStripRows;
  if (lane == 0) mbarrier_expect(barrier, kStripRows * row_bytes + scale_bytes);
  if (lane < kStripRows)
    bulk_copy(shared + row_place(lane, at.pitch), strip.row_codes(lane), row_bytes, barrier);
  if (lane == kStripRows) bulk_copy(shared + at.scales, strip.row_scales(), scale_bytes, barrier);
}
__device__ void request_panels(const Strip& strip, uint8_t* shared, const Places& at, int lane,
                               uint64_t* barrier) {
  if (lane == 0)
    mbarrier_expect(barrier, static_cast<uint32_t>(strip.blocks) * (kStripBlockCodes + kStripRows));
  for (int panel = lane; panel * kPanelBlocks < strip.blocks; panel += 32) {
    const int before = panel * kPanelBlocks, block = strip.block_of_panel(panel);
    const auto blocks = static_cast<uint32_t>(min(kPanelBlocks, strip.blocks - before));
    bulk_copy(shared + before * kStripBlockCodes, strip.packed_codes(block),
              blocks * kStripBlockCodes, barrier);
    bulk_copy(shared + at.scales + before * kStripRows, strip.packed_scales(block),
              blocks * kStripRows, barrier);
  }
}

__global__ void __cluster_dims__(kTileStrips) __launch_bounds__(kThreads, 6)
    sm90_mxfp4_prepack(const __grid_constant__ PrepackArgs args) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int k = static_cast<int>(args.k), strips = static_cast<int>(args.n) / kStripRows;
  const int strip_idx = static_cast<int>(blockIdx.x);
  const int64_t matrix = blockIdx.y;
  const Places at = places(k);
  Strip strip;
  strip.codes = args.codes + matrix * args.n * (args.k / 2);
  strip.scales = args.scales + matrix * args.n * (args.k / kBlock);
  strip.blocks = k / kBlock;
  strip.first_row = strip_idx * kStripRows;
  strip.in_tile = strip_idx % kTileStrips;
  strip.tile_strips = min(kTileStrips, strips - (strip_idx - strip.in_tile));
  const bool exists = strip_idx < strips;  // the last tile may have fewer than 4 strips
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + at.barrier);
  if (exists && warp == 0) {
    if (lane == 0) mbarrier_init(barrier, 1);
    fence_mbarrier_init();
    __syncwarp();  // the barrier is initialised for the lanes that copy
    if (args.direction == PrepackDirection::kPrepack)
      request_rows(strip, shared, at, lane, barrier);
    else
      request_panels(strip, shared, at, lane, barrier);
    mbarrier_wait(barrier, 0);
  }
  __syncwarp();
  // No CTA overwrites the tile before all four have read their strips.
  cluster_arrive();
  cluster_wait();
  if (!exists) return;
  mbarrier_wait(barrier, 0);  // so that this thread sees what the copies wrote
  if (args.direction == PrepackDirection::kPrepack)
    write_prepacked(strip, shared, at, warp, lane);
  else
    write_unpacked(strip, shared, at, warp, lane);
}

}  // namespace

bool supports_prepack(int64_t n, int64_t k) {
  // Blocks of a matrix are counted in 32 bits.
  return mxfp4::has_weight_layout(n, k) && k <= kMaxDepth &&
         n / kStripRows * (k / kBlock + 1) < (int64_t{1} << 31) && n < (int64_t{1} << 31);
}

cudaError_t launch_prepack(const PrepackArgs& args, cudaStream_t stream) {
  if (args.matrices == 0 || args.n == 0 || args.k == 0) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(
      sm90_mxfp4_prepack, cudaFuncAttributeMaxDynamicSharedMemorySize, places(kMaxDepth).end);
  if (error != cudaSuccess) return error;
  const int64_t tiles = (args.n + mxfp4::kTileRows - 1) / mxfp4::kTileRows;
  const dim3 grid(static_cast<unsigned>(tiles * kTileStrips), static_cast<unsigned>(args.matrices));
  sm90_mxfp4_prepack<<<grid, kThreads, static_cast<size_t>(places(static_cast<int>(args.k)).end),
                       stream>>>(args);
  return cudaGetLastError();
}

}  // namespace moxie::hopper
