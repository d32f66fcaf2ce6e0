// One MXFP4 linear for 1 to 16 rows on Hopper. Implements linear_stream.h.
//
// Work    k is cut in `parts` that depend on the weight's shape alone. A cluster of 1, 2 or 4 CTAs
//         owns a run of strips (16 rows of the weight); each CTA has its share of the parts, and so
//         reads its share of x only. A warp multiplies one part of one or two strips; the parts'
//         sums meet in the shared memory of one CTA and are added in the order of k
// Warps   16, alike: each keeps its own ring of slots filled by bulk copies, decodes E2M1 in
//         registers and feeds mma.sync m16n8k16 with the weight as its 16 rows
// Memory  the ring; sums; the CTA's part of x, row after row as it comes, rows 16 bytes apart
// modulo
//         128 so that ldmatrix meets no bank twice
// Cost    n * k * 17/32 bytes; 72 instructions per 544 bytes and warp (8 rows), 78 (16 rows)
// Needs   sm_90; n % 16 == 0; k % 32 == 0
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/linear_stream.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * 32;
constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: one pair of blocks
constexpr int kPanelSteps = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
constexpr int kTileStrips = mxfp4::kTileRows / mxfp4::kStripRows;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kStepCodes = 2 * kBlockCodes, kStepScales = 2 * kBlockScales;
constexpr int kStepBytes = kStepDepth * 2;  // of a row of x
constexpr int kSharedLimit = 227 * 1024;
constexpr int kMaxSlots = 16, kMaxParts = 64;
// Kernel::first_step's division: error below kMaxParts * its argument / 2^20.
static_assert(kMaxParts * kMaxParts * kMaxParts < 1 << 20);
static_assert(mxfp4::kPanelBlocks % mxfp4::kPairBlocks == 0);

MOXIE_HOST_DEVICE constexpr int steps_of(int k) { return (k + kStepDepth - 1) / kStepDepth; }

// Dynamic shared memory, in this order.
struct Places {
  int slot_bytes, sums, owned_strips, x, x_pitch, barriers, end;
};
// The most steps that a CTA of the cluster has; the most strips that it adds up in a round.
MOXIE_HOST_DEVICE constexpr Places places(const LinearStreamConfig& c, int rows, int steps) {
  Places p{};
  const int parts_of_cta = c.parts / c.cluster, cta_steps = (steps + c.cluster - 1) / c.cluster;
  p.slot_bytes = c.strips_per_warp * c.slot_steps * (kStepCodes + kStepScales);
  p.sums = kWarps * c.slots * p.slot_bytes;
  p.owned_strips = (kWarps / parts_of_cta * c.strips_per_warp + c.cluster - 1) / c.cluster;
  // Twice: the sums of a round are added up while the next one's arrive.
  p.x = p.sums + 2 * p.owned_strips * c.parts * c.row_tiles * 512;
  p.x_pitch = cta_steps * kStepBytes + 16;
  p.barriers = p.x + (rows * p.x_pitch + 15) / 16 * 16;
  p.end = p.barriers + (kWarps * c.slots + 1) * 8;
  return p;
}

// What the kernel needs to know, with the divisions done on the host: they would stand before the
// first copy.
struct Kernel {
  LinearStreamArgs args;
  Places at;
  int parts, parts_of_cta, cluster, slot_steps, slots;
  int strips, blocks;              // of the weight; of 32 in k
  int part_steps, longer_parts;    // longer_parts have one step more, evenly spread
  int groups, larger_clusters;     // the first larger_clusters have one group of strips more
  int at_once;                     // groups of a CTA in a turn
  uint32_t one_over_parts;         // times 2^20, rounded up; exact for what it multiplies
  uint32_t one_over_parts_of_cta;  // times 2^16

  // part * steps / parts, rounded down.
  __device__ int first_step(int part) const {
    const auto more = static_cast<uint32_t>(part * longer_parts) * one_over_parts >> 20;
    return part * part_steps + static_cast<int>(more);
  }
};

