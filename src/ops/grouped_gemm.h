// One product over the experts that a batch was routed to.
#pragma once

#include <cstdint>
#include <span>

#include "ops/mxfp4_linear.h"
#include "ops/tensor.h"

namespace moxie {

// For each entry r of expert e, that is row_offsets[e] <= r < row_offsets[e + 1], with
// z = x[from(r), :] * weight[e]^T + bias[e] in float32:
//   kNone    out[to(r), :] = round( z )                       without row_weights
//            out[to(r), :] = round( z * row_weights[r] )      with them
//   kSwiglu  out[to(r), j] = round( g * sigmoid(alpha * g) * (u + 1) ) of z[2j] and z[2j + 1] as in
//            Mxfp4LinearArgs
// from(r) = gather[r] and to(r) = scatter[r], or r itself without them. An entry is skipped if
// gather[r] is no row of x or scatter[r] no row of out (-1, for instance): it writes nothing.
// round() is to bf16. Rows of out that no entry leads to stay as they are.
//
//   x            [x rows, k]          bf16, rows 16-byte aligned; without gather: `rows` rows
//   weight       [experts, n, k]      MXFP4 in `layout`
//   bias         [experts, n]         float32, or null
//   row_offsets  [experts + 1]        int32, rising from 0 to at most `rows`
//   gather       [rows]               int32, or empty
//   scatter      [rows]               int32, or empty; no two entries lead to the same row
//   row_weights  [rows]               float32, or empty; not with kSwiglu
//   out          [out rows, n or n/2] bf16; must not overlap x; without scatter: `rows` rows
//
// Weights are decoded as in Mxfp4LinearArgs.
//
// Error   |z - exact| as in Mxfp4LinearArgs; the product with row_weights to 2^-24 relative; then
//         round()
// Source  OCP Microscaling Formats v1.0 (MXFP4); gpt_oss/triton/moe.py
struct GroupedGemmArgs {
  using Activation = Mxfp4LinearArgs::Activation;

  int64_t rows = 0;  // entries at most
  ConstRows x;
  Mxfp4Matrices weight;
  Mxfp4Layout layout = Mxfp4Layout::kCheckpoint;
  const float* bias = nullptr;
  std::span<const int32_t> row_offsets;
  std::span<const int32_t> gather, scatter;
  std::span<const float> row_weights;
  Activation activation = Activation::kNone;
  float alpha = 1.702f, limit = 7.0f;
  Rows out;
};

// Throws Error(kInvalidArgument), or kUnsupported for a dtype, with one sentence, unless the Args
// are as above. Looks at sizes and addresses only, never at data.
void check(const GroupedGemmArgs& args);

}  // namespace moxie
