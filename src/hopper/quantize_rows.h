// Rows of bf16 to e4m3, each with a factor of its own, on Hopper.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/bf16.h"

namespace moxie::hopper {

// For each row, in float32, a being its largest magnitude, or kLeastLargest if that is more:
//   factors[r]  = a / 448
//   out[r, ..]  = e4m3(x[r, i] * (448 / a)), to nearest even; each 32 of k in the order of
//                 fp8_position() (device/decode_fp8.cuh)
// A row with an infinity or a NaN becomes NaN: its factor, or all its bytes.
//
//   x        [rows, k]  bf16, rows 16-byte aligned
//   out      [rows, k]  bytes, 16-byte aligned
//   factors  [rows]     float32
struct QuantizeRowsArgs {
  const bf16* x = nullptr;
  int64_t x_stride = 0;  // elements
  uint8_t* out = nullptr;
  float* factors = nullptr;
  int rows = 0, k = 0;
};
inline constexpr float kLeastLargest = 0x1p-100f;

// REQUIRES k % 32 == 0.
cudaError_t launch_quantize_rows(const QuantizeRowsArgs& args, cudaStream_t stream);

}  // namespace moxie::hopper