// What a warp multiplies: in each turn a group of one or two strips, of it one part of k.
struct Share {
  int first_group, groups;  // of the cluster
  int mine, part;           // the warp's group in a turn
  int first_step, last_step;
};

__device__ Share share_of_warp(const Kernel& kernel, int cluster, int rank, int warp) {
  Share share;
  share.first_group = cluster * kernel.groups + min(cluster, kernel.larger_clusters);
  share.groups = kernel.groups + (cluster < kernel.larger_clusters ? 1 : 0);
  share.mine = static_cast<int>(static_cast<uint32_t>(warp) * kernel.one_over_parts_of_cta >> 16);
  share.part = (rank - share.mine) * kernel.parts_of_cta + warp;
  if (share.mine >= kernel.at_once) share.mine = share.groups;  // never has a turn
  share.first_step = kernel.first_step(share.part);
  share.last_step = kernel.first_step(share.part + 1);
  return share;
}

// Requests a warp's pieces in order. A piece: the steps of one or two strips that lie together in a
// panel, at most a slot's. Lane 2 * s copies the codes of strip s, lane 2 * s + 1 its scales.
template <int kStrips>
class Requests {
 public:
  __device__ Requests(const Kernel& kernel, const Share& share, int lane)
      : kernel_(kernel), share_(share), lane_(lane), scales_(lane % 2 == 1), group_(share.mine) {
    if (left()) begin_group();
  }
  __device__ bool left() const { return group_ < share_.groups; }
  // REQUIRES left().
  __device__ void next(unsigned char* slot, uint64_t* barrier) {
    const int slot_steps = kernel_.slot_steps;
    const int steps = min(min(slot_steps, kPanelSteps - in_panel_), share_.last_step - step_);
    const int blocks = min(2 * steps, kernel_.blocks - 2 * step_);
    const int unit = scales_ ? kBlockScales : kBlockCodes;
    if (lane_ == 0)
      mbarrier_expect(barrier,
                      static_cast<uint32_t>(kStrips * blocks * (kBlockCodes + kBlockScales)));
    if (lane_ < 2 * kStrips) {
      const int strip = lane_ / 2;
      unsigned char* to = slot + slot_steps * (scales_ ? kStrips * kStepCodes + strip * kStepScales
                                                       : strip * kStepCodes);
      bulk_copy(to, from_, static_cast<uint32_t>(blocks * unit), barrier);
    }
    step_ += steps;
    in_panel_ += steps;
    from_ += blocks * unit;
    if (step_ == share_.last_step) {
      group_ += kernel_.at_once;
      if (left()) begin_group();
    } else if (in_panel_ == kPanelSteps) {
      // Over the rest of this panel's strips and those before this one in the next panel.
      const int next_blocks = min(mxfp4::kPanelBlocks, kernel_.blocks - 2 * step_);
      in_panel_ = 0;
      from_ += (mxfp4::kPanelBlocks * (tile_strips_ - 1) +
                strip_in_tile_ * (next_blocks - mxfp4::kPanelBlocks)) *
               unit;
    }
  }

 private:
  // mxfp4::strip_panel in 32 bits.
  __device__ void begin_group() {
    // A second strip that does not exist is the first one again.
    const int strip =
        min((share_.first_group + group_) * kStrips + lane_ / 2 % kStrips, kernel_.strips - 1);
    step_ = share_.first_step;
    const int panel = step_ / kPanelSteps;
    in_panel_ = step_ - panel * kPanelSteps;
    strip_in_tile_ = strip % kTileStrips;
    tile_strips_ = min(kTileStrips, kernel_.strips - (strip - strip_in_tile_));
    const int panel_blocks = min(mxfp4::kPanelBlocks, kernel_.blocks - panel * mxfp4::kPanelBlocks);
    const int block = (strip - strip_in_tile_) * kernel_.blocks +
                      panel * mxfp4::kPanelBlocks * tile_strips_ + strip_in_tile_ * panel_blocks +
                      2 * in_panel_;
    from_ = scales_ ? kernel_.args.scales + static_cast<int64_t>(block) * kBlockScales
                    : kernel_.args.codes + static_cast<int64_t>(block) * kBlockCodes;
  }

