// One MXFP4 linear for many rows on Hopper. Implements linear_wgmma.h.
//
// Work    a cluster of 1 to 8 CTAs makes a tile of 128 or 192 features x 32 to 192 rows; each CTA
//         has a part of k, and their sums meet in shared memory, each CTA adding up its share of
//         the rows in the order of k
// Warps   two or three math warpgroups, 64 features each: a warp reads its strip's codes and scales
//         from memory straight into registers, some chunks ahead, decodes them into operand A and
//         multiplies by rows in shared memory (operand B); a lane of another asks for rows (TMA)
// Memory  rows: a ring of chunks of 2 or 3 steps of k; afterwards the sums
// Cost    n * k * 17/32 bytes for each tile of rows; 2 * rows * n * k operations
// Needs   sm_90a; n % 16 == 0; k % 32 == 0
#include <cuda.h>
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/cluster.cuh"
#include "hopper/device/decode.cuh"
#include "hopper/device/swiglu.cuh"
#include "hopper/device/wgmma.cuh"
#include "hopper/linear_wgmma.h"
#include "mxfp4/weight_layout.h"

namespace moxie::hopper {
namespace {

constexpr int kStepDepth = mxfp4::kPairBlocks * mxfp4::kBlock;  // 64 of k: 4 wgmmas
constexpr int kPanelSteps = mxfp4::kPanelBlocks / mxfp4::kPairBlocks;
constexpr int kTileStrips = mxfp4::kTileRows / mxfp4::kStripRows;
constexpr int kBlockCodes = 256, kBlockScales = 16;  // bytes of a strip, one block deep
constexpr int kRowBytes = kStepDepth * 2;            // of a row of x in a step
constexpr int kSumPitch = mxfp4::kTileRows + 4;      // floats; so that lanes' banks differ
constexpr int kMaxStages = 8;
constexpr int kSharedLimit = 227 * 1024;
constexpr int kProducerRegisters = 56;

template <int kWarpgroups, int kTileRows>
struct Shape {
  static constexpr int kGroups = kWarpgroups, kRows = kTileRows;
  static constexpr int kMathThreads = kGroups * 128, kThreads = kMathThreads + 128;
  // Four warpgroups begin with 128 registers a thread, three with 168; the last one gives its own.
  static constexpr int kMathRegisters = kGroups == 3 ? 152 : 216;
  // Registers: sums, kRows / 2; operands A, 16 a step of a chunk; weights on their way, 15 a step.
  static constexpr int kSteps = kRows <= 64 ? 3 : 2;  // of a chunk
};

constexpr int chunk_steps(int tile_rows) { return tile_rows <= 64 ? 3 : 2; }
constexpr int stage_bytes(int tile_rows) { return chunk_steps(tile_rows) * tile_rows * kRowBytes; }
constexpr int sum_bytes(int warpgroups, int tile_rows) {
  return warpgroups * tile_rows * kSumPitch * 4;
}

struct Barriers {
  uint64_t full[kMaxStages], empty[kMaxStages];
};

struct Kernel {
  CUtensorMap x;  // boxes of 64 of k by a tile's rows, swizzled, zeros past the ends
  LinearStreamArgs args;
  int feature_tiles, cluster, stages, barriers;
  int chunks, blocks, strips;  // of k; of 32 in k; of the weight
  bool overlap_previous;
};

// The codes and scales of one strip, step after step, a lane's share.
class Weights {
 public:
  // Nothing comes from a strip that does not exist.
  __device__ Weights(const Kernel& kernel, int strip, int first_step, int end_step, int lane)
      : blocks_(kernel.blocks), lane_(lane), step_(first_step), end_(end_step) {
    if (strip >= kernel.strips) {
      end_ = 0;
      return;
    }
    const int panel = step_ / kPanelSteps;
    in_panel_ = step_ - panel * kPanelSteps;
    in_tile_ = strip % kTileStrips;
    tile_strips_ = min(kTileStrips, kernel.strips - (strip - in_tile_));
    const int panel_blocks = min(mxfp4::kPanelBlocks, blocks_ - panel * mxfp4::kPanelBlocks);
    const int block = (strip - in_tile_) * blocks_ + panel * mxfp4::kPanelBlocks * tile_strips_ +
                      in_tile_ * panel_blocks + 2 * in_panel_;
    codes_ = kernel.args.codes + static_cast<int64_t>(block) * kBlockCodes + lane * 16;
    scales_ = kernel.args.scales + static_cast<int64_t>(block) * kBlockScales + lane / 4 * 4;
  }

