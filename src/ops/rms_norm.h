#pragma once

#include "ops/tensor.h"

namespace moxie {

// out[r, i] = round( x[r, i] / sqrt(mean_i(x[r, :]^2) + epsilon) * scale[i] )
//
// Everything in float32 (the sum of squares in float32 or better), one rounding at the end.
//
//   x      [rows, cols]
//   scale  [cols]        float32
//   out    [rows, cols]  may be x itself
//
// Error   |out - exact| <= half an ulp of out + (cols * 2^-24 + 4 * 2^-24) * |exact|
// Source  gpt_oss/torch/model.py RMSNorm
struct RmsNormArgs {
  ConstRows x;
  const float* scale = nullptr;
  float epsilon = 1e-5f;
  Rows out;
};

}  // namespace moxie
