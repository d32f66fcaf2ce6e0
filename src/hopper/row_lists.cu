// Row tiles and lists on Hopper. Implements row_lists.h.
//
// Work    tiles: one CTA; a thread has a tile of neighbours of an expert and cuts them where an
//         entry is skipped. Rows: a CTA copies one at a time
// Cost    latency; the copies, their bytes twice
#include <algorithm>

#include "hopper/ops.h"
#include "hopper/row_lists.h"

namespace moxie::hopper {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kThreads = 1024, kWarps = kThreads / 32, kCopyThreads = 128;
static_assert(kMaxExperts <= kThreads, "a thread an expert");

__device__ bool is_row(const int32_t* list, int r, int64_t rows) {
  return list == nullptr || (list[r] >= 0 && list[r] < rows);
}
__device__ bool is_done(const EntryLists& entries, int r) {
  return is_row(entries.gather, r, entries.x_rows) && is_row(entries.scatter, r, entries.out_rows);
}

// The sum of `value` over threads below this one; `total` of all. All threads call.
__device__ int sum_below(int value, int* of_warps, int* total) {
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
  *total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before = *total;
    *total += of_warps[w];
  }
  return before + sum - value;
}

// Calls found(begin, rows) for each run of entries that are done in begin .. end.
template <class Found>
__device__ void for_each_run(const EntryLists& entries, int begin, int end, const Found& found) {
  if (entries.gather == nullptr && entries.scatter == nullptr) {
    if (begin < end) found(begin, end - begin);
    return;
  }
  int run = 0;
  for (int r = begin; r < end; ++r) {
    if (is_done(entries, r)) {
      ++run;
    } else if (run > 0) {
      found(r - run, run);
      run = 0;
    }
  }
  if (run > 0) found(end - run, run);
}

__global__ void __launch_bounds__(kThreads)
    grouped_gemm_row_tiles(const __grid_constant__ RowTilesArgs args) {
  __shared__ int begins[kMaxExperts], ends[kMaxExperts], first_pieces[kMaxExperts];
  __shared__ int tile_rows[kMaxExperts];
  __shared__ int of_warps[kWarps];
  const EntryLists& entries = args.entries;
  const int thread = static_cast<int>(threadIdx.x);
  int pieces = 0;
  if (thread < entries.experts) {
    const auto here = [&](int expert) {
      const int64_t r = int64_t{entries.row_offsets[expert]} - entries.first;
      return static_cast<int>(min(max(r, int64_t{0}), int64_t{entries.rows}));
    };
    begins[thread] = here(thread);
    ends[thread] = max(begins[thread], here(thread + 1));
    const int rows = ends[thread] - begins[thread];
    tile_rows[thread] = even_tile_rows(rows, args.tile_rows, args.row_step);
    pieces = (rows + tile_rows[thread] - 1) / tile_rows[thread];
  }
  int all_pieces;
  const int first_piece = sum_below(pieces, of_warps, &all_pieces);
  if (thread < entries.experts) first_pieces[thread] = first_piece;
  __syncthreads();  // the experts' pieces are known to all
  int written = 0;
  for (int base = 0; base < all_pieces; base += kThreads) {
    const int piece = base + thread;
    int expert = 0, begin = 0, end = 0, runs = 0;
    if (piece < all_pieces) {
      // The last expert whose first piece is not behind this one.
      int above = entries.experts;
      while (above - expert > 1) {
        const int middle = (expert + above) / 2;
        if (first_pieces[middle] <= piece)
          expert = middle;
        else
          above = middle;
      }
      begin = begins[expert] + (piece - first_pieces[expert]) * tile_rows[expert];
      end = min(begin + tile_rows[expert], ends[expert]);
      for_each_run(entries, begin, end, [&](int, int) { ++runs; });
    }
    int all_runs;
    int at = written + sum_below(runs, of_warps, &all_runs);
    for_each_run(entries, begin, end,
                 [&](int first, int rows) { args.row_tiles[at++] = {expert, first, rows}; });
    written += all_runs;
  }
  if (thread == 0) {
    *args.num_row_tiles = written;
    *args.tickets = 0;
  }
}

__global__ void __launch_bounds__(kCopyThreads)
    grouped_gemm_copy_rows(const __grid_constant__ CopyRowsArgs args) {
  const EntryLists& entries = args.entries;
  const int64_t left = int64_t{entries.row_offsets[entries.experts]} - entries.first;
  const int rows = static_cast<int>(min(max(left, int64_t{0}), int64_t{entries.rows}));
  const bool gather = args.copy == RowCopy::kGather;
  for (int r = static_cast<int>(blockIdx.x); r < rows; r += static_cast<int>(gridDim.x)) {
    if (!is_done(entries, r)) continue;
    const int64_t from_row = gather ? entries.gather[r] : r;
    const int64_t to_row = gather ? r : entries.scatter[r];
    const auto* from = reinterpret_cast<const uint4*>(args.from + from_row * args.from_stride);
    auto* to = reinterpret_cast<uint4*>(args.to + to_row * args.to_stride);
    for (int64_t i = threadIdx.x; i < args.cols / 8; i += kCopyThreads) to[i] = from[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    route_slot_lists(const __grid_constant__ SlotListsArgs args) {
  const int p = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (p >= args.row_offsets[args.experts]) return;
  const int slot = args.slots[p];
  if (args.rows != nullptr) args.rows[p] = slot / args.experts_per_token;
  if (args.sorted_weights != nullptr) args.sorted_weights[p] = args.weights[slot];
}

}  // namespace

cudaError_t launch_row_tiles(const RowTilesArgs& args, cudaStream_t stream) {
  grouped_gemm_row_tiles<<<1, kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_copy_rows(const CopyRowsArgs& args, cudaStream_t stream) {
  if (args.entries.rows == 0 || args.cols == 0) return cudaSuccess;
  const int ctas = std::min(args.entries.rows, 2048);
  grouped_gemm_copy_rows<<<static_cast<unsigned>(ctas), kCopyThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_slot_lists(const SlotListsArgs& args, cudaStream_t stream) {
  if (args.num_slots == 0 || (args.rows == nullptr && args.sorted_weights == nullptr))
    return cudaSuccess;
  const int ctas = (args.num_slots + kThreads - 1) / kThreads;
  route_slot_lists<<<static_cast<unsigned>(ctas), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace moxie::hopper