  // Zeros past the end.
  __device__ __forceinline__ void next(uint4& words, uint32_t& scales) {
    words = make_uint4(0, 0, 0, 0);
    scales = 0;
    if (step_ >= end_) return;
    if (2 * step_ + 2 <= blocks_) {
      load_once(words, codes_);
      load_once(scales, scales_);
    } else {  // a block without partner
      const uint2 low = __ldg(reinterpret_cast<const uint2*>(codes_ - lane_ * 8));
      words.x = low.x, words.y = low.y;
      scales = __ldg(reinterpret_cast<const uint16_t*>(scales_ - lane_ / 4 * 2));
    }
    ++step_;
    codes_ += 2 * kBlockCodes, scales_ += 2 * kBlockScales;
    if (++in_panel_ == kPanelSteps) {
      in_panel_ = 0;
      const int next_blocks = min(mxfp4::kPanelBlocks, blocks_ - 2 * step_);
      const int others =
          mxfp4::kPanelBlocks * (tile_strips_ - 1) + in_tile_ * (next_blocks - mxfp4::kPanelBlocks);
      codes_ += others * kBlockCodes, scales_ += others * kBlockScales;
    }
  }

 private:
  // Volatile: loads stay ahead of the products that they are meant to come before.
  static __device__ __forceinline__ void load_once(uint4& v, const void* from) {
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from));
  }
  static __device__ __forceinline__ void load_once(uint32_t& v, const void* from) {
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
  }

  int blocks_, lane_, step_, end_;
  int in_panel_ = 0, in_tile_ = 0, tile_strips_ = 0;
  const uint8_t *codes_ = nullptr, *scales_ = nullptr;
};

// The CTA's part of k, in chunks.
struct Part {
  int first_chunk, chunks;
  __device__ Part(const Kernel& kernel, int rank) {
    first_chunk = rank * kernel.chunks / kernel.cluster;
    chunks = (rank + 1) * kernel.chunks / kernel.cluster - first_chunk;
  }
};

__device__ __forceinline__ void tensor_copy(void* to, const CUtensorMap* map, int k, int row,
                                            uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
      "{%2, %3}], [%4];" ::"r"(shared_address(to)),
      "l"(map), "r"(k), "r"(row), "r"(shared_address(barrier))
      : "memory");
}

// Asks for rows. One lane.
template <class S>
__device__ void run_rows(const Kernel& kernel, const Part& part, unsigned char* ring,
                         Barriers& barriers, int first_row) {
  constexpr int kStepBytes = S::kRows * kRowBytes;
  int stage = 0;
  uint32_t parity = 1;
  for (int chunk = 0; chunk < part.chunks; ++chunk) {
    mbarrier_wait(&barriers.empty[stage], parity);
    mbarrier_expect(&barriers.full[stage], S::kSteps * kStepBytes);
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i)
      tensor_copy(ring + (stage * S::kSteps + i) * kStepBytes, &kernel.x,
                  ((part.first_chunk + chunk) * S::kSteps + i) * kStepDepth, first_row,
                  &barriers.full[stage]);
    if (++stage == kernel.stages) stage = 0, parity ^= 1;
  }
}

