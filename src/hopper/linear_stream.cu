// One MXFP4 linear for 1 to 16 rows on Hopper. Implements linear_stream.h.
//
// Work    a CTA owns a run of strips (16 rows of the weight); `depth_splits` warps share a strip,
//         each a contiguous part of its panels, and their sums are added in the order of k
// Warps   16, alike: each keeps its own ring of panels filled by bulk copies, decodes E2M1 in
//         registers and feeds mma.sync m16n8k16 with the weight as its 16 rows
// Memory  x, permuted so that a lane's operands lie together; the ring, all that is left
// Cost    n * k * 17/32 bytes; 70 instructions per 544 bytes and warp (8 rows), 76 (16 rows)
// Needs   sm_90; n % 16 == 0; k % 32 == 0
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/decode.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/linear_stream.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

constexpr int kWarps = 16, kThreads = kWarps * 32;
constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: one pair of blocks
constexpr int kStepsPerPanel = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
constexpr int kPanelDepth = mxfp4::kPanelBlocks * mxfp4::kBlock;
constexpr int kSharedLimit = 227 * 1024;
constexpr int kMinSlots = 1, kMaxSlots = 2;

// A strip's part of a panel, codes then scales.
struct Panel {
  uint4 codes[kStepsPerPanel][32];     // [step, lane]
  uint32_t scales[kStepsPerPanel][8];  // [step, row % 8]
};
static_assert(sizeof(Panel) == 9 * 544 && sizeof(Panel) % 16 == 0, "the Cost line above, 9 steps");

// Dynamic shared memory, in this order; sums reuse nothing, so no barrier guards a reuse.
struct Places {
  int x, ring, sums, barriers, end;
};
MOXIE_HOST_DEVICE constexpr int steps_of(int k) { return (k + kStepDepth - 1) / kStepDepth; }
MOXIE_HOST_DEVICE constexpr Places places(int row_tiles, int slots, int k) {
  Places p{};
  p.ring = steps_of(k) * row_tiles * 1024;
  p.sums = p.ring + kWarps * slots * static_cast<int>(sizeof(Panel));
  p.barriers = p.sums + kWarps * row_tiles * 512;
  p.end = p.barriers + kWarps * slots * 8;
  return p;
}

struct Kernel {
  LinearStreamArgs args;
  int depth_splits, slots;
};

// The panels that a warp multiplies, in order: `panels` of each of its strips.
struct Share {
  int first_strip, strip_step, strips;  // first_strip, first_strip + strip_step, ...
  int first_panel, panels;
};

__device__ Share share_of_warp(const Kernel& kernel, int warp) {
  const int strips = kernel.args.n / mxfp4::kStripRows, ctas = static_cast<int>(gridDim.x);
  const int cta = static_cast<int>(blockIdx.x);
  const int each = strips / ctas, more = strips % ctas;
  const int cta_first = cta * each + min(cta, more), cta_strips = each + (cta < more ? 1 : 0);
  const int panels = (kernel.args.k + kPanelDepth - 1) / kPanelDepth;
  const int part = warp % kernel.depth_splits, at_once = kWarps / kernel.depth_splits;
  const int mine = warp / kernel.depth_splits;
  Share share;
  share.first_strip = cta_first + mine;
  share.strip_step = at_once;
  share.strips = mine < cta_strips ? (cta_strips - mine + at_once - 1) / at_once : 0;
  share.first_panel = part * panels / kernel.depth_splits;
  share.panels = (part + 1) * panels / kernel.depth_splits - share.first_panel;
  return share;
}

// Where a warp is in its share; no division on the way.
struct Cursor {
  int turn = 0, panel = 0;  // of the strips; of the strip's panels
  __device__ void advance(const Share& share) {
    if (++panel == share.panels) panel = 0, ++turn;
  }
};

