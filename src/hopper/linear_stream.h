// One MXFP4 linear for 1 to 16 rows on Hopper: see ../ops and the head of linear_stream.cu.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "base/bf16.h"

namespace moxie::hopper {

// out[r, :] = round( residual[r, :] + round( x[r, :] * weight^T + bias ) )
// or, with `swiglu`, where rows 2j and 2j + 1 of the weight are gate and linear part j,
// out[r, j] = round( g * sigmoid(alpha * g) * (u + 1) ), g = min(z[2j], limit),
//             u = clamp(z[2j + 1], -limit, limit), z = x[r, :] * weight^T + bias in float32
//
//   x         [rows, k]           bf16, rows 16-byte aligned
//   codes     prepacked [n, k]    mxfp4/weight_layout.h, 16-byte aligned
//   scales    prepacked [n, k]    16-byte aligned; 0 .. 254 exact, 255 gives NaN
//   bias      [n]                 float32, or null
//   residual  [rows, n]           bf16, or null; may be out; not with swiglu
//   out       [rows, n or n / 2]  bf16
//
// Error  |out - exact| <= half an ulp (one more with a residual) + (k + parts) * 2^-23 *
//        sum|x||w|; the sum's order depends on n and k only
struct LinearStreamArgs {
  const bf16* x = nullptr;
  const uint8_t *codes = nullptr, *scales = nullptr;
  const float* bias = nullptr;
  const bf16* residual = nullptr;
  bf16* out = nullptr;
  int rows = 0, n = 0, k = 0;
  int64_t x_stride = 0, residual_stride = 0, out_stride = 0;  // elements
  bool swiglu = false;
  float alpha = 1.702f, limit = 7.0f;
};

struct LinearStreamConfig {
  int row_tiles = 1;        // of 8 rows: 1 or 2
  int strips_per_warp = 1;  // of 16 features: 1 or 2
  int parts = 1;            // of k, each the sum of one warp; what the result's bits depend on
  int cluster = 1;          // CTAs that divide the parts of their features: 1, 2 or 4
  int slot_steps = 1;       // of 64 of k in a copy, 1 .. 9
  int slots = 2;            // copies under way per warp
  int ctas = 1;
  int shared_bytes = 0;
};

// Whether launch_linear_stream can do it: 1 .. 16 rows, n % 16 == 0, k % 32 == 0, x in shared
// memory.
bool supports_linear_stream(int rows, int n, int k);
// REQUIRES supports_linear_stream.
LinearStreamConfig select_linear_stream_config(int rows, int n, int k, int num_sms);
// With slots, CTAs and shared memory filled in for the rest, at most `shared_limit` bytes; 0 slots
// if not one fits. REQUIRES parts % cluster == 0, parts <= steps of 64 in k and <= 16 * cluster.
LinearStreamConfig linear_stream_config(LinearStreamConfig config, int rows, int n, int k,
                                        int num_sms, int shared_limit);
std::string to_string(const LinearStreamConfig& config);

// Asks the driver once per process and device for the shared memory that the kernels use.
cudaError_t prepare_linear_stream();
// Launches on `stream`; `overlap_previous`: programmatic dependent launch, the weights are
// requested before the previous kernel has ended. REQUIRES supports_linear_stream and
// prepare_linear_stream.
cudaError_t launch_linear_stream(const LinearStreamArgs& args, const LinearStreamConfig& config,
                                 bool overlap_previous, cudaStream_t stream);

}  // namespace moxie::hopper
