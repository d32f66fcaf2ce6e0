// Routing, and the sum of a row's experts, on Hopper. Implements route.h.
//
// Work    choose: a warp a row, a CTA a chunk of rows; place: a CTA a chunk, which adds up all
//         chunks' counts by expert to know where its own begin. Of one chunk both in one launch
// Cost    latency: the logits and lists are small beside the experts
// Needs   sm_80 (redux)
#include <cuda_bf16.h>

#include <algorithm>

#include "hopper/device/choose_experts.cuh"
#include "hopper/device/ptx.cuh"
#include "hopper/route.h"

namespace moxie::hopper {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kMaxChunkRows = 128;
constexpr int kMaxEntries = kMaxChunkRows * static_cast<int>(kMaxExpertsPerToken);
static_assert(kMaxEntries <= kThreads, "a thread an entry");
constexpr int kLaneExperts = static_cast<int>(kMaxExperts) / 32;

// One warp.
__device__ void choose_of_row(const RouteListArgs& args, int row, int lane) {
  const Choice choice =
      choose_experts<kLaneExperts>({args.logits, row * args.logits_stride, args.logits_bf16},
                                   args.all_experts, args.experts_per_token, lane);
  if (lane < args.experts_per_token) {
    const int64_t at = static_cast<int64_t>(row) * args.experts_per_token + lane;
    args.expert_ids[at] = choice.expert;
    args.weights[at] = choice.weight;
  }
}

struct Chunk {
  int first_row, rows;
};
__device__ Chunk chunk_of(const RouteListArgs& args, int chunk_rows) {
  const int first = static_cast<int>(blockIdx.x) * chunk_rows;
  return {first, min(chunk_rows, args.rows - first)};
}

// The local expert of an entry, or -1.
__device__ int local_expert(const RouteListArgs& args, int64_t entry) {
  const int id = args.expert_ids[entry] - args.first_expert;
  return id >= 0 && id < args.num_experts && args.expert_ids[entry] >= 0 ? id : -1;
}

// Chooses for the rows of a chunk and counts its entries by expert.
__device__ void choose(const RouteListArgs& args, int chunk_rows) {
  __shared__ int counts[kMaxExperts];
  const Chunk chunk = chunk_of(args, chunk_rows);
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < args.num_experts; e += kThreads) counts[e] = 0;
  if (args.logits != nullptr)
    for (int i = thread / 32; i < chunk.rows; i += kWarps)
      choose_of_row(args, chunk.first_row + i, thread % 32);
  __syncthreads();  // counts are zero, ids are written
  if (thread < chunk.rows * args.experts_per_token) {
    const int expert =
        local_expert(args, static_cast<int64_t>(chunk.first_row) * args.experts_per_token + thread);
    if (expert >= 0) atomicAdd(counts + expert, 1);
  }
  __syncthreads();  // everything is counted
  for (int e = thread; e < args.num_experts; e += kThreads)
    args.histograms[static_cast<int64_t>(blockIdx.x) * args.num_experts + e] = counts[e];
}

// The sum of `value` over threads below this one. All threads call; kThreads threads.
__device__ int sum_below(int value, int* of_warps) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  int sum = value;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const int below = __shfl_up_sync(kAll, sum, d);
    if (lane >= d) sum += below;
  }
  __syncthreads();  // earlier uses of of_warps have ended
  if (lane == 31) of_warps[warp] = sum;
  __syncthreads();  // sums of warps are written
  int before = 0;
  for (int w = 0; w < warp; ++w) before += of_warps[w];
  return before + sum - value;
}

// Puts the entries of a chunk in their places; chunk 0 writes the row tiles too.
__device__ void place(const RouteListArgs& args, int chunk_rows, int chunks) {
  __shared__ int begin[kMaxExperts];
  __shared__ uint16_t counts[kWarps][kMaxExperts];
  __shared__ int of_warps[kWarps];
  const Chunk chunk = chunk_of(args, chunk_rows);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  for (int e = lane; e < args.num_experts; e += 32) counts[warp][e] = 0;
  int total = 0, before = 0;  // of expert `thread`: in all chunks; in those before this one
  if (thread < args.num_experts) {
    const int32_t* of_chunk = args.histograms + thread;
#pragma unroll 8
    for (int c = 0; c < chunks; ++c) {
      const int count = __ldcg(of_chunk + static_cast<int64_t>(c) * args.num_experts);
      total += count;
      before += c < static_cast<int>(blockIdx.x) ? count : 0;
    }
  }
  const int offset = sum_below(total, of_warps);
  if (thread < args.num_experts) begin[thread] = offset + before;
  const int64_t entry = static_cast<int64_t>(chunk.first_row) * args.experts_per_token + thread;
  const bool exists = thread < chunk.rows * args.experts_per_token;
  const int expert = exists ? local_expert(args, entry) : -1;
  const unsigned same = __match_any_sync(kAll, expert);
  const int rank = __popc(same & ((1u << lane) - 1));
  __syncthreads();  // counts are zero, begin is written
  if (expert >= 0 && rank == 0) counts[warp][expert] = static_cast<uint16_t>(__popc(same));
  __syncthreads();  // counts are written
  if (exists) {
    int position = -1;
    if (expert >= 0) {
      position = begin[expert] + rank;
      for (int w = 0; w < warp; ++w) position += counts[w][expert];
      args.sources[position] = static_cast<int32_t>(entry);
    }
    if (args.positions != nullptr) args.positions[entry] = position;
  }
  if (blockIdx.x != 0) return;
  const int tile_rows = even_tile_rows(total, args.tile_rows, args.row_step);
  const int tiles = (total + tile_rows - 1) / tile_rows;
  const int first_tile = sum_below(tiles, of_warps);
  for (int i = 0; i < tiles; ++i) {
    args.row_tiles[first_tile + i] = {thread, offset + i * tile_rows,
                                      min(tile_rows, total - i * tile_rows)};
    args.finished[first_tile + i] = 0;
  }
  if (args.row_offsets != nullptr && thread < args.num_experts) {
    args.row_offsets[thread] = offset;
    if (thread == args.num_experts - 1) args.row_offsets[args.num_experts] = offset + total;
  }
  if (thread == args.num_experts - 1) {
    *args.num_row_tiles = first_tile + tiles;
    *args.tickets = 0;
  }
}