// Requests the panel at `cursor`. One lane calls.
__device__ __forceinline__ void request(const LinearStreamArgs& args, const Share& share,
                                        const Cursor& cursor, Panel* slot, uint64_t* barrier) {
  const mxfp4::StripPanel part =
      mxfp4::strip_panel(args.n, args.k, share.first_strip + cursor.turn * share.strip_step,
                         share.first_panel + cursor.panel);
  const uint32_t code_bytes = static_cast<uint32_t>(part.blocks) * 256;
  const uint32_t scale_bytes = static_cast<uint32_t>(part.blocks) * 16;
  mbarrier_expect(barrier, code_bytes + scale_bytes);
  bulk_copy(slot->codes, args.codes + part.begin / 2, code_bytes, barrier);
  bulk_copy(slot->scales, args.scales + part.begin / mxfp4::kBlock, scale_bytes, barrier);
}

// x into shared memory: of token r and 64-step s, lane 4 * (r % 8) + t finds the elements that
// belong to its codes in 16 bytes for each of the two blocks. Rows past the last are zero.
template <int kRowTiles>
__device__ void load_x(const LinearStreamArgs& args, uint4* x) {
  const int eights = args.k / 8;
  for (int i = static_cast<int>(threadIdx.x); i < 8 * kRowTiles * eights; i += kThreads) {
    const int row = i / eights, eight = i % eights;
    uint4 values = make_uint4(0, 0, 0, 0);
    if (row < args.rows)
      values = __ldcg(reinterpret_cast<const uint4*>(args.x + row * args.x_stride) + eight);
    const int block = eight / 4, pair = eight % 4;
    uint32_t* lanes = reinterpret_cast<uint32_t*>(
        x + ((block / 2 * kRowTiles + row / 8) * 2 + block % 2) * 32 + row % 8 * 4);
    lanes[0 + pair] = values.x;
    lanes[4 + pair] = values.y;
    lanes[8 + pair] = values.z;
    lanes[12 + pair] = values.w;
  }
}

template <int kByte, bool kAnyScale>
__device__ __forceinline__ void decode(uint32_t word, uint32_t scales, uint32_t (&pairs)[4]) {
  if constexpr (kAnyScale) {
    const uint4 v = decode_word_any_scale(word, (scales >> (8 * kByte)) & 255u);
    pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
  } else {
    decode_word(word, small_factor<kByte>(scales), pairs);
  }
}

// Block 0 or 1 of a step: rows g and g + 8 of the strip, all tokens. `x` is of the step.
template <int kRowTiles, int kBlockOfPair, bool kAnyScale>
__device__ __forceinline__ void multiply_block(uint32_t low, uint32_t high, uint32_t scales,
                                               const uint4* x, int lane,
                                               float (&sums)[kRowTiles][4]) {
  uint32_t a[4], b[4];
  decode<2 * kBlockOfPair, kAnyScale>(low, scales, a);
  decode<2 * kBlockOfPair + 1, kAnyScale>(high, scales, b);
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    const uint4 v = x[tile * 64 + kBlockOfPair * 32 + lane];
    mma_m16n8k16(sums[tile], a[0], b[0], a[1], b[1], v.x, v.y);
    mma_m16n8k16(sums[tile], a[2], b[2], a[3], b[3], v.z, v.w);
  }
}

// One step of two blocks. The branch is the same for all lanes.
template <int kRowTiles>
__device__ __forceinline__ void multiply_step(const uint4& words, uint32_t scales, const uint4* x,
                                              int lane, float (&sums)[kRowTiles][4]) {
  if (__any_sync(0xffffffffu, has_large_scale(scales))) {
    multiply_block<kRowTiles, 0, true>(words.x, words.y, scales, x, lane, sums);
    multiply_block<kRowTiles, 1, true>(words.z, words.w, scales, x, lane, sums);
  } else {
    multiply_block<kRowTiles, 0, false>(words.x, words.y, scales, x, lane, sums);
    multiply_block<kRowTiles, 1, false>(words.z, words.w, scales, x, lane, sums);
  }
}