  const Kernel& kernel_;
  const Share& share_;
  int lane_;
  bool scales_;
  int group_;  // of the cluster's
  int step_ = 0, in_panel_ = 0, strip_in_tile_ = 0, tile_strips_ = 0;
  const uint8_t* from_ = nullptr;
};

// Steps that a loop has under way: two strips keep the pipes busy by themselves.
template <int kRowTiles, int kStrips>
constexpr int kUnroll = kRowTiles * kStrips == 1 ? 3
                        : kStrips == 1           ? 2
                                                 : 1;

template <int kRowTiles, int kStrips>
struct Sums {
  float of[kStrips][kRowTiles][4] = {};
};

template <int kByte, bool kAnyScale>
__device__ __forceinline__ void decode(uint32_t word, uint32_t scales, uint32_t (&pairs)[4]) {
  if constexpr (kAnyScale) {
    const uint4 v = decode_word_any_scale(word, (scales >> (8 * kByte)) & 255u);
    pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
  } else {
    decode_word(word, small_factor<kByte>(scales), pairs);
  }
}

// Block 0 or 1 of a step of one strip: rows g and g + 8, all tokens.
template <int kBlockOfPair, bool kAnyScale, int kRowTiles>
__device__ __forceinline__ void multiply_block(uint32_t low, uint32_t high, uint32_t scales,
                                               const uint32_t (&x)[kRowTiles][4],
                                               float (&sums)[kRowTiles][4]) {
  uint32_t a[4], b[4];
  decode<2 * kBlockOfPair, kAnyScale>(low, scales, a);
  decode<2 * kBlockOfPair + 1, kAnyScale>(high, scales, b);
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    mma_m16n8k16(sums[tile], a[0], b[0], a[1], b[1], x[tile][0], x[tile][1]);
    mma_m16n8k16(sums[tile], a[2], b[2], a[3], b[3], x[tile][2], x[tile][3]);
  }
}

// Where a lane's ldmatrix finds x at the first step of a piece, by tiles of 8 rows.
template <int kRowTiles>
struct XAddress {
  uint32_t of_tile[kRowTiles];
  __device__ void load(int step, int block, uint32_t (&x)[kRowTiles][4]) const {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile)
      load_matrices(x[tile], of_tile[tile] + step * kStepBytes + block * (kStepBytes / 2));
  }
};

// Adds `blocks` blocks of each strip to the sums.
template <bool kAnyScale, int kRowTiles, int kStrips>
__device__ __forceinline__ void multiply_piece(const unsigned char* slot, int slot_steps,
                                               int blocks, const XAddress<kRowTiles>& x_address,
                                               int lane, Sums<kRowTiles, kStrips>& sums) {
  const uint4* codes = reinterpret_cast<const uint4*>(slot);
  const unsigned char* scales = slot + kStrips * kStepCodes * slot_steps;
  uint32_t x[kRowTiles][4];
#pragma unroll(kAnyScale ? 1 : kUnroll<kRowTiles, kStrips>)
  for (int step = 0; step < blocks / 2; ++step) {
    uint4 words[kStrips];
    uint32_t factors[kStrips];
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
      words[s] = codes[(s * slot_steps + step) * 32 + lane];
      factors[s] =
          reinterpret_cast<const uint32_t*>(scales)[(s * slot_steps + step) * 8 + lane / 4];
    }
    x_address.load(step, 0, x);
#pragma unroll
    for (int s = 0; s < kStrips; ++s)
      multiply_block<0, kAnyScale, kRowTiles>(words[s].x, words[s].y, factors[s], x, sums.of[s]);
    x_address.load(step, 1, x);
#pragma unroll
    for (int s = 0; s < kStrips; ++s)
      multiply_block<1, kAnyScale, kRowTiles>(words[s].z, words[s].w, factors[s], x, sums.of[s]);
  }
  if constexpr (kAnyScale) {
    if (blocks % 2 == 0) return;  // else a block without partner: half the bytes
    const int step = blocks / 2;
    x_address.load(step, 0, x);
#pragma unroll
    for (int s = 0; s < kStrips; ++s) {
      const uint2 words =
          reinterpret_cast<const uint2*>(codes + (s * slot_steps + step) * 32)[lane];
      const uint32_t factors = reinterpret_cast<const uint16_t*>(
          scales + (s * slot_steps + step) * kStepScales)[lane / 4];
      multiply_block<0, true, kRowTiles>(words.x, words.y, factors, x, sums.of[s]);
    }
  }
}