// One warpgroup: 64 features by the tile's rows over the part of k.
template <class S>
__device__ __forceinline__ void multiply(const Kernel& kernel, const Part& part,
                                         unsigned char* ring, Barriers& barriers, int strip,
                                         int lane, float (&sums)[S::kRows / 2]) {
#pragma unroll
  for (int i = 0; i < S::kRows / 2; ++i) sums[i] = 0;
  Weights weights(kernel, strip, part.first_chunk * S::kSteps,
                  min((part.first_chunk + part.chunks) * S::kSteps, (kernel.blocks + 1) / 2), lane);
  uint4 words[3][S::kSteps];
  uint32_t scales[3][S::kSteps];
#pragma unroll
  for (int b = 0; b < 3; ++b)
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) weights.next(words[b][i], scales[b][i]);
  int stage = 0, left = part.chunks;
  uint32_t parity = 0;
  // False after the last one.
  const auto add_chunk = [&](uint4(&chunk_words)[S::kSteps], uint32_t(&chunk_scales)[S::kSteps]) {
    uint32_t a[S::kSteps][16];
    uint32_t all_scales = 0;
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) all_scales |= chunk_scales[i];
    if (!__any_sync(0xffffffffu, has_large_scale(all_scales))) {
#pragma unroll
      for (int i = 0; i < S::kSteps; ++i) decode_pair<false>(chunk_words[i], chunk_scales[i], a[i]);
    } else {
#pragma unroll
      for (int i = 0; i < S::kSteps; ++i) decode_pair<true>(chunk_words[i], chunk_scales[i], a[i]);
    }
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) weights.next(chunk_words[i], chunk_scales[i]);
    mbarrier_wait(&barriers.full[stage], parity);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) {
      const uint64_t x =
          swizzled_operand(shared_address(ring + (stage * S::kSteps + i) * S::kRows * kRowBytes));
#pragma unroll
      for (int j = 0; j < 4; ++j) wgmma_m64k16<S::kRows>(sums, a[i] + 4 * j, x + 2 * j);
    }
    wgmma_commit();
    wgmma_wait<0>();
    if (lane == 0) mbarrier_arrive(&barriers.empty[stage]);
    if (++stage == kernel.stages) stage = 0, parity ^= 1;
    return --left > 0;
  };
  if (left == 0) return;  // more parts than chunks
  // Buffers by name: an index that is not a constant would put them in local memory.
  while (add_chunk(words[0], scales[0]) && add_chunk(words[1], scales[1]) &&
         add_chunk(words[2], scales[2])) {
  }
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

