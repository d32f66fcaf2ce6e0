// One MXFP4 linear on Hopper by warpgroups. Implements linear_wgmma.h.
//
// Work    a CTA makes tiles of 64 features a feature group x 8 to 256 rows. Where tiles alone would
//         not fill the machine, depth groups of a CTA and up to 8 CTAs of a cluster divide k; each
//         CTA then adds up its share of the tile in the order of k. Else CTAs go on from tile to
//         tile, two of them sharing their rows if the tiles allow it
// Warps   two to four math warpgroups: a warp reads its strip's codes and scales from memory
//         straight into registers, some steps ahead, decodes a step into operand A while the
//         wgmmas of the step before run, and multiplies by rows in shared memory (operand B); a
//         lane of another warp asks for rows (TMA)
// Memory  rings of rows, one a depth group; sums of all parts of k, or outputs on their way
// Cost    n * k * 17/32 bytes for each tile of rows; 2 * rows * n * k operations
// Needs   sm_90a; n % 16 == 0; k % 32 == 0
#include <cuda.h>

#include <algorithm>
#include <utility>

#include "hopper/linear_wgmma.h"
#include "hopper/linear_wgmma_roles.cuh"

namespace moxie::hopper {
namespace {

using namespace wgmma_linear;  // what this kernel's warps are made of

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1)
    sm90_bf16_mxfp4_linear_wgmma(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(1024) unsigned char shared[];
  Barriers& barriers = *reinterpret_cast<Barriers*>(shared + kernel.barriers);
  const LinearStreamArgs& args = kernel.args;
  const bool in_cluster = kernel.cluster > 1 || S::kShareRows;
  const int rank = in_cluster ? cta_in_cluster() : 0;
  const int first_tile = cluster_in_grid(), tile_stride = clusters_in_grid();
  // The same for all threads of a warp, and known to the compiler as such.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp >= S::kGroups * 4) {
    release_registers<S::kProducerRegisters>();
    if (threadIdx.x == S::kMathThreads) {
      for (int d = 0; d < S::kDepthGroups; ++d)
        for (int i = 0; i < kernel.stages; ++i) {
          mbarrier_init(&barriers.full[d][i], 1);
          mbarrier_init(&barriers.empty[d][i], S::kFeatureGroups * 4 * (S::kShareRows ? 2 : 1));
        }
      mbarrier_init(&barriers.sums, 1);
      fence_mbarrier_init();
      if (kernel.parts > 1)
        mbarrier_expect(
            &barriers.sums,
            static_cast<uint32_t>(
                Units<S>(kernel, Tile::of<S>(kernel, first_tile, rank).first_row).of_cta(rank) *
                kernel.parts * kUnitBytes));
    }
    __syncwarp();
    if (in_cluster) cluster_arrive_relaxed();
    named_barrier_arrive(kInitialised, S::kThreads);
    let_next_kernel_start();
    if (S::kShareRows) cluster_wait();  // the other CTA's too
    if (threadIdx.x == S::kMathThreads) {
      wait_for_previous_kernel();
      run_rows<S>(kernel, first_tile, tile_stride, rank, shared, barriers);
    }
    __syncwarp();
    if (in_cluster && !S::kShareRows) cluster_wait();
  } else {
    take_registers<S::kMathRegisters>();
    const int group = warp / 4, depth_group = group / S::kFeatureGroups;
    const int strip_in_tile = warp - depth_group * S::kStrips;
    const int part_of_k = S::kShareRows ? 0 : rank * S::kDepthGroups + depth_group;
    const Part part(kernel, part_of_k);
    // Weights do not depend on the kernel before this one; x does, and out may be what that kernel
    // still reads.
    Tile tile = Tile::of<S>(kernel, first_tile, rank);
    Weights weights(kernel, tile.first_strip + strip_in_tile, part, lane);
    Ahead<S> ahead;
    begin(weights, ahead);
    if (in_cluster) cluster_arrive_relaxed();
    named_barrier(kInitialised, S::kThreads);  // so are the barriers
    if (S::kTurns && group == S::kGroups - 1) named_barrier_arrive(kFirstTurn, 256);
    float sums[S::kRows / 2];
    Place place;
    for (int t = first_tile; t < kernel.tiles; t += tile_stride) {
      const int strip = tile.first_strip + strip_in_tile, first_row = tile.first_row;
      multiply<S>(kernel, kernel.padded_steps, group, shared, barriers, place, weights, ahead, lane,
                  sums);
      if (kernel.parts > 1) {
        if (in_cluster) cluster_wait();  // the other CTAs have started, with their barriers
        const Units<S> units(kernel, first_row);
        send_sums<S>(kernel, units, part_of_k, strip_in_tile, lane, shared, barriers, sums);
        wait_for_previous_kernel();
        const int own = units.of_cta(rank);
        if (own == 0) break;
        mbarrier_wait(&barriers.sums, 0);
        for (int i = warp; i < own; i += S::kGroups * 4) {
          const int unit = rank * units.each + i, eight = unit / S::kStrips;
          const int unit_strip = tile.first_strip + unit - eight * S::kStrips;
          const float4* from = reinterpret_cast<const float4*>(shared + kernel.sums +
                                                               i * kernel.parts * kUnitBytes) +
                               lane;
          float4 v = from[0];
          float sum[4] = {v.x, v.y, v.z, v.w};
#pragma unroll 4
          for (int p = 1; p < kernel.parts; ++p) {
            v = from[p * (kUnitBytes / 16)];
            sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
          }
          if (unit_strip < kernel.strips)
            store_unit(args, unit_strip, first_row + 8 * eight, lane, sum);
        }
        break;
      }
      if (t + tile_stride < kernel.tiles) {
        tile = Tile::of<S>(kernel, t + tile_stride, rank);
        weights = Weights(kernel, tile.first_strip + strip_in_tile, part, lane);
        begin(weights, ahead);
      }
      wait_for_previous_kernel();
      if (strip < kernel.strips) {
        if constexpr (S::kRows % 32 == 0) {
          const Bias bias(args, strip, lane);
#pragma unroll
          for (int i = 0; i < S::kRows / 32; ++i)
            store_rows(args, strip, bias, first_row + 32 * i, lane,
                       shared + kernel.sums + warp * kStagedBytes, sums + 16 * i);
        } else {
#pragma unroll
          for (int i = 0; i < S::kRows / 8; ++i) {
            const float unit[4] = {sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]};
            store_unit(args, strip, first_row + 8 * i, lane, unit);
          }
        }
      }
    }
    if (S::kShareRows) cluster_wait();  // of the beginning
  }
  if (S::kShareRows) {
    cluster_arrive();
    cluster_wait();  // the other CTA writes no more rows or arrivals into this one's memory
  }
}