// Whether decode_word() cannot take a piece; the same for all lanes.
template <int kStrips>
__device__ __forceinline__ bool needs_any_scale(const unsigned char* slot, int slot_steps,
                                                int blocks, int lane) {
  const uint32_t* scales =
      reinterpret_cast<const uint32_t*>(slot + kStrips * kStepCodes * slot_steps);
  uint32_t all = 0;
#pragma unroll
  for (int s = 0; s < kStrips; ++s)
    for (int i = lane; i < blocks * kBlockScales / 4; i += 32)
      all |= scales[s * slot_steps * 8 + i];
  return __any_sync(0xffffffffu, has_large_scale(all)) || blocks % 2 != 0;
}

__device__ __forceinline__ float bias_of(const float* bias, int row) {
  return bias == nullptr ? 0.0f : __ldg(bias + row);
}

// Stores the sums of one strip and 8 rows. A lane holds features g, g + 8 and rows 2t, 2t + 1.
__device__ void store(const LinearStreamArgs& args, int strip, int tile, int lane,
                      const float (&sums)[4]) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = tile * 8 + 2 * t + i % 2, row = strip * mxfp4::kStripRows + g + 8 * (i / 2);
    const float z = sums[i] + bias_of(args.bias, row);
    if (args.swiglu) {
      // The other of gate and linear part is 4 lanes away; all lanes take part.
      const float other = __shfl_xor_sync(0xffffffffu, z, 4);
      if (token < args.rows && g % 2 == 0)
        reinterpret_cast<__nv_bfloat16*>(args.out)[token * args.out_stride + row / 2] =
            __float2bfloat16(swiglu(z, other, args.alpha, args.limit));
    } else if (token < args.rows) {
      __nv_bfloat16 y = __float2bfloat16(z);
      if (args.residual != nullptr)
        y = __float2bfloat16(__bfloat162float(y) +
                             __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(
                                 args.residual)[token * args.residual_stride + row]));
      reinterpret_cast<__nv_bfloat16*>(args.out)[token * args.out_stride + row] = y;
    }
  }
}

// The CTA's share of x, a copy a row. One warp calls.
__device__ void request_x(const Kernel& kernel, int rank, int lane, unsigned char* x,
                          uint64_t* barrier) {
  const LinearStreamArgs& args = kernel.args;
  const int begin = kernel.first_step(rank * kernel.parts_of_cta) * kStepDepth;
  const int end = min(args.k, kernel.first_step((rank + 1) * kernel.parts_of_cta) * kStepDepth);
  const uint32_t bytes = static_cast<uint32_t>(end - begin) * 2;
  if (lane == 0) mbarrier_expect(barrier, bytes * static_cast<uint32_t>(args.rows));
  if (lane < args.rows)
    bulk_copy(x + lane * kernel.at.x_pitch, args.x + lane * args.x_stride + begin, bytes, barrier);
}

// Adds up the sums of all parts and stores them, of the CTA's strips among the `strips` of a round
// from `first_strip` on.
template <int kRowTiles>
__device__ void finish_round(const Kernel& kernel, const float4* sums, int rank, int first_strip,
                             int strips, int warp, int lane) {
  for (int job = warp; job / kRowTiles * kernel.cluster + rank < strips; job += kWarps) {
    const int owned = job / kRowTiles, tile = job % kRowTiles;
    const float4* first = sums + (owned * kernel.parts * kRowTiles + tile) * 32 + lane;
    float4 v = *first;
    float sum[4] = {v.x, v.y, v.z, v.w};
#pragma unroll 4
    for (int part = 1; part < kernel.parts; ++part) {
      v = first[part * kRowTiles * 32];
      sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
    }
    store(kernel.args, first_strip + owned * kernel.cluster + rank, tile, lane, sum);
  }
}