// Eight features of one row.
__device__ __forceinline__ void store(const LinearStreamArgs& args, int row, int feature,
                                      float (&z)[8]) {
  if (args.bias != nullptr) {
    const float4* bias = reinterpret_cast<const float4*>(args.bias + feature);
    const float4 low = __ldg(bias), high = __ldg(bias + 1);
    z[0] += low.x, z[1] += low.y, z[2] += low.z, z[3] += low.w;
    z[4] += high.x, z[5] += high.y, z[6] += high.z, z[7] += high.w;
  }
  bf16* out = args.out + row * args.out_stride;
  if (args.swiglu) {
    float y[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) y[i] = swiglu(z[2 * i], z[2 * i + 1], args.alpha, args.limit);
    *reinterpret_cast<uint2*>(out + feature / 2) = make_uint2(pack(y[0], y[1]), pack(y[2], y[3]));
    return;
  }
  uint32_t packed[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) packed[i] = pack(z[2 * i], z[2 * i + 1]);
  if (args.residual != nullptr) {
    const uint4 v =
        *reinterpret_cast<const uint4*>(args.residual + row * args.residual_stride + feature);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      packed[i] =
          pack(__uint_as_float(words[i] << 16) + __uint_as_float(packed[i] << 16),
               __uint_as_float(words[i] & 0xffff0000u) + __uint_as_float(packed[i] & 0xffff0000u));
  }
  *reinterpret_cast<uint4*>(out + feature) = make_uint4(packed[0], packed[1], packed[2], packed[3]);
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1)
    sm90_bf16_mxfp4_linear_wgmma(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char shared[];
  Barriers& barriers = *reinterpret_cast<Barriers*>(shared + kernel.barriers);
  const LinearStreamArgs& args = kernel.args;
  const int rank = cta_in_cluster(), tile = cluster_in_grid();
  const int first_row = tile / kernel.feature_tiles * S::kRows;
  const int first_feature = tile % kernel.feature_tiles * (S::kGroups * mxfp4::kTileRows);
  // The same for all threads of a warp, and known to the compiler as such.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kernel.stages; ++i) {
      mbarrier_init(&barriers.full[i], 1);
      mbarrier_init(&barriers.empty[i], S::kGroups * 4);
    }
    fence_mbarrier_init();
  }
  __syncthreads();  // barriers are initialised
  // With overlap weights do not depend on the kernel before this one; x does, and out may be what
  // that kernel still reads.
  if (!kernel.overlap_previous) wait_for_previous_kernel();
  let_next_kernel_start();
  const Part part(kernel, rank);
  const int owned_rows = S::kRows / kernel.cluster;
  if (warp >= S::kGroups * 4) {
    release_registers<kProducerRegisters>();
    if (warp == S::kGroups * 4 && lane == 0) {
      wait_for_previous_kernel();
      run_rows<S>(kernel, part, shared, barriers, first_row);
    }
    return;  // the clusters' barriers wait for threads that are still there
  }
  take_registers<S::kMathRegisters>();
  const int group = warp / 4;
  {
    const int strip = first_feature / mxfp4::kStripRows + warp;
    float sums[S::kRows / 2];
    multiply<S>(kernel, part, shared, barriers, strip, lane, sums);
    // All CTAs have read their rows for the last time: sums may take their place. Rows r of the
    // tile are added up by CTA r / owned_rows: [warpgroup, part, row, feature].
    cluster_arrive();
    cluster_wait();
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < S::kRows / 8; ++j) {
      // Eight rows have one owner: owned_rows is a multiple of 8, or 4 (two owners, a lane's rows
      // 2t and 2t + 1 still have one).
      const int row = 8 * j + 2 * t, owner = row / owned_rows, local = row - owner * owned_rows;
      const uint32_t to = address_in_cta(
          shared_address(shared) +
              static_cast<uint32_t>(
                  (((group * kernel.cluster + rank) * owned_rows + local) * kSumPitch +
                   warp % 4 * mxfp4::kStripRows + g) *
                  4),
          static_cast<uint32_t>(owner));
      store_in_cluster(to, sums[4 * j]);
      store_in_cluster(to + kSumPitch * 4, sums[4 * j + 1]);
      store_in_cluster(to + 8 * 4, sums[4 * j + 2]);
      store_in_cluster(to + (kSumPitch + 8) * 4, sums[4 * j + 3]);
    }
  }
  cluster_arrive();
  cluster_wait();  // the sums of all parts are written
  wait_for_previous_kernel();
  constexpr int kEights = S::kGroups * mxfp4::kTileRows / 8;
  for (int i = static_cast<int>(threadIdx.x); i < owned_rows * kEights; i += S::kMathThreads) {
    const int local = i / kEights, eight = i % kEights;
    const int row = first_row + rank * owned_rows + local, feature = first_feature + 8 * eight;
    if (row >= args.rows || feature >= args.n) continue;
    float z[8] = {};
    for (int p = 0; p < kernel.cluster; ++p) {
      const float4* from = reinterpret_cast<const float4*>(
          shared +
          (((eight / 8 * kernel.cluster + p) * owned_rows + local) * kSumPitch + eight % 8 * 8) *
              4);
      const float4 low = from[0], high = from[1];
      z[0] += low.x, z[1] += low.y, z[2] += low.z, z[3] += low.w;
      z[4] += high.x, z[5] += high.y, z[6] += high.z, z[7] += high.w;
    }
    store(args, row, feature, z);
  }
}

