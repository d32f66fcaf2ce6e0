// The experts block for any number of rows on Hopper: route, the two products in one launch of
// grouped_gemm.h, and the sum over a row's experts.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "hopper/grouped_gemm.h"

namespace moxie::hopper {

// Numerics as MoeArgs of ops/moe.h and RouteArgs there. All matrices prepacked
// (mxfp4/weight_layout.h), of the local experts first_expert .. first_expert + num_experts.
//
//   x             [rows, hidden]                       bf16, rows 16-byte aligned
//   logits        [rows, all_experts]                  bf16 or float32; or null, and then
//   expert_ids    [rows, experts_per_token]            int32, outside the local range: left out
//   weights       [rows, experts_per_token]            float32
//   gate_up       [num_experts, 2 * inner, hidden]     codes and scales, 16-byte aligned
//   gate_up_bias  [num_experts, 2 * inner]             float32, or null
//   down          [num_experts, hidden, inner]
//   down_bias     [num_experts, hidden]                float32, or null
//   residual      [rows, hidden]  or null; may be out itself
//   out           [rows, hidden]  bf16, rows 16-byte aligned; must not overlap x
struct MoeSizes {
  int64_t rows = 0;
  int hidden = 0, inner = 0, all_experts = 0, num_experts = 0, first_expert = 0;
  int experts_per_token = 0;
};
struct MoeGroupedArgs {
  MoeSizes sizes;
  const bf16* x = nullptr;
  int64_t x_stride = 0, logits_stride = 0, residual_stride = 0, out_stride = 0;  // elements
  const void* logits = nullptr;
  bool logits_bf16 = true;
  const int32_t* expert_ids = nullptr;
  const float* weights = nullptr;
  const uint8_t *gate_up_codes = nullptr, *gate_up_scales = nullptr;
  const uint8_t *down_codes = nullptr, *down_scales = nullptr;
  const float *gate_up_bias = nullptr, *down_bias = nullptr;
  float alpha = 1.702f, limit = 7.0f;
  const bf16* residual = nullptr;
  bf16* out = nullptr;
  uint64_t* num_wide_tiles = nullptr;  // as in GroupedGemmArgs
};

// Rows beyond these go in pieces one after another, so that the workspace stays below 512 MB.
int64_t moe_grouped_piece_rows(const MoeSizes& sizes);
// REQUIRES supports_moe_grouped.
int64_t moe_grouped_workspace_bytes(const MoeSizes& sizes, const GroupedGemmConfig& config);
bool supports_moe_grouped(const MoeSizes& sizes);
GroupedGemmConfig select_moe_grouped_config(const MoeSizes& sizes, int num_sms,
                                            Activations activations = Activations::kBf16);

// Enqueues on `stream`. `workspace` need not be initialised; 256-byte aligned. REQUIRES
// supports_moe_grouped and prepare_grouped_gemm.
cudaError_t launch_moe_grouped(const MoeGroupedArgs& args, const GroupedGemmConfig& config,
                               void* workspace, cudaStream_t stream);

}  // namespace moxie::hopper