template <int kRowTiles, int kStrips>
__global__ void __launch_bounds__(kThreads, 1)
    sm90_bf16_mxfp4_linear_stream(const __grid_constant__ Kernel kernel, bool overlap_previous) {
  extern __shared__ __align__(128) unsigned char shared[];
  const LinearStreamArgs& args = kernel.args;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = cta_in_cluster();
  unsigned char* ring = shared + warp * kernel.slots * kernel.at.slot_bytes;
  uint64_t* x_full = reinterpret_cast<uint64_t*>(shared + kernel.at.barriers);
  uint64_t* full = x_full + 1 + warp * kernel.slots;
  if (kernel.cluster > 1) cluster_arrive();

  const Share share = share_of_warp(kernel, cluster_in_grid(), rank, warp);
  if (lane < kernel.slots) mbarrier_init(full + lane, 1);
  if (warp == 0 && lane == 0) mbarrier_init(x_full, 1);
  fence_mbarrier_init();
  __syncwarp();  // the barriers are initialised for the lanes that copy
  // Weights do not depend on the kernel before this one. x is asked for first where it can be: it
  // would wait behind them.
  if (!overlap_previous) {
    wait_for_previous_kernel();
    if (warp == 0) request_x(kernel, rank, lane, shared + kernel.at.x, x_full);
  }
  Requests<kStrips> requests(kernel, share, lane);
  for (int slot = 0; slot < kernel.slots && requests.left(); ++slot)
    requests.next(ring + slot * kernel.at.slot_bytes, full + slot);
  if (overlap_previous) {
    wait_for_previous_kernel();
    if (warp == 0) request_x(kernel, rank, lane, shared + kernel.at.x, x_full);
  }
  let_next_kernel_start();
  if (args.bias != nullptr && lane == 0 && share.mine < share.groups)
    prefetch_to_l2(args.bias + (share.first_group + share.mine) * kStrips * mxfp4::kStripRows);
  __syncthreads();                         // x's barrier is initialised for the other warps
  if (kernel.cluster > 1) cluster_wait();  // the others have started: their memory may be written

  const int cta_first_step = kernel.first_step(rank * kernel.parts_of_cta);
  XAddress<kRowTiles> x_begin;
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    // Rows past the last read the last: their sums are not stored.
    const int row = min(tile * 8 + lane % 8, args.rows - 1);
    x_begin.of_tile[tile] =
        shared_address(shared + kernel.at.x + row * kernel.at.x_pitch + lane / 8 * 16);
  }
  mbarrier_wait(x_full, 0);
  int slot = 0;
  uint32_t parity = 0;
  for (int first = 0, round = 0; first < share.groups; first += kernel.at_once, round ^= 1) {
    float* buffer = reinterpret_cast<float*>(shared + kernel.at.sums) +
                    round * kernel.at.owned_strips * kernel.parts * kRowTiles * 128;
    if (first + share.mine < share.groups) {
      Sums<kRowTiles, kStrips> sums;
      int in_panel = share.first_step % kPanelSteps;
      for (int step = share.first_step; step < share.last_step;) {
        const int steps =
            min(min(kernel.slot_steps, kPanelSteps - in_panel), share.last_step - step);
        const int blocks = min(2 * steps, kernel.blocks - 2 * step);
        unsigned char* piece = ring + slot * kernel.at.slot_bytes;
        XAddress<kRowTiles> x_address;
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile)
          x_address.of_tile[tile] = x_begin.of_tile[tile] + (step - cta_first_step) * kStepBytes;
        mbarrier_wait(full + slot, parity);
        if (needs_any_scale<kStrips>(piece, kernel.slot_steps, blocks, lane))
          multiply_piece<true>(piece, kernel.slot_steps, blocks, x_address, lane, sums);
        else
          multiply_piece<false>(piece, kernel.slot_steps, blocks, x_address, lane, sums);
        __syncwarp();  // all lanes have read the slot before a copy overwrites it
        if (requests.left()) requests.next(piece, full + slot);
        if (++slot == kernel.slots) slot = 0, parity ^= 1;
        step += steps;
        in_panel += steps;
        if (in_panel == kPanelSteps) in_panel = 0;
      }
#pragma unroll
      for (int s = 0; s < kStrips; ++s) {
        const uint32_t strip = share.mine * kStrips + s, cluster = kernel.cluster;  // 1, 2 or 4
        const uint32_t owned = strip >> cluster / 2, owner = strip & (cluster - 1);
        const uint32_t here = shared_address(
            buffer + ((owned * kernel.parts + share.part) * kRowTiles * 32 + lane) * 4);
        const uint32_t to = address_in_cta(here, owner);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile)
          store_in_cluster(to + tile * 512, sums.of[s][tile][0], sums.of[s][tile][1],
                           sums.of[s][tile][2], sums.of[s][tile][3]);
      }
    }
    // The sums of all parts are written. Those of the round after the next go where these are, but
    // not before all have met here once more.
    if (kernel.cluster > 1) {
      cluster_arrive();
      cluster_wait();
    } else {
      __syncthreads();
    }
    const int first_strip = (share.first_group + first) * kStrips;
    const int groups = min(kernel.at_once, share.groups - first);
    finish_round<kRowTiles>(kernel, reinterpret_cast<const float4*>(buffer), rank, first_strip,
                            min(groups * kStrips, kernel.strips - first_strip), warp, lane);
  }
}