using KernelFunction = void (*)(Kernel);
struct Instance {
  int warpgroups, tile_rows, threads;
  KernelFunction function;
};
template <int kWarpgroups, int kTileRows>
constexpr Instance instance() {
  using S = Shape<kWarpgroups, kTileRows>;
  return {kWarpgroups, kTileRows, S::kThreads, sm90_bf16_mxfp4_linear_wgmma<S>};
}
constexpr Instance kInstances[] = {instance<3, 32>(), instance<3, 64>(),  instance<3, 128>(),
                                   instance<2, 64>(), instance<2, 128>(), instance<2, 192>()};

const Instance* instance_of(const LinearWgmmaConfig& config) {
  for (const Instance& i : kInstances)
    if (i.warpgroups == config.warpgroups && i.tile_rows == config.tile_rows) return &i;
  return nullptr;
}

// The driver's function, found without linking against the driver.
cudaError_t encode_rows(const LinearStreamArgs& args, int tile_rows, CUtensorMap* map) {
  using Encode =
      CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                   const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                   CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
      function = nullptr;
    return reinterpret_cast<Encode>(function);
  }();
  if (encode == nullptr) return cudaErrorNotSupported;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(args.k), static_cast<cuuint64_t>(args.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(args.x_stride) * sizeof(bf16)};
  const cuuint32_t box[2] = {kStepDepth, static_cast<cuuint32_t>(tile_rows)};
  const cuuint32_t element_strides[2] = {1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(args.x), sizes, strides,
             box, element_strides, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

int chunks_of(int k, int tile_rows) {
  const int steps = (k + kStepDepth - 1) / kStepDepth, of_chunk = chunk_steps(tile_rows);
  return (steps + of_chunk - 1) / of_chunk;
}

}  // namespace

bool supports_linear_wgmma(int rows, int n, int k) {
  return rows >= 1 && n > 0 && k > 0 && mxfp4::has_weight_layout(n, k) &&
         int64_t{n} / mxfp4::kStripRows * (k / mxfp4::kBlock) < (int64_t{1} << 31);
}

LinearWgmmaConfig linear_wgmma_config(LinearWgmmaConfig c, int rows, int n, int k) {
  const int features = c.warpgroups * mxfp4::kTileRows;
  c.tiles = (n + features - 1) / features * ((rows + c.tile_rows - 1) / c.tile_rows);
  const int room = kSharedLimit - static_cast<int>(sizeof(Barriers));
  const int part_chunks = (chunks_of(k, c.tile_rows) + c.cluster - 1) / c.cluster;
  c.stages = std::max(1, std::min({kMaxStages, room / stage_bytes(c.tile_rows), part_chunks}));
  c.shared_bytes =
      std::max(c.stages * stage_bytes(c.tile_rows), sum_bytes(c.warpgroups, c.tile_rows)) +
      static_cast<int>(sizeof(Barriers));
  return c;
}

