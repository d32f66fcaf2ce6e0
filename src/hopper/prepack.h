// Moves MXFP4 matrices on the GPU between the checkpoint's order and that of
// mxfp4/weight_layout.h, in place. Bit for bit what mxfp4::prepack and unpack do on the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace moxie::hopper {

enum class PrepackDirection : uint8_t { kPrepack, kUnpack };

//   codes   [matrices, n, k / 2]   bytes, 16-byte aligned
//   scales  [matrices, n, k / 32]  bytes, 16-byte aligned
struct PrepackArgs {
  PrepackDirection direction = PrepackDirection::kPrepack;
  uint8_t *codes = nullptr, *scales = nullptr;
  int64_t matrices = 0, n = 0, k = 0;
};

// Whether 16 rows fit into a CTA's shared memory, and the shape has the layout at all.
bool supports_prepack(int64_t n, int64_t k);
// REQUIRES supports_prepack. Enqueues on `stream`; nothing else is taken.
cudaError_t launch_prepack(const PrepackArgs& args, cudaStream_t stream);

}  // namespace moxie::hopper
