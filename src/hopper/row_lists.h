// What grouped_gemm and route of ops.h need beside their kernels: row tiles from row_offsets, rows
// copied by lists, lists made of others.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "hopper/grouped_gemm.h"

namespace moxie::hopper {

// Entries first .. first + rows of those of ops/grouped_gemm.h, numbered from 0 here.
//
//   row_offsets  [experts + 1]   of all entries
//   gather       [rows] or null  entries with a number outside 0 .. x_rows are skipped
//   scatter      [rows] or null  likewise, 0 .. out_rows
struct EntryLists {
  const int32_t* row_offsets = nullptr;
  int experts = 0, first = 0, rows = 0;
  const int32_t *gather = nullptr, *scatter = nullptr;
  int64_t x_rows = 0, out_rows = 0;
};

// The entries of each expert in tiles of even_tile_rows() neighbours, without those skipped; sets
// *num_row_tiles and *tickets = 0.
//
//   row_tiles  [rows]
//
// REQUIRES experts <= kMaxExperts.
struct RowTilesArgs {
  EntryLists entries;
  int tile_rows = 0, row_step = 1;  // as in GroupedGemmConfig
  RowTile* row_tiles = nullptr;
  int32_t* num_row_tiles = nullptr;
  uint32_t* tickets = nullptr;
};
cudaError_t launch_row_tiles(const RowTilesArgs& args, cudaStream_t stream);

// Of every entry r that is not skipped: kGather copies row gather[r] of `from` to row r of `to`,
// kScatter row r to row scatter[r]. Rows of `cols` bf16, 16-byte aligned.
enum class RowCopy : uint8_t { kGather, kScatter };
struct CopyRowsArgs {
  EntryLists entries;
  RowCopy copy = RowCopy::kGather;
  const bf16* from = nullptr;
  bf16* to = nullptr;
  int64_t from_stride = 0, to_stride = 0, cols = 0;  // elements; multiples of 8
};
cudaError_t launch_copy_rows(const CopyRowsArgs& args, cudaStream_t stream);

// For p < row_offsets[experts]: rows[p] = slots[p] / experts_per_token and sorted_weights[p] =
// weights[slots[p]]; each unless it is null.
struct SlotListsArgs {
  const int32_t *row_offsets = nullptr, *slots = nullptr;
  int experts = 0, experts_per_token = 0, num_slots = 0;
  const float* weights = nullptr;
  int32_t* rows = nullptr;
  float* sorted_weights = nullptr;
};
cudaError_t launch_slot_lists(const SlotListsArgs& args, cudaStream_t stream);

}  // namespace moxie::hopper
