// Routing on Hopper: top-k, softmax over the chosen, rows sorted by expert; and the sum of a row's
// experts, which undoes it.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>

#include "hopper/grouped_gemm.h"
#include "hopper/ops.h"

namespace moxie::hopper {

// For every row its experts_per_token largest logits, larger first, of equal ones the smaller index
// first, NaN below everything; softmax over these in float32, rounded to the logits' dtype. Or,
// with `logits` null, the choice that is already in `expert_ids` and `weights`. An entry s = row *
// experts_per_token + i counts if its expert lies in first_expert .. first_expert + num_experts of
// the local weights; others, negative ids too, are left out of the lists.
//
//   logits      [rows, all_experts]         bf16 or float32
//   expert_ids  [rows, experts_per_token]   int32, in or out
//   weights     [rows, experts_per_token]   float32, in or out
//   sources     [rows * experts_per_token]  entries sorted by local expert, then by entry
//   row_tiles   entries of one expert in pieces of even_tile_rows(), with local expert numbers
//   finished    [row tiles], set to zero; tickets: one, set to zero
//   histograms  [route_chunks(rows), num_experts] scratch
struct RouteListArgs {
  const void* logits = nullptr;
  bool logits_bf16 = true;
  int64_t logits_stride = 0;  // elements
  int rows = 0, all_experts = 0, experts_per_token = 0;
  int first_expert = 0, num_experts = 0;
  int tile_rows = 0, row_step = 1;  // as in GroupedGemmConfig
  int32_t* expert_ids = nullptr;
  float* weights = nullptr;
  int32_t* sources = nullptr;
  RowTile* row_tiles = nullptr;
  int32_t* num_row_tiles = nullptr;
  uint32_t *finished = nullptr, *tickets = nullptr;
  int32_t* row_offsets = nullptr;  // [num_experts + 1], or null
  int32_t* positions = nullptr;    // [rows * experts_per_token]: place in sources, or -1; or null
  int32_t* histograms = nullptr;
};

// Parts of the rows that CTAs take.
int route_chunks(int rows);
// The most chunks of any call of up to `rows` rows: up to kSmallChunkRows they are smaller.
inline constexpr int kSmallChunkRows = 2048;
inline int max_route_chunks(int rows) {
  return std::max(route_chunks(rows), route_chunks(std::min(rows, kSmallChunkRows)));
}
// An upper bound of the number of row tiles.
int64_t max_row_tiles(int64_t entries, int num_experts, int tile_rows);
// REQUIRES 1 <= rows; all_experts and num_experts <= kMaxExperts; experts_per_token <=
// kMaxExpertsPerToken and <= all_experts.
cudaError_t launch_route(const RouteListArgs& args, cudaStream_t stream);

// out[r, :] = round(sum of y[r * experts_per_token + i, :] over the local experts i, in order), in
// float32; with residual round(residual[r, :] + that).
//
//   y    [rows * experts_per_token, n]  bf16, 16-byte aligned rows
//   out  [rows, n]                      bf16, 16-byte aligned rows
struct CombineArgs {
  const bf16* y = nullptr;
  const int32_t* expert_ids = nullptr;
  const bf16* residual = nullptr;
  bf16* out = nullptr;
  int64_t residual_stride = 0, out_stride = 0;
  int rows = 0, n = 0, experts_per_token = 0, first_expert = 0, num_experts = 0;
};
cudaError_t launch_combine(const CombineArgs& args, cudaStream_t stream);

}  // namespace moxie::hopper