Kernel kernel_of(const LinearStreamArgs& args, const LinearStreamConfig& c) {
  const int steps = steps_of(args.k), clusters = c.ctas / c.cluster;
  Kernel kernel{};
  kernel.args = args;
  kernel.at = places(c, args.rows, steps);
  kernel.parts = c.parts, kernel.parts_of_cta = c.parts / c.cluster, kernel.cluster = c.cluster;
  kernel.slot_steps = c.slot_steps, kernel.slots = c.slots;
  kernel.strips = args.n / mxfp4::kStripRows, kernel.blocks = args.k / mxfp4::kBlock;
  kernel.part_steps = steps / c.parts, kernel.longer_parts = steps % c.parts;
  const int groups = (kernel.strips + c.strips_per_warp - 1) / c.strips_per_warp;
  kernel.groups = groups / clusters, kernel.larger_clusters = groups % clusters;
  kernel.at_once = kWarps / kernel.parts_of_cta;
  const auto parts = static_cast<uint32_t>(c.parts);
  const auto parts_of_cta = static_cast<uint32_t>(kernel.parts_of_cta);
  kernel.one_over_parts = ((1u << 20) + parts - 1) / parts;
  kernel.one_over_parts_of_cta = ((1u << 16) + parts_of_cta - 1) / parts_of_cta;
  return kernel;
}

using KernelFunction = void (*)(Kernel, bool);
constexpr KernelFunction kKernels[2][2] = {
    {sm90_bf16_mxfp4_linear_stream<1, 1>, sm90_bf16_mxfp4_linear_stream<1, 2>},
    {sm90_bf16_mxfp4_linear_stream<2, 1>, sm90_bf16_mxfp4_linear_stream<2, 2>}};

}  // namespace

bool supports_linear_stream(int rows, int n, int k) {
  return rows >= 1 && rows <= 16 && n >= mxfp4::kStripRows && k >= mxfp4::kBlock && k <= 65536 &&
         mxfp4::has_weight_layout(n, k) && select_linear_stream_config(rows, n, k, 132).slots >= 1;
}