// Adds a panel to the sums. `x` is of the panel's first step.
template <int kRowTiles>
__device__ __forceinline__ void multiply_panel(const Panel& panel, int blocks, const uint4* x,
                                               int lane, float (&sums)[kRowTiles][4]) {
#pragma unroll 3
  for (int step = 0; step < kStepsPerPanel; ++step) {
    const uint4* step_x = x + step * kRowTiles * 64;
    if (2 * step + 2 <= blocks) {
      multiply_step<kRowTiles>(panel.codes[step][lane], panel.scales[step][lane / 4], step_x, lane,
                               sums);
    } else if (2 * step + 1 == blocks) {  // a block without partner: half the bytes
      const uint32_t scales = reinterpret_cast<const uint16_t*>(panel.scales[step])[lane / 4];
      const uint2 words = reinterpret_cast<const uint2*>(panel.codes[step])[lane];
      multiply_block<kRowTiles, 0, true>(words.x, words.y, scales, step_x, lane, sums);
    }
  }
}

__device__ __forceinline__ float bias_of(const float* bias, int row) {
  return bias == nullptr ? 0.0f : __ldg(bias + row);
}

// sigmoid through exp2 and a division, both to 2 ulp.
__device__ __forceinline__ float swiglu(float gate, float linear, float alpha, float limit) {
  const float g = fminf(gate, limit), u = fminf(fmaxf(linear, -limit), limit);
  return g / (1.0f + __expf(-alpha * g)) * (u + 1.0f);
}

// Stores one strip. A lane holds rows g, g + 8 and tokens 2t, 2t + 1 of every tile.
template <int kRowTiles>
__device__ void store(const LinearStreamArgs& args, int strip, int lane,
                      const float (&sums)[kRowTiles][4]) {
  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = tile * 8 + 2 * t + i % 2, row = strip * mxfp4::kStripRows + g + 8 * (i / 2);
      const float z = sums[tile][i] + bias_of(args.bias, row);
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

template <int kRowTiles>
__global__ void __launch_bounds__(kThreads, 1)
    sm90_bf16_mxfp4_linear_stream(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(128) unsigned char shared[];
  const LinearStreamArgs& args = kernel.args;
  const Places at = places(kRowTiles, kernel.slots, args.k);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  uint4* x = reinterpret_cast<uint4*>(shared);
  Panel* ring = reinterpret_cast<Panel*>(shared + at.ring) + warp * kernel.slots;
  float4* sums_of_warps = reinterpret_cast<float4*>(shared + at.sums);
  uint64_t* barriers = reinterpret_cast<uint64_t*>(shared + at.barriers) + warp * kernel.slots;

  const Share share = share_of_warp(kernel, warp);
  Cursor next;  // to be requested
  if (lane == 0) {
    for (int slot = 0; slot < kernel.slots; ++slot) mbarrier_init(barriers + slot, 1);
    fence_mbarrier_init();
  }
  // Weights do not depend on the kernel before this one.
  for (int slot = 0; slot < kernel.slots && next.turn < share.strips; ++slot) {
    if (lane == 0) request(args, share, next, ring + slot, barriers + slot);
    next.advance(share);
  }
  wait_for_previous_kernel();
  load_x<kRowTiles>(args, x);
  __syncthreads();  // x is written; barriers are initialised before other lanes wait on them
  let_next_kernel_start();

  // All warps of the CTA go through as many rounds, so that they meet at its barriers.
  const int strips = args.n / mxfp4::kStripRows, ctas = static_cast<int>(gridDim.x);
  const int at_once = kWarps / kernel.depth_splits;
  const int cta = static_cast<int>(blockIdx.x);
  const int cta_strips = strips / ctas + (cta < strips % ctas ? 1 : 0);
  const int rounds = (cta_strips + at_once - 1) / at_once;
  int slot = 0;
  uint32_t parity = 0;
  for (int round = 0; round < rounds; ++round) {
    float sums[kRowTiles][4] = {};
    const bool busy = round < share.strips;
    if (busy)
      for (int p = 0; p < share.panels; ++p) {
        const int panel = share.first_panel + p;
        const int blocks =
            min(mxfp4::kPanelBlocks, args.k / mxfp4::kBlock - panel * mxfp4::kPanelBlocks);
        mbarrier_wait(barriers + slot, parity);
        multiply_panel<kRowTiles>(ring[slot], blocks, x + panel * kStepsPerPanel * kRowTiles * 64,
                                  lane, sums);
        __syncwarp();  // all lanes have read the slot before a copy overwrites it
        if (next.turn < share.strips) {
          if (lane == 0) request(args, share, next, ring + slot, barriers + slot);
          next.advance(share);
        }
        if (++slot == kernel.slots) slot = 0, parity ^= 1;
      }
    const int strip = share.first_strip + round * share.strip_step;
    if (kernel.depth_splits == 1) {
      if (busy) store<kRowTiles>(args, strip, lane, sums);
      continue;
    }
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile)
      sums_of_warps[(warp * kRowTiles + tile) * 32 + lane] =
          make_float4(sums[tile][0], sums[tile][1], sums[tile][2], sums[tile][3]);
    __syncthreads();  // sums of all parts are written
    if (busy && warp % kernel.depth_splits == 0) {
      for (int part = 1; part < kernel.depth_splits; ++part)
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) {
          const float4 v = sums_of_warps[((warp + part) * kRowTiles + tile) * 32 + lane];
          sums[tile][0] += v.x, sums[tile][1] += v.y, sums[tile][2] += v.z, sums[tile][3] += v.w;
        }
      store<kRowTiles>(args, strip, lane, sums);
    }
    if (round + 1 < rounds) __syncthreads();  // sums are read before the next round writes them
  }
}

