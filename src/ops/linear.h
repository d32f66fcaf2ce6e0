#pragma once

#include "ops/backend.h"
#include "ops/tensor.h"

namespace moxie {

// out[r, :] = round( x[r, :] * weight^T + bias )                          without residual
// out[r, :] = round( residual[r, :] + round( x[r, :] * weight^T + bias ) )  with residual
//
// round() is to out's dtype: with bf16 both tensor boundaries of the reference implementations are
// kept, although the inner one never reaches memory.
//
//   x         [rows, k]  bf16 or float32
//   weight    [n, k]     bf16
//   bias      [n]        float32, or null
//   residual  [rows, n]  same dtype as out, or null; may be out itself
//   out       [rows, n]  x's dtype, or float32 (logits)
//
// Error   |out - exact| <= half an ulp of out (twice with a residual) + k * 2^-23 * sum|x||w|
//         + 2^-22 * |exact|. Subnormal factors, products and sums may count as zero.
struct LinearArgs {
  Phase phase = Phase::kPrefill;
  ConstRows x;
  Bf16Matrix weight;
  const float* bias = nullptr;
  ConstRows residual;
  Rows out;
};

}  // namespace moxie
