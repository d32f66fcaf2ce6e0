// One MXFP4 linear for any number of rows on Hopper: which kernel for which size.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "hopper/grouped_gemm.h"
#include "hopper/linear_stream.h"
#include "hopper/linear_wgmma.h"

namespace moxie::hopper {

struct LinearConfig {
  enum class Kernel : uint8_t { kStream, kWgmma, kGrouped };
  Kernel kernel = Kernel::kStream;
  LinearStreamConfig stream;  // of kStream
  LinearWgmmaConfig wgmma;    // of kWgmma
  GroupedGemmConfig grouped;  // of kGrouped: the rows are those of one expert
};

// Whether there is a kernel: rows >= 1, n % 16 == 0, k % 32 == 0, both positive.
bool supports_mxfp4_linear(int rows, int n, int k);
// REQUIRES supports_mxfp4_linear.
LinearConfig select_mxfp4_linear_config(int rows, int n, int k, int num_sms);
std::string to_string(const LinearConfig& config);

// As LinearStreamArgs say, for any number of rows; rows of out and residual 16-byte aligned.
// `overlap_previous`: linear_stream.h. REQUIRES supports_mxfp4_linear, prepare_linear_stream,
// prepare_linear_wgmma and prepare_grouped_gemm.
cudaError_t launch_mxfp4_linear(const LinearStreamArgs& args, const LinearConfig& config,
                                bool overlap_previous, cudaStream_t stream);

}  // namespace moxie::hopper