using KernelFunction = void (*)(Kernel);
struct Instance {
  int feature_groups, depth_groups, tile_rows;
  bool share_rows;
  double step_us;  // of a CTA, measured (docs/measured.md)
  int threads;
  KernelFunction function;
};
template <int kFeatureGroups, int kDepthGroups, int kTileRows, bool kShareRows = false>
constexpr Instance instance(double step_us) {
  using S = Shape<kFeatureGroups, kDepthGroups, kTileRows, kShareRows>;
  return {kFeatureGroups,
          kDepthGroups,
          kTileRows,
          kShareRows,
          step_us,
          S::kThreads,
          sm90_bf16_mxfp4_linear_wgmma<S>};
}
constexpr Instance kInstances[] = {instance<2, 2, 8>(0.348),   instance<2, 2, 16>(0.394),
                                   instance<3, 1, 16>(0.304),  instance<3, 1, 32>(0.337),
                                   instance<2, 1, 64>(0.332),  instance<3, 1, 64>(0.406),
                                   instance<2, 1, 128>(0.463), instance<3, 1, 128>(0.590),
                                   instance<2, 1, 256>(0.665), instance<2, 1, 256, true>(0.755)};

const Instance* instance_of(const LinearWgmmaConfig& config) {
  for (const Instance& i : kInstances)
    if (i.feature_groups == config.feature_groups && i.depth_groups == config.depth_groups &&
        i.tile_rows == config.tile_rows && i.share_rows == config.share_rows)
      return &i;
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

int steps_of(int k) { return (k + kStepDepth - 1) / kStepDepth; }

// Clusters that are there at once: their CTAs share one of an H200's parts of 16 or 18 SMs.
int resident_clusters(int cluster, int num_sms) {
  constexpr int kOf132[] = {132, 66, 39, 30, 22, 17, 15, 15};
  return std::max(1, kOf132[cluster - 1] * num_sms / 132);
}

}  // namespace