LinearStreamConfig select_linear_stream_config(int rows, int n, int k, int num_sms) {
  // The parts fix the order of sums, so they depend on the weight alone.
  LinearStreamConfig config;
  const int strips = n / mxfp4::kStripRows, steps = steps_of(k);
  while (config.parts < kWarps && strips * config.parts < 1400 && config.parts * 4 <= steps)
    config.parts *= 2;
  // The rest as measured (docs/measured.md). From a few rows on x in four, if their warps do all
  // strips in one turn: clusters of 4 fill 10 of 11 SMs. Otherwise in two, if x is large.
  const int sms_of_fours = num_sms * 10 / 11, fours = std::max(1, sms_of_fours / 4);
  if (rows >= 3 && config.parts % 4 == 0 &&
      (strips + fours - 1) / fours <= kWarps / (config.parts / 4)) {
    config.cluster = 4;
    num_sms = std::max(4, sms_of_fours);
  } else if (rows * k >= 50'000 && config.parts % 2 == 0) {
    config.cluster = 2;
  }
  // Whole panels, or whole parts, if there is room for one a warp; else the longest pieces of which
  // there is room for two.
  const int whole =
      config.cluster == 4 ? std::clamp(steps / config.parts, 3, kPanelSteps) : kPanelSteps;
  LinearStreamConfig chosen;
  for (const int slot_steps : {3, 5, whole}) {
    config.slot_steps = slot_steps;
    const LinearStreamConfig filled =
        linear_stream_config(config, rows, n, k, num_sms, kSharedLimit);
    if (slot_steps == 3 || filled.slots >= (slot_steps == whole ? 1 : 2)) chosen = filled;
  }
  return chosen;
}

std::string to_string(const LinearStreamConfig& c) {
  return "linear_stream: " + std::to_string(8 * c.row_tiles) + " rows, k in " +
         std::to_string(c.parts) + " parts, " + std::to_string(c.strips_per_warp) +
         " strips a warp, clusters of " + std::to_string(c.cluster) + ", " +
         std::to_string(c.slots) + " slots of " + std::to_string(c.slot_steps * kStepDepth) +
         " of k a warp, " + std::to_string(c.ctas) + " CTAs, " + std::to_string(c.shared_bytes) +
         " bytes of shared memory";
}

LinearStreamConfig linear_stream_config(LinearStreamConfig c, int rows, int n, int k, int num_sms,
                                        int shared_limit) {
  c.row_tiles = rows <= 8 ? 1 : 2;
  const int strips = n / mxfp4::kStripRows, steps = steps_of(k);
  const int groups = (strips + c.strips_per_warp - 1) / c.strips_per_warp;
  c.ctas = c.cluster * std::min(num_sms / c.cluster, groups);
  // No more slots than a warp ever fills.
  const int part_steps = (steps + c.parts - 1) / c.parts;
  const int at_once = kWarps / (c.parts / c.cluster), clusters = c.ctas / c.cluster;
  const int turns = ((groups + clusters - 1) / clusters + at_once - 1) / at_once;
  const int pieces = turns * ((part_steps + c.slot_steps - 1) / c.slot_steps + 1 +
                              (part_steps + kPanelSteps - 1) / kPanelSteps);
  for (c.slots = std::min(kMaxSlots, pieces); c.slots > 0; --c.slots) {
    c.shared_bytes = places(c, rows, steps).end;
    if (c.shared_bytes <= shared_limit) break;
  }
  return c;
}

cudaError_t prepare_linear_stream() {
  for (const auto& kernels : kKernels)
    for (const KernelFunction kernel : kernels) {
      const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
      if (error != cudaSuccess) return error;
    }
  return cudaSuccess;
}

cudaError_t launch_linear_stream(const LinearStreamArgs& args, const LinearStreamConfig& config,
                                 bool overlap_previous, cudaStream_t stream) {
  const Kernel kernel = kernel_of(args, config);
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(config.cluster);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.ctas));
  launch.blockDim = dim3(kThreads);
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = attributes;
  launch.numAttrs = overlap_previous ? 2 : 1;
  return cudaLaunchKernelEx(&launch, kKernels[config.row_tiles - 1][config.strips_per_warp - 1],
                            kernel, overlap_previous);
}

}  // namespace moxie::hopper
