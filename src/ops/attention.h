// Rotary embedding with the write into the key-value cache, and attention with sinks and windows.
#pragma once

#include <span>

#include "ops/backend.h"
#include "ops/tensor.h"

namespace moxie {

// One layer's cache of one sequence. Position p lies in slot p % capacity:
//   k, v  [num_kv_heads, capacity, head_dim]   bf16 or float32, the backend's activation dtype
// A layer without window has capacity for every position. A window layer is a ring: while a chunk
// of c tokens is attended to it needs window - 1 + c slots.
struct KvView {
  void* k = nullptr;
  void* v = nullptr;
  int64_t capacity = 0;
};

// The rows of one sequence in a batch: positions start_position .. + num_rows - 1, in rows
// first_row .. + num_rows - 1 of the matrices.
struct SequenceRows {
  KvView kv;
  int64_t start_position = 0;
  int64_t first_row = 0, num_rows = 0;
};

// Rotates q and k in place and stores the rotated k, and v, in the caches.
// Half-split pairing: element d of a head pairs with d + head_dim / 2:
//   o[d] = x[d] * cos - x[d + half] * sin ;  o[d + half] = x[d + half] * cos + x[d] * sin
// With bf16 rows cos and sin are rounded to bf16 first, and each product and the difference or sum
// are rounded to bf16 (three roundings, as all reference implementations do). With float32: plain
// float32.
//
//   qkv       [rows, (num_q_heads + 2 * num_kv_heads) * head_dim]
//             heads of q, then of k, then of v; without heads of q, or of k and v, the others only
//   cos, sin  [rows, head_dim / 2]  float32, with YaRN's concentration factor
struct RopeArgs {
  Rows qkv;
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  std::span<const SequenceRows> sequences;
};

// For query row i at position p and query head h, with kv head g = h / (num_q_heads /
// num_kv_heads):
//   s_j = sm_scale * (q . k_j)   for j in [max(0, p - window + 1), p]   (window 0: from 0)
//   m = max(max_j s_j, sink_h);  z = sum_j exp(s_j - m) + exp(sink_h - m)
//   out = round( sum_j exp(s_j - m) / z * v_j )
// The sink is a logit as it stands (not scaled) without a value. Scores and weights are float32,
// never rounded to bf16; a weight may be the sum of two bf16 numbers, which is off by 2^-18 of
// itself and so within the error below. Keys and values of all positions up to p are in the caches
// already. Keys are walked in an order that depends on their absolute positions only, so a row's
// result does not depend on how its prompt was cut into chunks.
//
//   q      [rows, num_q_heads * head_dim]   may have a larger stride
//   sinks  [num_q_heads]                    float32
//   out    [rows, num_q_heads * head_dim]
//
// Error   |out - exact| <= half an ulp of out
//                          + (head_dim + keys + 16) * 2^-22 * max(1, max|s|) * max|v|
//         (float32 sums). Products with a subnormal bf16 factor may count as zero.
struct AttentionArgs {
  Phase phase = Phase::kPrefill;
  ConstRows q;
  int64_t num_q_heads = 0, num_kv_heads = 0, head_dim = 0;
  const float* sinks = nullptr;
  float sm_scale = 0;
  int64_t window = 0;
  std::span<const SequenceRows> sequences;
  Rows out;
};

}  // namespace moxie
