// The inner loop of attention, one instance per instruction set; called from attention.cc only.
#pragma once

#include <cstdint>

#include "base/bf16.h"
#include "cpu/isa.h"

namespace moxie::cpu {

// Consecutive positions of one sequence and the query heads of one kv head.
struct AttentionTile {
  const bf16* q = nullptr;  // [num_positions, group, head_dim], q_stride from position to position
  int64_t q_stride = 0;
  const bf16* k = nullptr;  // [capacity, head_dim]: position p in slot p % capacity
  const bf16* v = nullptr;
  int64_t capacity = 0;
  const float* sinks = nullptr;  // [group]
  float sm_scale = 0;
  int64_t first_position = 0;
  int num_positions = 0;
  int group = 0, head_dim = 0;
  int64_t window = 0;

  // Keys outside [key_begin, key_end) are left out. When `partial` is set, the sink is left out
  // too, and the unfinished sums of the one position go there (partial_floats() of them).
  int64_t key_begin = 0, key_end = INT64_MAX;
  float* partial = nullptr;

  bf16* out = nullptr;  // as q, with out_stride
  int64_t out_stride = 0;
  uint8_t* scratch = nullptr;  // tile_scratch_bytes(), 64-byte aligned
};

// Unfinished sums of one position: for each head of the group the maximum of its scores (times
// log2 e), the sum of the weights relative to it, and head_dim weighted sums of values.
struct AttentionMerge {
  const float* partials = nullptr;  // num_partials times partial_floats(), in order of their keys
  int num_partials = 0;
  const float* sinks = nullptr;
  int group = 0, head_dim = 0;
  bf16* out = nullptr;  // [group, head_dim]
};

struct AttentionKernels {
  void (*attend_prefill)(const AttentionTile& tile);
  void (*attend_decode)(const AttentionTile& tile);  // one position
  void (*merge)(const AttentionMerge& merge);
};

constexpr int kAttentionBlock = 64;    // keys, aligned at absolute positions
constexpr int kMaxTilePositions = 16;  // of an AttentionTile

// For head dimensions that the set's kernel cannot cut into its vectors: the next simpler kernel.
AttentionKernels attention_kernels(Isa isa, int64_t head_dim);

AttentionKernels attention_kernels_scalar(int64_t head_dim);  // head_dim % 2 == 0
AttentionKernels attention_kernels_avx2();                    // head_dim % 16 == 0
AttentionKernels attention_kernels_avx512();                  // head_dim % 32 == 0
AttentionKernels attention_kernels_avx512_bf16();             // head_dim % 32 == 0
AttentionKernels attention_kernels_amx();                     // head_dim % 32 == 0
AttentionKernels attention_kernels_amx_emulated();            // the same, head_dim % 32 == 0

constexpr int64_t partial_floats(int64_t group, int64_t head_dim) {
  return (group * (head_dim + 2) + 15) / 16 * 16;
}

// Where the parts of a tile's scratch begin, in bytes.
struct TileScratch {
  int64_t rows = 0, keys = 0, scores = 0, sums = 0, maxima = 0, totals = 0, q = 0, size = 0;
};
constexpr TileScratch tile_scratch(int64_t positions, int64_t group, int64_t head_dim) {
  constexpr int64_t kLanes = 16;  // of the widest vector
  const auto align = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  TileScratch s;
  s.rows = 0;                                                       // zeros, then pointers
  s.keys = s.rows + align(head_dim * 2) + 2 * kAttentionBlock * 8;  // [head_dim / 2, 64] pairs
  s.scores = s.keys + align(head_dim / 2 * kAttentionBlock * 4);    // [group, 64]
  s.sums = s.scores + align(group * kAttentionBlock * 4);           // [positions, group, head_dim]
  s.maxima = s.sums + align(positions * group * head_dim * 4);      // [positions, group]
  s.totals = s.maxima + align(positions * group * 4);               // [positions, group, lanes]
  s.q = s.totals + align(positions * group * kLanes * 4);           // as sums
  s.size = s.q + align(positions * group * head_dim * 4);
  return s;
}

// The same for attention_tiles.h, whose rows come in groups of 32.
struct TiledScratch {
  int64_t zeros = 0, pointers = 0, keys = 0, values = 0, scores = 0, high = 0, low = 0, q = 0,
          sums = 0, maxima = 0, totals = 0, size = 0;
};
constexpr TiledScratch tiled_scratch(int64_t positions, int64_t group, int64_t head_dim) {
  const auto align = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  const int64_t rows = (positions * group + 31) / 32 * 32;
  TiledScratch s;
  s.pointers = s.zeros + align(head_dim * 2);
  s.keys = s.pointers + 2 * kAttentionBlock * 8;                // [head_dim / 2, 64] pairs
  s.values = s.keys + align(head_dim * kAttentionBlock * 2);    // [32, head_dim] pairs
  s.scores = s.values + align(head_dim * kAttentionBlock * 2);  // [32, 64]
  s.high = s.scores + 32 * kAttentionBlock * 4;                 // [32, 64] bf16
  s.low = s.high + 32 * kAttentionBlock * 2;
  s.q = s.low + 32 * kAttentionBlock * 2;          // [rows, head_dim] bf16
  s.sums = s.q + align(rows * head_dim * 2);       // [rows, head_dim]
  s.maxima = s.sums + align(rows * head_dim * 4);  // [rows]
  s.totals = s.maxima + align(rows * 4);           // [rows, lanes]
  s.size = s.totals + rows * 16 * 4;
  return s;
}

}  // namespace moxie::cpu