__global__ void __launch_bounds__(kThreads)
    route_choose(const __grid_constant__ RouteListArgs args, int chunk_rows) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  choose(args, chunk_rows);
}
__global__ void __launch_bounds__(kThreads)
    route_place(const __grid_constant__ RouteListArgs args, int chunk_rows, int chunks) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  place(args, chunk_rows, chunks);
}
__global__ void __launch_bounds__(kThreads)
    route_choose_and_place(const __grid_constant__ RouteListArgs args, int chunk_rows) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  choose(args, chunk_rows);
  __syncthreads();  // ids and counts are in memory
  place(args, chunk_rows, 1);
}

constexpr int kCombineThreads = 384;

__global__ void __launch_bounds__(kCombineThreads)
    moe_combine(const __grid_constant__ CombineArgs args) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int64_t row = blockIdx.x;
  __shared__ bool local[kMaxExpertsPerToken];
  if (static_cast<int>(threadIdx.x) < args.experts_per_token) {
    const int id = __ldcg(args.expert_ids + row * args.experts_per_token + threadIdx.x);
    local[threadIdx.x] =
        id >= 0 && id >= args.first_expert && id - args.first_expert < args.num_experts;
  }
  __syncthreads();  // local is written
  for (int eight = static_cast<int>(threadIdx.x); eight < args.n / 8; eight += kCombineThreads) {
    float sum[8] = {};
    for (int i = 0; i < args.experts_per_token; ++i) {
      if (!local[i]) continue;
      const uint4 v = __ldcg(
          reinterpret_cast<const uint4*>(args.y + (row * args.experts_per_token + i) * args.n) +
          eight);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum[2 * j] += __uint_as_float(words[j] << 16);
        sum[2 * j + 1] += __uint_as_float(words[j] & 0xffff0000u);
      }
    }
    __nv_bfloat16 result[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) result[j] = __float2bfloat16(sum[j]);
    if (args.residual != nullptr) {
      const uint4 v =
          *reinterpret_cast<const uint4*>(args.residual + row * args.residual_stride + 8 * eight);
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < 8; ++j)
        result[j] = __float2bfloat16(
            __uint_as_float(j % 2 == 0 ? words[j / 2] << 16 : words[j / 2] & 0xffff0000u) +
            __bfloat162float(result[j]));
    }
    *reinterpret_cast<uint4*>(args.out + row * args.out_stride + 8 * eight) =
        *reinterpret_cast<const uint4*>(result);
  }
}

int chunk_rows_of(int rows) { return rows <= kSmallChunkRows ? 32 : kMaxChunkRows; }

template <class... Parameters, class... Values>
cudaError_t launch(void (*kernel)(Parameters...), int ctas, int threads, cudaStream_t stream,
                   Values... values) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, values...);
}

}  // namespace

int route_chunks(int rows) { return (rows + chunk_rows_of(rows) - 1) / chunk_rows_of(rows); }

int64_t max_row_tiles(int64_t entries, int num_experts, int tile_rows) {
  // Every expert that has rows has at most one tile that is not full.
  return std::min(entries, entries / tile_rows + std::min<int64_t>(entries, num_experts));
}

cudaError_t launch_route(const RouteListArgs& args, cudaStream_t stream) {
  const int chunk_rows = chunk_rows_of(args.rows), chunks = route_chunks(args.rows);
  if (chunks == 1) return launch(route_choose_and_place, 1, kThreads, stream, args, chunk_rows);
  const cudaError_t error = launch(route_choose, chunks, kThreads, stream, args, chunk_rows);
  if (error != cudaSuccess) return error;
  return launch(route_place, chunks, kThreads, stream, args, chunk_rows, chunks);
}

cudaError_t launch_combine(const CombineArgs& args, cudaStream_t stream) {
  return launch(moe_combine, args.rows, kCombineThreads, stream, args);
}

}  // namespace moxie::hopper