bool supports_linear_wgmma(int rows, int n, int k) {
  return rows >= 1 && n > 0 && k > 0 && mxfp4::has_weight_layout(n, k) &&
         int64_t{n} / mxfp4::kStripRows * (k / mxfp4::kBlock) < (int64_t{1} << 31);
}

LinearWgmmaConfig linear_wgmma_config(LinearWgmmaConfig c, int rows, int n, int k, int num_sms) {
  const int features = c.feature_groups * mxfp4::kTileRows,
            groups = c.feature_groups * c.depth_groups;
  const int feature_tiles = (n + features - 1) / features;
  const int row_tiles = (rows + c.tile_rows - 1) / c.tile_rows;
  const int parts = c.cluster * c.depth_groups;
  c.tiles = (c.share_rows ? (feature_tiles + 1) / 2 : feature_tiles) * row_tiles;
  const int clusters = parts > 1 ? c.tiles : std::min(c.tiles, num_sms / (c.share_rows ? 2 : 1));
  c.ctas = clusters * (c.share_rows ? 2 : c.cluster);
  const int units = c.tile_rows / 8 * c.feature_groups * kTileStrips;
  const int sums = parts > 1 ? (units + c.cluster - 1) / c.cluster * parts * kUnitBytes
                             : groups * 4 * kStagedBytes;
  const int rest = sums + static_cast<int>(sizeof(Barriers));
  const int stage = c.depth_groups * stage_bytes(c.tile_rows);
  const int pad = pad_steps(c.tile_rows), part_steps = (steps_of(k) + parts - 1) / parts;
  const int most = (part_steps + pad - 1) / pad * (pad / stage_steps(c.tile_rows));
  c.stages =
      std::min({kMaxStages, (kSharedLimit - rest) / stage, clusters < c.tiles ? kMaxStages : most});
  c.shared_bytes = c.stages * stage + rest;
  return c;
}

double linear_wgmma_us(const LinearWgmmaConfig& c, int rows, int n, int k, int num_sms) {
  const Instance* instance = instance_of(c);
  if (instance == nullptr) return 1e9;
  const int parts = c.cluster * c.depth_groups, pad = pad_steps(c.tile_rows);
  const int steps = ((steps_of(k) + parts - 1) / parts + pad - 1) / pad * pad;
  const int resident = resident_clusters(c.share_rows ? 2 : c.cluster, num_sms);
  const int waves = (c.tiles + resident - 1) / resident;
  // Large tiles wait for rows that no longer fit in the L2 with the weight, unless two CTAs share
  // them.
  const bool far_rows = c.tile_rows == 256 && !c.share_rows && 2.0 * rows * k > 20e6;
  const double kernel_us = 2.5 + waves * steps * instance->step_us * (far_rows ? 1.2 : 1);
  if (parts == 1) return kernel_us + (waves - 1) * 2.8;  // outputs are stored, the next rows come
  const int tile_rows = std::min(c.tile_rows, (rows + 7) / 8 * 8);
  const double sums_bytes = c.feature_groups * mxfp4::kTileRows * tile_rows * 4.0 * c.depth_groups;
  return kernel_us + 0.7 + sums_bytes * 6e-5 + (waves - 1) * 1.8;
}

