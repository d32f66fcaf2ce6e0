// Routing, and the whole experts block.
#pragma once

#include <span>

#include "ops/backend.h"
#include "ops/tensor.h"

namespace moxie {

// The experts_per_token largest logits of each row, larger first, of equal ones the smaller index
// first; and softmax over these only, in float32, rounded to the logits' dtype and returned as
// float32. NaN logits order below everything.
//
//   logits      [rows, num_experts]
//   expert_ids  [rows, experts_per_token]  int32
//   weights     [rows, experts_per_token]  float32
struct RouteArgs {
  ConstRows logits;
  int64_t experts_per_token = 0;
  std::span<int32_t> expert_ids;
  std::span<float> weights;
};

// For every row, over its experts e with weight w_e in the order of expert_ids:
//   z     = x * gate_up[e]^T + gate_up_bias[e]          float32; row 2j of the matrix is gate j,
//   row 2j + 1 up j g     = min(z[2j], limit);  u = clamp(z[2j + 1], -limit, limit) a_j   = round(
//   g * sigmoid(alpha * g) * (u + 1) ) y_e   = round( (a * down[e]^T + down_bias[e]) * w_e ) out =
//   round( residual + round( sum_e y_e ) )      the sum in float32, in the order of expert_ids
// Without residual the outer sum is missing. round() is to the activation dtype.
//
//   x             [rows, hidden]                      bf16 or float32
//   gate_up       [experts, 2 * inner, hidden]        MXFP4
//   gate_up_bias  [experts, 2 * inner]                float32
//   down          [experts, hidden, inner]            MXFP4
//   down_bias     [experts, hidden]                   float32
//   residual      [rows, hidden]  or null; may be out itself
//   out           [rows, hidden]  same dtype as x
//
// Weights are decoded to the activation dtype: exact, but products of code and scale beyond its
// largest number (scale bytes 253 and 254) are clamped to it; scale byte 255 gives NaN.
//
// Error   each product's sums as in LinearArgs; sigmoid(v) to 2^-20 + |v| * 2^-24 relative, or
//         2^-126 absolute
// Source  gpt_oss/triton/moe.py
struct MoeArgs {
  Phase phase = Phase::kPrefill;
  ConstRows x;
  int64_t experts_per_token = 0;
  std::span<const int32_t> expert_ids;  // [rows, experts_per_token]
  std::span<const float> weights;       // [rows, experts_per_token]
  Mxfp4Matrices gate_up, down;
  const float* gate_up_bias = nullptr;
  const float* down_bias = nullptr;
  float alpha = 1.702f, limit = 7.0f;
  ConstRows residual;
  Rows out;
};

}  // namespace moxie