double linear_wgmma_us(const LinearWgmmaConfig& c, int rows, int n, int k, int num_sms) {
  // Fitted to what was measured at 2880 x 2880, 5760 x 2880 and 8192 x 8192 (docs/measured.md), in
  // clocks at 1.755 GHz: a chunk takes what tensor cores take (tile_rows / 2 for 64 features and 16
  // of k), what decoding takes, and some more: the two hardly overlap. Clusters of 4 and 8 fill 10
  // of 11 SMs.
  const int features = c.warpgroups * mxfp4::kTileRows, steps = chunk_steps(c.tile_rows);
  const int resident = c.cluster <= 2 ? num_sms / c.cluster : num_sms * 10 / 11 / c.cluster;
  const int tiles = (n + features - 1) / features * ((rows + c.tile_rows - 1) / c.tile_rows);
  const double waves = (tiles + resident - 1) / std::max(1, resident);
  const double tensor = c.warpgroups * steps * 4 * c.tile_rows / 2.0;
  const double decode = c.warpgroups * steps * 77.0, more = c.warpgroups == 3 ? 330 : 420;
  const double part_chunks = (chunks_of(k, c.tile_rows) + c.cluster - 1) / c.cluster;
  // A launch, and sums on their way through the cluster.
  const double of_tile = c.warpgroups * c.tile_rows;
  const double fixed_us = c.cluster == 1   ? 3.0
                          : c.cluster == 2 ? 5.4
                                           : 5.0 + of_tile * (c.cluster == 4 ? 0.0166 : 0.019);
  return fixed_us + waves * part_chunks * (tensor + decode + more) / 1755;
}

LinearWgmmaConfig select_linear_wgmma_config(int rows, int n, int k, int num_sms) {
  LinearWgmmaConfig best;
  double best_us = 0;
  for (const Instance& i : kInstances) {
    if (i.tile_rows == 192) continue;  // never ahead of 128 by more than 2 %
    for (const int cluster : {1, 2, 4, 8}) {
      if (cluster > chunks_of(k, i.tile_rows) || cluster > num_sms) continue;
      LinearWgmmaConfig config;
      config.warpgroups = i.warpgroups, config.tile_rows = i.tile_rows, config.cluster = cluster;
      config = linear_wgmma_config(config, rows, n, k);
      // With more tiles than clusters at once dividing k has nothing to offer.
      const int resident = (cluster <= 2 ? num_sms : num_sms * 10 / 11) / cluster;
      if (cluster > 1 && config.tiles > resident) continue;
      const double us = linear_wgmma_us(config, rows, n, k, num_sms);
      if (best_us == 0 || us < best_us) best = config, best_us = us;
    }
  }
  return best;
}

std::string to_string(const LinearWgmmaConfig& c) {
  return "linear_wgmma: " + std::to_string(c.warpgroups * mxfp4::kTileRows) + " features x " +
         std::to_string(c.tile_rows) + " rows, k in " + std::to_string(c.cluster) + " parts, " +
         std::to_string(c.stages) + " stages, " + std::to_string(c.tiles) + " tiles, " +
         std::to_string(c.shared_bytes) + " bytes of shared memory";
}

cudaError_t prepare_linear_wgmma() {
  for (const Instance& i : kInstances) {
    const cudaError_t error =
        cudaFuncSetAttribute(i.function, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedLimit);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t launch_linear_wgmma(const LinearStreamArgs& args, const LinearWgmmaConfig& config,
                                bool overlap_previous, cudaStream_t stream) {
  const Instance* instance = instance_of(config);
  if (instance == nullptr) return cudaErrorInvalidValue;
  Kernel kernel{};
  const cudaError_t error = encode_rows(args, config.tile_rows, &kernel.x);
  if (error != cudaSuccess) return error;
  const int features = config.warpgroups * mxfp4::kTileRows;
  kernel.args = args;
  kernel.feature_tiles = (args.n + features - 1) / features;
  kernel.cluster = config.cluster, kernel.stages = config.stages;
  kernel.barriers = config.shared_bytes - static_cast<int>(sizeof(Barriers));
  kernel.chunks = chunks_of(args.k, config.tile_rows);
  kernel.blocks = args.k / mxfp4::kBlock, kernel.strips = args.n / mxfp4::kStripRows;
  kernel.overlap_previous = overlap_previous;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(config.cluster);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.tiles * config.cluster));
  launch.blockDim = dim3(static_cast<unsigned>(instance->threads));
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = attributes;
  launch.numAttrs = overlap_previous ? 2 : 1;
  return cudaLaunchKernelEx(&launch, instance->function, kernel);
}

}  // namespace moxie::hopper
