// The whole experts block.
#pragma once

#include <cstdint>
#include <span>

#include "ops/backend.h"
#include "ops/route.h"
#include "ops/tensor.h"

namespace moxie {

// What is done with an expert id outside the local range.
enum class ForeignExperts : uint8_t {
  kRefuse,  // Error(kInvalidArgument); only where ids can be seen before the work, not on a GPU
  kSkip,    // its term of the sum is missing; neither its weight nor any matrix is read for it
};

// The numbers that rows are multiplied in.
enum class Activations : uint8_t {
  kBf16,  // the activation dtype
  kFp8,   // e4m3, see below; on Hopper GPUs
};

// For every row, over its experts e with weight w_e in the order of expert_ids:
//   z     = x * gate_up[e]^T + gate_up_bias[e]          float32; row 2j of the matrix is gate j,
//                                                       row 2j + 1 up j
//   g     = min(z[2j], limit);  u = clamp(z[2j + 1], -limit, limit)
//   a_j   = round( g * sigmoid(alpha * g) * (u + 1) )
//   y_e   = round( (a * down[e]^T + down_bias[e]) * w_e )
//   out   = round( residual + round( sum_e y_e ) )      the sum in float32, in the order of
//                                                       expert_ids, from 0
// Without residual the outer sum is missing. round() is to the activation dtype.
//
// The choice of experts is either given (expert_ids and weights) or made from `logits` by the rule
// of RouteArgs. The matrices are those of the experts first_expert .. first_expert +
// gate_up.experts - 1; ids of others and sentinels (negative ones, or too large) are foreign.
// REQUIRES: no row names an expert of this range twice.
//
//   x             [rows, hidden]              bf16 or float32; prepacked: rows 16-byte aligned
//   logits        [rows, num_experts]         bf16 or float32; or null, then:
//   expert_ids    [rows, experts_per_token]   int32
//   weights       [rows, experts_per_token]   float32
//   gate_up       [experts, 2 * inner, hidden]  MXFP4 in `layout`
//   gate_up_bias  [experts, 2 * inner]        float32, or null
//   down          [experts, hidden, inner]    MXFP4 in `layout`
//   down_bias     [experts, hidden]           float32, or null
//   residual      [rows, hidden]  or null; may be out itself
//   out           [rows, hidden]  same dtype as x; must not overlap x
//
// Weights are decoded to the activation dtype: exact, but products of code and scale beyond its
// largest number (scale bytes 253 and 254) are clamped to it; scale byte 255 gives NaN.
//
// With Activations::kFp8, x in bf16 and prepacked weights, what meets the weights is float8 e4m3,
// to nearest even: x[r, i] as e4m3(x[r, i] * (448 / a)) with the factor a / 448, in float32, a
// being the row's largest magnitude, at least 2^-100; a_j as e4m3(f * ...) / f in place of
// round(...), f = e4m3_factor(alpha, limit). Weights stay exact. A row of x with an infinity or NaN
// gives NaN.
//
// Error   sums of a product within (k + 16) * 2^-23 * sum|x||w| + 2^-22 * |bias|, k = hidden or
//         inner, where subnormal factors, products and sums may count as zero, and on Hopper GPUs
//         values of x (or of the first product's) below 2^-59, or in a row with one of 2^63 and
//         more below 2^-122 of the power of two in that one, in calls of few rows; sigmoid(v) to
//         2^-20 + |v| * 2^-24 relative, or 2^-126 absolute. ops/reference/moe.h propagates them.
//         With kFp8 sums are cut as e4m3_dot() of ops/reference/bounded.h says, measured up to
//         1.3e-3 * sum|x||w| over 2880; rounding rows and a_j costs 4.4e-2, relative RMS of out
// Source  gpt_oss/triton/moe.py
struct MoeArgs {
  Phase phase = Phase::kPrefill;
  Activations activations = Activations::kBf16;
  ConstRows x;
  int64_t experts_per_token = 0;
  ConstRows logits;
  WeightRounding rounding = WeightRounding::kToLogits;  // of the weights made from logits
  std::span<const int32_t> expert_ids;
  std::span<const float> weights;
  int64_t first_expert = 0;
  ForeignExperts foreign = ForeignExperts::kRefuse;
  Mxfp4Matrices gate_up, down;
  Mxfp4Layout layout = Mxfp4Layout::kCheckpoint;
  const float* gate_up_bias = nullptr;
  const float* down_bias = nullptr;
  float alpha = 1.702f, limit = 7.0f;
  ConstRows residual;
  Rows out;
  // With kFp8, or null: grows by one for each 64 features of a product and rows of one expert that
  // are multiplied together, if a feature's scales within 576 of k lie more than 26 apart. These
  // are multiplied in bf16, slower; the result is the same.
  uint64_t* num_wide_tiles = nullptr;
};

// The factor of SwiGLU's outputs in e4m3: the largest power of two that takes their bound,
// max(limit, 0.2785 / alpha) * (limit + 1), to 448 or less. With the default alpha and limit that
// is 56, and the factor 8. REQUIRES both positive.
float e4m3_factor(float alpha, float limit);

// Throws Error(kInvalidArgument), or kUnsupported for a dtype, with one sentence, unless the Args
// are as above. Looks at sizes and addresses only, never at data, not at expert_ids either.
void check(const MoeArgs& args);

// Throws Error(kInvalidArgument) if expert_ids, which lie in host memory, has foreign ids and
// args.foreign is kRefuse.
void check_expert_ids(const MoeArgs& args);

// Throws Error(kUnsupported) for fp8 activations, which only GPUs have.
void check_bf16_activations(const MoeArgs& args);

}  // namespace moxie