int slots_that_fit(int row_tiles, int k) {
  int slots = kMaxSlots;
  while (slots > kMinSlots && places(row_tiles, slots, k).end > kSharedLimit) --slots;
  return slots;
}

}  // namespace

bool supports_linear_stream(int rows, int n, int k) {
  const int row_tiles = rows <= 8 ? 1 : 2;
  return rows >= 1 && rows <= 16 && n >= mxfp4::kStripRows && k >= mxfp4::kBlock && k <= 65536 &&
         mxfp4::has_weight_layout(n, k) && places(row_tiles, kMinSlots, k).end <= kSharedLimit;
}

LinearStreamConfig select_linear_stream_config(int rows, int n, int k, int num_sms) {
  LinearStreamConfig config;
  config.row_tiles = rows <= 8 ? 1 : 2;
  // The splits fix the order of sums, so they depend on the weight alone: enough that some 1400
  // warps have work, at least a panel each.
  const int strips = n / mxfp4::kStripRows, panels = (k + kPanelDepth - 1) / kPanelDepth;
  while (config.depth_splits < kWarps && strips * config.depth_splits < 1400 &&
         config.depth_splits * 2 <= panels)
    config.depth_splits *= 2;
  config.slots = slots_that_fit(config.row_tiles, k);
  config.ctas = std::min(num_sms, strips);
  config.shared_bytes = places(config.row_tiles, config.slots, k).end;
  return config;
}

std::string to_string(const LinearStreamConfig& config) {
  return "linear_stream: " + std::to_string(8 * config.row_tiles) + " rows, k split in " +
         std::to_string(config.depth_splits) + ", " + std::to_string(config.slots) +
         " panels in flight a warp, " + std::to_string(config.ctas) + " CTAs, " +
         std::to_string(config.shared_bytes) + " bytes of shared memory";
}

cudaError_t prepare_linear_stream() {
  using KernelFunction = void (*)(Kernel);
  const KernelFunction kernels[] = {sm90_bf16_mxfp4_linear_stream<1>,
                                    sm90_bf16_mxfp4_linear_stream<2>};
  for (const KernelFunction kernel : kernels) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_linear_stream(const LinearStreamArgs& args, const LinearStreamConfig& config,
                                 bool overlap_previous, cudaStream_t stream) {
  const Kernel kernel{args, config.depth_splits, config.slots};
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.ctas));
  launch.blockDim = dim3(kThreads);
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = &overlap;
  launch.numAttrs = overlap_previous ? 1 : 0;
  return config.row_tiles == 1
             ? cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_linear_stream<1>, kernel)
             : cudaLaunchKernelEx(&launch, sm90_bf16_mxfp4_linear_stream<2>, kernel);
}

}  // namespace moxie::hopper
