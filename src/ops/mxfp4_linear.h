// One linear layer with an MXFP4 weight.
#pragma once

#include "ops/tensor.h"

namespace moxie {

// With z = x * weight^T + bias in float32:
//   kNone    out[r, :] = round(z)                              without residual
//            out[r, :] = round( residual[r, :] + round(z) )    with it
//   kSwiglu  rows 2j and 2j + 1 of the weight are gate and linear part j:
//            g = min(z[2j], limit);  u = clamp(z[2j + 1], -limit, limit)
//            out[r, j] = round( g * sigmoid(alpha * g) * (u + 1) )
// round() is to bf16.
//
//   x         [rows, k]           bf16, rows 16-byte aligned
//   weight    [1, n, k]           MXFP4 in `layout`
//   bias      [n]                 float32, or null
//   residual  [rows, n]           bf16, or null; may be out itself; not with kSwiglu
//   out       [rows, n or n / 2]  bf16; must not overlap x
//
// Weights as in MoeArgs (ops/moe.h): exact in bf16, scales 253 and 254 clamped, 255 gives NaN.
//
// Error   |z - exact| <= (k + 16) * 2^-23 * sum|x||w| + 2^-22 * |bias|, float32 sums in an
//         order that depends on n and k only, on a GPU beyond 16 rows on their number too; then
//         each round(), and sigmoid as in MoeArgs
struct Mxfp4LinearArgs {
  enum class Activation : uint8_t { kNone, kSwiglu };

  ConstRows x;
  Mxfp4Matrices weight;
  Mxfp4Layout layout = Mxfp4Layout::kCheckpoint;
  const float* bias = nullptr;
  Activation activation = Activation::kNone;
  float alpha = 1.702f, limit = 7.0f;
  ConstRows residual;
  Rows out;
};

// Throws Error(kInvalidArgument), or kUnsupported for a dtype, with one sentence, unless the Args
// are as above. Looks at sizes and addresses only, never at data.
void check(const Mxfp4LinearArgs& args);

}  // namespace moxie
