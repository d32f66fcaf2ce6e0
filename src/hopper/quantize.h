// bf16 to MXFP4 blocks and back on the GPU, in the checkpoint's order. Bit for bit what
// mxfp4::encode_row and decode_row do on the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/bf16.h"
#include "mxfp4/block.h"

namespace moxie::hopper {

//   values  [blocks, 32]  bf16, 16-byte aligned
//   codes   [blocks, 16]  16-byte aligned
//   scales  [blocks]
struct QuantizeArgs {
  const bf16* values = nullptr;
  uint8_t *codes = nullptr, *scales = nullptr;
  int64_t blocks = 0;
  mxfp4::ScaleRule rule = mxfp4::ScaleRule::kRoundUp;
};
cudaError_t launch_quantize(const QuantizeArgs& args, cudaStream_t stream);

struct DequantizeArgs {
  const uint8_t *codes = nullptr, *scales = nullptr;
  bf16* values = nullptr;
  int64_t blocks = 0;
};
cudaError_t launch_dequantize(const DequantizeArgs& args, cudaStream_t stream);

}  // namespace moxie::hopper