std::vector<LinearWgmmaConfig> linear_wgmma_configs(int rows, int n, int k, int num_sms) {
  std::vector<LinearWgmmaConfig> configs;
  for (const Instance& i : kInstances)
    for (int cluster = 1; cluster <= (i.share_rows ? 1 : 8); ++cluster) {
      if (cluster * i.depth_groups > steps_of(k) || cluster > num_sms) continue;
      LinearWgmmaConfig config;
      config.feature_groups = i.feature_groups, config.depth_groups = i.depth_groups;
      config.tile_rows = i.tile_rows, config.cluster = cluster;
      config.share_rows = i.share_rows;
      config = linear_wgmma_config(config, rows, n, k, num_sms);
      // With more tiles than clusters at once dividing k has nothing to offer.
      if (config.stages < 1 || (cluster > 1 && config.ctas > num_sms)) continue;
      configs.push_back(config);
    }
  return configs;
}

LinearWgmmaConfig select_linear_wgmma_config(int rows, int n, int k, int num_sms) {
  LinearWgmmaConfig best;
  double best_us = 0;
  for (const LinearWgmmaConfig& config : linear_wgmma_configs(rows, n, k, num_sms)) {
    const double us = linear_wgmma_us(config, rows, n, k, num_sms);
    if (best_us == 0 || us < best_us) best = config, best_us = us;
  }
  return best;
}

std::string to_string(const LinearWgmmaConfig& c) {
  return "linear_wgmma: " + std::to_string(c.feature_groups * mxfp4::kTileRows) + " features x " +
         std::to_string(c.tile_rows) + " rows, k in " + std::to_string(c.cluster) + " x " +
         std::to_string(c.depth_groups) + " parts, " + std::to_string(c.stages) + " stages, " +
         std::to_string(c.tiles) + " tiles" + (c.share_rows ? " of two CTAs, " : ", ") +
         std::to_string(c.ctas) + " CTAs, " + std::to_string(c.shared_bytes) +
         " bytes of shared memory";
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
  if (instance == nullptr || config.stages < 1) return cudaErrorInvalidValue;
  Kernel kernel{};
  const cudaError_t error =
      encode_rows(args, config.share_rows ? config.tile_rows / 2 : config.tile_rows, &kernel.x);
  if (error != cudaSuccess) return error;
  const int features = config.feature_groups * mxfp4::kTileRows, steps = steps_of(args.k);
  kernel.args = args;
  kernel.feature_tiles = (args.n + features - 1) / features;
  if (config.share_rows) kernel.feature_tiles = (kernel.feature_tiles + 1) / 2;
  kernel.one_over_feature_tiles = static_cast<uint32_t>(std::min<uint64_t>(
      (uint64_t{1} << 32) / static_cast<uint64_t>(kernel.feature_tiles) + 1, 0xffffffffu));
  kernel.tiles = config.tiles, kernel.stages = config.stages;
  kernel.cluster = config.cluster, kernel.parts = config.cluster * config.depth_groups;
  kernel.part_steps = steps / kernel.parts, kernel.longer_parts = steps % kernel.parts;
  const int pad = pad_steps(config.tile_rows);
  kernel.padded_steps = (kernel.part_steps + (kernel.longer_parts > 0) + pad - 1) / pad * pad;
  kernel.blocks = args.k / mxfp4::kBlock, kernel.strips = args.n / mxfp4::kStripRows;
  kernel.sums = config.stages * config.depth_groups * stage_bytes(config.tile_rows);
  kernel.barriers = config.shared_bytes - static_cast<int>(sizeof(Barriers));
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(config.share_rows ? 2 : config.cluster);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(static_cast<unsigned>(config.ctas));
  launch.blockDim = dim3(static_cast<unsigned>(instance->threads));
  launch.dynamicSmemBytes = static_cast<size_t>(config.shared_bytes);
  launch.stream = stream;
  launch.attrs = attributes;
  launch.numAttrs = overlap_previous ? 2 : 1;
  return cudaLaunchKernelEx(&launch, instance->function, kernel);
}

}  // namespace moxie::hopper
